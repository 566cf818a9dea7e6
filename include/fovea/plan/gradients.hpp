// fovea/plan/gradients.hpp - what a backward call returns.
#pragma once

#include <fovea/plan/operands.hpp>

FOVEA_NAMESPACE_BEGIN

/// What backward returns.
template <class DQ, class DK, class DV>
struct gradients {
  DQ d_q;
  DK d_k;
  DV d_v;
};

/// {d_q, d_k, d_v} of the kinds, sizes and elements of q, k and v, to be written.
template <class Q, class K, class V>
auto gradients_like(const Q& q, const K& k, const V& v, index_type heads, index_type kv_heads) {
  auto d_q = make_like<element_of<Q>>(q, heads, view_of(q, heads, "q").dim());
  auto d_k = make_like<element_of<K>>(k, kv_heads, view_of(k, kv_heads, "k").dim());
  auto d_v = make_like<element_of<V>>(v, kv_heads, view_of(v, kv_heads, "v").dim());
  return gradients<decltype(d_q), decltype(d_k), decltype(d_v)>{std::move(d_q), std::move(d_k),
                                                                std::move(d_v)};
}

FOVEA_NAMESPACE_END
