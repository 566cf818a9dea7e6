// bench/calls/relatives.cpp - a workload becomes one call of what is nearly plain attention: with an output
// gate, of two softmaxes (Hq and Hkv heads of q and k: half as many of O and V, twice as wide), of sigmoids,
// with vectors of distances, of heads that talk, by cosine, by Luong's general score, with one head's weights kept.
#include "../fovea_call.hpp"

#include <fovea/cosine.hpp>
#include <fovea/differential.hpp>
#include <fovea/luong.hpp>
#include <fovea/sigmoid_attention.hpp>
#include <fovea/talking_heads.hpp>
#include <fovea/transformer_xl.hpp>
#include <fovea/weights_into.hpp>

namespace bench {
namespace {

/// attend.into; `pair`: of so many heads of q one is of O.
template <class Attend>
call call_of(const workload& w, const std::shared_ptr<operands<float, float>>& x, const Attend& attend,
             index_type pair = 1) {
  call timed;
  const auto q = fovea::bhsd(std::as_const(x->q).data(), w.batch, w.heads, w.queries, w.dim);
  const auto k = fovea::bhsd(std::as_const(x->k).data(), w.batch, w.kv_heads, w.keys, w.dim);
  const auto v =
      fovea::bhsd(std::as_const(x->v).data(), w.batch, w.kv_heads / pair, w.keys, pair * w.value_dim);
  const auto o = fovea::bhsd(x->o.data(), w.batch, w.heads / pair, w.queries, pair * w.value_dim);
  with_plain_mask(w, [&](auto... masks) {
    timed.run = [x, attend, q, k, v, o, masks...] { attend.into(o, q, k, v, masks...); };
  });
  return timed;
}

/// Attention with gates of its own.
struct gated {
  fovea::attention<float> attend;
  std::shared_ptr<const numbers<float>> gates;
  template <class O, class... Rest>
  void into(const O& o, const Rest&... rest) const {
    attend.into(o, rest..., fovea::gate(fovea::bhsd(gates->data(), o.batch, o.heads, o.tokens, o.dim)));
  }
};

/// Attention whose first head is looked at.
struct looking {
  fovea::attention<float> attend;
  std::shared_ptr<numbers<float>> weights;
  template <class O, class Q, class K, class... Rest>
  void into(const O& o, const Q& q, const K& k, const Rest&... rest) const {
    const auto kept = fovea::bhsd(weights->data(), q.batch, 1, q.tokens, k.tokens);
    attend.into(o, q, k, rest..., fovea::weights_into(kept, 0));
  }
};

}  // namespace

call gate_call(const workload& w) {
  const auto x = std::make_shared<operands<float, float>>(w);
  const auto gates =
      std::make_shared<const numbers<float>>(normal_numbers<float>(static_cast<index_type>(x->o.size()), 5));
  const fovea::attention<float> attend({.heads = w.heads, .kv_heads = w.kv_heads, .executor = x->executor()});
  return call_of(w, x, gated{attend, gates});
}

call differential_call(const workload& w) {
  const auto x = std::make_shared<operands<float, float>>(w);
  fovea::differential<float> attend(
      {.dim = w.dim, .heads = w.heads / 2, .kv_heads = w.kv_heads / 2, .executor = x->executor()});
  return call_of(w, x, attend, 2);
}

call sigmoid_call(const workload& w) {
  const auto x = std::make_shared<operands<float, float>>(w);
  const fovea::sigmoid_attention<float> attend({.bias = -std::log(double(w.keys)),
                                                .heads = w.heads,
                                                .kv_heads = w.kv_heads,
                                                .executor = x->executor()});
  return call_of(w, x, attend);
}

/// The queries stand at the last keys.
call transformer_xl_call(const workload& w) {
  const auto x = std::make_shared<operands<float, float>>(w);
  const index_type reach = std::max(w.queries, w.keys) - 1;
  fovea::transformer_xl<float> attend({.dim = w.dim,
                                       .reach = reach,
                                       .heads = w.heads,
                                       .kv_heads = w.kv_heads,
                                       .offset = std::max<index_type>(w.keys - w.queries, 0),
                                       .executor = x->executor()});
  attend.u.setRandom(), attend.v.setRandom(), attend.r.setRandom();
  return call_of(w, x, attend);
}

call talking_heads_call(const workload& w) {
  const auto x = std::make_shared<operands<float, float>>(w);
  fovea::talking_heads<float> attend({.heads = w.heads, .kv_heads = w.kv_heads, .executor = x->executor()});
  attend.p_l.setRandom(), attend.p_w.setRandom();
  return call_of(w, x, attend);
}

call cosine_call(const workload& w) {
  const auto x = std::make_shared<operands<float, float>>(w);
  const fovea::cosine<float> attend({.heads = w.heads, .kv_heads = w.kv_heads, .executor = x->executor()});
  return call_of(w, x, attend);
}

call luong_call(const workload& w) {
  const auto x = std::make_shared<operands<float, float>>(w);
  fovea::luong<float, fovea::luong_score::general> attend(
      {.query_dim = w.dim, .heads = w.heads, .kv_heads = w.kv_heads, .executor = x->executor()});
  attend.w_a.setRandom();
  return call_of(w, x, attend);
}

call weights_into_call(const workload& w) {
  const auto x = std::make_shared<operands<float, float>>(w);
  const auto weights =
      std::make_shared<numbers<float>>(static_cast<std::size_t>(w.batch * w.queries * w.keys));
  const fovea::attention<float> attend({.heads = w.heads, .kv_heads = w.kv_heads, .executor = x->executor()});
  return call_of(w, x, looking{attend, weights});
}

}  // namespace bench
