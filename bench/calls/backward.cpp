// bench/calls/backward.cpp - a workload becomes one backward call of fovea::attention.
#include "../fovea_call.hpp"

namespace bench {
namespace {

struct gradient_operands : operands<float, float> {
  explicit gradient_operands(const workload& w)
      : operands(w),
        d_out(normal_numbers<float>(static_cast<index_type>(o.size()), 4)),
        lse(static_cast<std::size_t>(w.batch * w.heads * w.queries)),
        d_q(q.size()),
        d_k(k.size()),
        d_v(v.size()),
        tables(w) {}
  numbers<float> d_out, lse, d_q, d_k, d_v;
  mask_tables tables;
};

}  // namespace

call backward_call(const workload& w) {
  call timed;
  const auto x = std::make_shared<gradient_operands>(w);
  with_mask(w, x->tables, [&](auto... masks) {
    const auto of_queries = [&](auto& data, index_type dim) {
      return fovea::bhsd(data.data(), w.batch, w.heads, w.queries, dim);
    };
    const auto of_keys = [&](auto& data, index_type dim) {
      return fovea::bhsd(data.data(), w.batch, w.kv_heads, w.keys, dim);
    };
    const auto q = of_queries(x->q, w.dim), out = of_queries(x->o, w.value_dim), lse = of_queries(x->lse, 1);
    const auto k = of_keys(x->k, w.dim), v = of_keys(x->v, w.value_dim);
    const auto d_out = of_queries(x->d_out, w.value_dim), d_q = of_queries(x->d_q, w.dim);
    const auto d_k = of_keys(x->d_k, w.dim), d_v = of_keys(x->d_v, w.value_dim);
    fovea::attention_options options{.heads = w.heads, .kv_heads = w.kv_heads, .executor = x->executor()};
    const fovea::attention<float> planned(options);
    planned.with_lse_into(out, lse, q, k, v, masks...);
    timed.scratch_bytes =
        planned.backward_plan_for(d_q, d_k, d_v, q, k, v, out, lse, d_out, masks...).workspace_bytes();
    x->workspace.resize(static_cast<std::size_t>(timed.scratch_bytes));
    options.workspace = x->workspace;
    const fovea::attention<float> attend(options);
    timed.run = [x, attend, q, k, v, out, lse, d_out, d_q, d_k, d_v, masks...] {
      attend.backward_into(d_q, d_k, d_v, q, k, v, out, lse, d_out, masks...);
    };
  });
  return timed;
}

}  // namespace bench
