// fovea/projected/calls.hpp - the calls of attentions that go on with other queries and keys, made of q and k
// once a call by parameters of their own: additive, Luong's, by cosine.
#pragma once

#include <fovea/attention.hpp>

FOVEA_NAMESPACE_BEGIN

/// Options with the numbers of heads that a type fixes; kv_heads of 0 means heads.
template <int Heads, int KVHeads, class Options>
Options with_heads(Options o) {
  if (Heads != dynamic_heads) o.heads = Heads;
  if (KVHeads != dynamic_heads) o.kv_heads = KVHeads;
  if (o.kv_heads == 0) o.kv_heads = o.heads;
  return o;
}

inline void check_at_least_one(const char* of, const char* what, index_type is) {
  if (is < 1) reject(of, "'s ", what, " is ", is, ", below 1");
}

/// Whether there are heads, and key/value heads that they share evenly.
template <class Options>
void check_numbers_of_heads(const char* of, const Options& o) {
  check_at_least_one(of, "heads", o.heads), check_at_least_one(of, "kv_heads", o.kv_heads);
  check_shared(o.heads, o.kv_heads);
}

/// Of Own: options() with heads and kv_heads, and called(q, k, f), which calls f(who attends, its queries and
/// keys, and what it adds to the modifiers...), both like q and k. `mods`: masks, scores, at most one sink
/// and one dropout.
template <class Own, class T>
class projected_calls {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>,
                "fovea: layers with weights compute in float or double");

 public:
  /// O, of the kind and storage order of q.
  template <class Q, class K, class V, class... Mods>
    requires(!key_value_cache<K>)
  auto operator()(const Q& q, const K& k, const V& v, const Mods&... mods) const {
    auto out = result_for(q, v);
    into(shaped_like(q, out), q, k, v, mods...);
    return out;
  }
  /// Writes O into `o`, which has its size and any element.
  template <class O, class Q, class K, class V, class... Mods>
  void into(O&& o, const Q& q, const K& k, const V& v, const Mods&... mods) const {
    own().called(q, k, [&](const auto& attend, const auto& x_q, const auto& x_k, const auto&... added) {
      attend.into(o, x_q, x_k, v, added..., mods...);
    });
  }

  /// {O, LSE}, as attention gives them.
  template <class Q, class K, class V, class... Mods>
  auto with_lse(const Q& q, const K& k, const V& v, const Mods&... mods) const {
    auto out = result_for(q, v);
    auto lse = make_like<T>(q, own().options().heads, 1);
    with_lse_into(shaped_like(q, out), shaped_like(q, lse), q, k, v, mods...);
    return partial<decltype(out), decltype(lse)>{std::move(out), std::move(lse)};
  }
  template <class O, class L, class Q, class K, class V, class... Mods>
  void with_lse_into(O&& o, L&& lse, const Q& q, const K& k, const V& v, const Mods&... mods) const {
    own().called(q, k, [&](const auto& attend, const auto& x_q, const auto& x_k, const auto&... added) {
      attend.with_lse_into(o, lse, x_q, x_k, v, added..., mods...);
    });
  }

  /// The probabilities, batch x heads x Lq x Lk, for looking at.
  template <class Q, class K, class... Mods>
  tensor<T> weights(const Q& q, const K& k, const Mods&... mods) const {
    tensor<T> p;
    own().called(q, k, [&](const auto& attend, const auto& x_q, const auto& x_k, const auto&... added) {
      p = attend.weights(x_q, x_k, added..., mods...);
    });
    return p;
  }

 protected:
  template <class Q, class V>
  auto result_for(const Q& q, const V& v) const {
    const auto& o = own().options();
    return make_like<T>(q, o.heads, view_of(v, o.kv_heads, "v").dim());
  }

 private:
  const Own& own() const noexcept { return static_cast<const Own&>(*this); }
};

FOVEA_NAMESPACE_END
