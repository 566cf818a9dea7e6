// bench/calls/linear.cpp - a workload becomes one call of fovea::linear_attention, or of its gradient, with a state; or
// of fovea::feature_attention.
#include "../fovea_call.hpp"

#include <fovea/feature_attention.hpp>
#include <fovea/linear_attention.hpp>

#include <algorithm>

namespace bench {
namespace {

/// Numbers that begin at a line of cache, as those of a framework, of Eigen with AVX-512 and of fovea::tensor
/// do. std::vector's do not where they are many: each register is then read from two lines, and forward takes
/// 2 to 12 % more time, decode of delta rules 35 %.
struct numbers {
  explicit numbers(index_type count = 0, std::uint32_t seed = 0) : all(1, 1, 1, count) {
    if (seed != 0) std::ranges::copy(normal_numbers<float>(count, seed), begin());
  }
  float* data() { return all.data(); }
  float* begin() { return all.data(); }
  float* end() { return all.data() + all.size(); }
  index_type size() const { return all.size(); }
  fovea::tensor<float> all;
};

struct linear_operands {
  explicit linear_operands(const workload& w)
      : q(w.batch * w.heads * w.queries * w.dim, 1),
        k(w.batch * w.kv_heads * w.keys * w.dim, 2),
        v(w.batch * w.kv_heads * w.keys * w.value_dim, 3),
        o(w.batch * w.heads * w.queries * w.value_dim),
        decay(w.batch * w.kv_heads * w.queries * (decays_channels(w.rule) ? w.dim : 1), 4),
        beta(w.batch * w.kv_heads * w.queries, 5),
        state(w.batch * w.kv_heads * w.dim * w.value_dim) {
    if (w.threads > 1) pool.emplace(w.threads);
    for (float& x : k) x /= std::sqrt(static_cast<float>(w.dim));  // of length 1, about
    for (float& x : decay) x = -0.05f * std::abs(x);
    for (float& x : beta) x = 1 / (1 + std::exp(-x));
    if (w.op != operation::linear_backward) return;
    d_q = numbers(q.size()), d_k = numbers(k.size()), d_v = numbers(v.size()),
    d_state = numbers(state.size());
    d_decay = numbers(decay.size()), d_beta = numbers(beta.size());
  }
  fovea::executor_ref executor() { return pool ? fovea::executor_ref(*pool) : fovea::executor_ref{}; }

  numbers q, k, v, o, decay, beta, state, d_q, d_k, d_v, d_decay, d_beta, d_state;
  std::optional<fovea::threads> pool;
  std::vector<std::byte> workspace;
};

/// All gradients; o is the gradient by O.
call linear_gradient_call(const workload& w) {
  call timed;
  const auto x = std::make_shared<linear_operands>(w);
  const auto of_keys = [&](auto& data, index_type dim) {
    return fovea::bhsd(data.data(), w.batch, w.kv_heads, w.queries, dim);
  };
  const auto of_queries = [&](auto& data, index_type dim) {
    return fovea::bhsd(data.data(), w.batch, w.heads, w.queries, dim);
  };
  const auto of_states = [&](auto& data) {
    return fovea::bhsd(data.data(), w.batch, w.kv_heads, w.dim, w.value_dim);
  };
  const index_type decays = decays_channels(w.rule) ? w.dim : 1;
  const auto q = of_queries(x->q, w.dim), d_q = of_queries(x->d_q, w.dim);
  const auto d_o = of_queries(x->o, w.value_dim);
  const auto k = of_keys(x->k, w.dim), v = of_keys(x->v, w.value_dim);
  const auto d_k = of_keys(x->d_k, w.dim), d_v = of_keys(x->d_v, w.value_dim);
  const fovea::log_decay decay(of_keys(x->decay, decays), of_keys(x->d_decay, decays));
  const fovea::delta_rule beta(of_keys(x->beta, 1), of_keys(x->d_beta, 1));
  const fovea::linear_state state(of_states(x->state), of_states(x->d_state));
  const auto with = [&](const auto&... mods) {
    fovea::linear_attention_options options{
        .heads = w.heads, .kv_heads = w.kv_heads, .executor = x->executor()};
    timed.scratch_bytes = fovea::linear_attention<float>(options)
                              .backward_plan_for(d_q, d_k, d_v, q, k, v, d_o, mods...)
                              .workspace_bytes();
    x->workspace.resize(static_cast<std::size_t>(timed.scratch_bytes));
    options.workspace = x->workspace;
    const fovea::linear_attention<float> attend(options);
    timed.run = [=] { attend.backward_into(d_q, d_k, d_v, q, k, v, d_o, mods...); };
  };
  if (!has_beta(w.rule))
    has_decay(w.rule) ? with(state, decay) : with(state);
  else
    has_decay(w.rule) ? with(state, decay, beta) : with(state, beta);
  timed.run = [x, run = timed.run] { run(); };
  return timed;
}

}  // namespace

call linear_call(const workload& w) {
  if (w.op == operation::linear_backward) return linear_gradient_call(w);
  call timed;
  const auto x = std::make_shared<linear_operands>(w);
  const auto of_keys = [&](auto& data, index_type dim) {
    return fovea::bhsd(data.data(), w.batch, w.kv_heads, w.queries, dim);
  };
  const auto q = fovea::bhsd(x->q.data(), w.batch, w.heads, w.queries, w.dim);
  const auto o = fovea::bhsd(x->o.data(), w.batch, w.heads, w.queries, w.value_dim);
  const auto k = of_keys(x->k, w.dim), v = of_keys(x->v, w.value_dim);
  const fovea::log_decay decay(of_keys(x->decay, decays_channels(w.rule) ? w.dim : 1));
  const fovea::delta_rule beta(of_keys(x->beta, 1));
  const fovea::linear_state state(fovea::bhsd(x->state.data(), w.batch, w.kv_heads, w.dim, w.value_dim));
  const auto with = [&](const auto&... mods) {
    fovea::linear_attention_options options{
        .heads = w.heads, .kv_heads = w.kv_heads, .executor = x->executor()};
    timed.scratch_bytes =
        fovea::linear_attention<float>(options).into_plan_for(o, q, k, v, mods...).workspace_bytes();
    x->workspace.resize(static_cast<std::size_t>(timed.scratch_bytes));
    options.workspace = x->workspace;
    const fovea::linear_attention<float> attend(options);
    timed.run = [=] { attend.into(o, q, k, v, mods...); };
  };
  if (!has_beta(w.rule))
    has_decay(w.rule) ? with(state, decay) : with(state);
  else
    has_decay(w.rule) ? with(state, decay, beta) : with(state, beta);
  timed.run = [x, run = timed.run] { run(); };
  return timed;
}

call feature_call(const workload& w) {
  const auto x = std::make_shared<operands<float, float>>(w);
  const auto q = fovea::bhsd(x->q.data(), w.batch, w.heads, w.queries, w.dim);
  const auto k = fovea::bhsd(x->k.data(), w.batch, w.kv_heads, w.keys, w.dim);
  const auto v = fovea::bhsd(x->v.data(), w.batch, w.kv_heads, w.keys, w.value_dim);
  const auto o = fovea::bhsd(x->o.data(), w.batch, w.heads, w.queries, w.value_dim);
  const fovea::feature_attention<float> attend(
      {.heads = w.heads, .kv_heads = w.kv_heads, .executor = x->executor()});
  call timed;
  if (w.mask == mask::causal)
    timed.run = [x, attend, o, q, k, v] { attend.into(o, q, k, v, fovea::causal); };
  else
    timed.run = [x, attend, o, q, k, v] { attend.into(o, q, k, v); };
  return timed;
}

}  // namespace bench
