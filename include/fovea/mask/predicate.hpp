// fovea/mask/predicate.hpp - any function of the positions as a mask.
#pragma once

#include <fovea/mask/concept.hpp>

FOVEA_NAMESPACE_BEGIN

/// Key k is visible to query q where f(q, k) is true, or f(b, h, q, k) for query head h of sequence b, which
/// are two index_type. f is written once for integers q, k and for SIMD batches of integers: use &, | and !
/// (not &&, ||), and comparisons.
///
/// q counts the query rows of the call from 0 (with a cache, too), k the keys: f is asked about 0 <= q <
/// Lq and 0 <= k < Lk alone, in lanes that lie beyond as well, so that a table of Lq or Lk entries can be
/// read at q or k. f is called through a const reference to the one that the mask holds and never copied
/// during a call, by several threads at once where the executor has them. It must not throw: that ends the
/// program (std::terminate).
template <class F>
struct predicate_mask {
  F f;
  auto visible(const auto& q, const auto& k) const noexcept { return f(q, k); }
};

/// A function of heads, at one of them: it is referred to.
template <class F>
struct predicate_at {
  const F* f;
  index_type batch, head;
  auto visible(const auto& q, const auto& k) const noexcept { return (*f)(batch, head, q, k); }
};

/// A predicate_mask of (b, h, q, k).
template <class F>
struct predicate_of_heads {
  using is_mask = void;
  F f;
  predicate_at<F> bind(const place& at) const noexcept { return {&f, at.batch, at.head}; }
};

template <class F>
  requires requires(const F& f, index_type i) {
    { f(i, i) } -> std::convertible_to<bool>;
  }
predicate_mask<F> mask(F f) {
  return {std::move(f)};
}

template <class F>
  requires requires(const F& f, index_type i) {
    { f(i, i, i, i) } -> std::convertible_to<bool>;
  }
predicate_of_heads<F> mask(F f) {
  return {std::move(f)};
}

FOVEA_NAMESPACE_END
