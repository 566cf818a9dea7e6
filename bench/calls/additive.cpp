// bench/calls/additive.cpp - a workload becomes one call of fovea::additive.
#include "../fovea_call.hpp"

#include <fovea/additive.hpp>

namespace bench {

call additive_call(const workload& w) {
  call timed;
  const auto x = std::make_shared<operands<float, float>>(w);
  with_plain_mask(w, [&](auto... masks) {
    const auto q = fovea::bhsd(std::as_const(x->q).data(), w.batch, w.heads, w.queries, w.dim);
    const auto k = fovea::bhsd(std::as_const(x->k).data(), w.batch, w.kv_heads, w.keys, w.dim);
    const auto v = fovea::bhsd(std::as_const(x->v).data(), w.batch, w.kv_heads, w.keys, w.value_dim);
    const auto o = fovea::bhsd(x->o.data(), w.batch, w.heads, w.queries, w.value_dim);
    fovea::additive<float> attend({.hidden = w.hidden,
                                   .query_dim = w.dim,
                                   .heads = w.heads,
                                   .kv_heads = w.kv_heads,
                                   .executor = x->executor()});
    attend.w_q.setRandom(), attend.w_k.setRandom(), attend.v.setRandom();
    attend.w_q *= 0.2f, attend.w_k *= 0.2f;  // projections of variance 1
    timed.run = [x, attend, q, k, v, o, masks...] { attend.into(o, q, k, v, masks...); };
  });
  return timed;
}

}  // namespace bench
