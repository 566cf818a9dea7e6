// bench/calls/decomposed.cpp - a workload becomes one call of fovea::decomposed, of a square grid.
#include "../fovea_call.hpp"

#include <fovea/decomposed.hpp>

namespace bench {

call decomposed_call(const workload& w) {
  call timed;
  const auto x = std::make_shared<operands<float, float>>(w);
  const auto q = fovea::bhsd(std::as_const(x->q).data(), w.batch, w.heads, w.queries, w.dim);
  const auto k = fovea::bhsd(std::as_const(x->k).data(), w.batch, w.kv_heads, w.keys, w.dim);
  const auto v = fovea::bhsd(std::as_const(x->v).data(), w.batch, w.kv_heads, w.keys, w.value_dim);
  const auto o = fovea::bhsd(x->o.data(), w.batch, w.heads, w.queries, w.value_dim);
  fovea::decomposed<float> attend({.height = side_of_picture(w),
                                   .width = side_of_picture(w),
                                   .dim = w.dim,
                                   .heads = w.heads,
                                   .kv_heads = w.kv_heads,
                                   .executor = x->executor()});
  attend.r_h.setRandom(), attend.r_w.setRandom();
  timed.run = [x, attend, q, k, v, o] { attend.into(o, q, k, v); };
  return timed;
}

}  // namespace bench
