// fovea/mask/predicate.hpp - any function of the positions as a mask.
#pragma once

#include <fovea/mask/concept.hpp>

FOVEA_NAMESPACE_BEGIN

/// Key k is visible to query q where f(q, k) is true. f is written once for integers and for SIMD batches of
/// integers: use &, | and ! (not &&, ||), and comparisons.
template <class F>
struct predicate_mask {
  F f;
  FOVEA_INLINE auto visible(const auto& q, const auto& k) const noexcept { return f(q, k); }
};

template <class F>
  requires requires(const F& f, index_type i) {
    { f(i, i) } -> std::convertible_to<bool>;
  }
FOVEA_INLINE predicate_mask<F> mask(F f) noexcept {
  return {f};
}

FOVEA_NAMESPACE_END
