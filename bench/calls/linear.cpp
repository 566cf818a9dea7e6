// bench/calls/linear.cpp - a workload becomes one call of fovea::linear_attention, or of its gradient, with a state; or
// of fovea::feature_attention.
#include "../fovea_call.hpp"

#include <fovea/feature_attention.hpp>
#include <fovea/linear_attention.hpp>

namespace bench {
namespace {

struct linear_operands : operands<float, float> {
  explicit linear_operands(const workload& w)
      : operands(w),
        decay(normal_numbers<float>(w.batch * w.kv_heads * w.queries * (decays_channels(w.rule) ? w.dim : 1),
                                    4)),
        beta(normal_numbers<float>(w.batch * w.kv_heads * w.queries, 5)),
        state(static_cast<std::size_t>(w.batch * w.kv_heads * w.dim * w.value_dim)) {
    for (float& x : k) x /= std::sqrt(static_cast<float>(w.dim));  // of length 1, about
    for (float& x : decay) x = -0.05f * std::abs(x);
    for (float& x : beta) x = 1 / (1 + std::exp(-x));
    if (w.op != operation::linear_backward) return;
    d_q.resize(q.size()), d_k.resize(k.size()), d_v.resize(v.size()), d_state.resize(state.size());
    d_decay.resize(decay.size()), d_beta.resize(beta.size());
  }
  numbers<float> decay, beta, state, d_q, d_k, d_v, d_decay, d_beta, d_state;
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
