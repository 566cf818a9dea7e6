// fovea/mask/division.hpp - positions divided as numbers: registers have no division of integers.
#pragma once

#include <fovea/mask/concept.hpp>

#include <cmath>

FOVEA_NAMESPACE_BEGIN

/// What is divided, and what it is divided by, is below this: a half is then a distance from the next whole
/// number that no rounding bridges.
inline constexpr index_type most_divided = index_type(1) << 22;

/// A whole number as a number of V, a lane or all of them; below most_divided it is exact.
template <class V>
V whole(index_type n) noexcept {
  return V(static_cast<float>(n));
}
/// floor(x / by), exactly, of whole numbers x.
template <class V>
V quotient(const V& x, index_type by) noexcept {
  using std::floor;
  return by == 1 ? x : floor((x + V(0.5f)) * V(1.0f / static_cast<float>(by)));
}
template <class V>
V remainder_of(const V& x, index_type by) noexcept {
  return x - whole<V>(by) * quotient(x, by);
}

/// Throws std::invalid_argument where a mask that divides would have to do so inexactly.
inline void check_divided(const char* name, const place& at) {
  if (std::max(at.queries, at.keys) >= most_divided / 2)
    reject(name, " is for fewer than ", most_divided / 2, " tokens, not ", at.queries, " queries and ",
           at.keys, " keys");
}

FOVEA_NAMESPACE_END
