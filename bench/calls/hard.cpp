// bench/calls/hard.cpp - a workload becomes one call of fovea::hard.
#include "../fovea_call.hpp"

#include <fovea/hard.hpp>

namespace bench {

call hard_call(const workload& w) {
  call timed;
  const auto x = std::make_shared<operands<float, float>>(w);
  with_plain_mask(w, [&](auto... masks) {
    const auto q = fovea::bhsd(std::as_const(x->q).data(), w.batch, w.heads, w.queries, w.dim);
    const auto k = fovea::bhsd(std::as_const(x->k).data(), w.batch, w.kv_heads, w.keys, w.dim);
    const auto v = fovea::bhsd(std::as_const(x->v).data(), w.batch, w.kv_heads, w.keys, w.value_dim);
    const auto o = fovea::bhsd(x->o.data(), w.batch, w.heads, w.queries, w.value_dim);
    const fovea::hard<float> look({.heads = w.heads, .kv_heads = w.kv_heads, .executor = x->executor()});
    const auto with = [&](auto choice) {
      timed.run = [x, look, q, k, v, o, choice, masks...] { look.into(o, q, k, v, choice, masks...); };
    };
    w.op == operation::hard ? with(fovea::argmax{}) : with(fovea::sampled{.seed = 1});
  });
  return timed;
}

}  // namespace bench
