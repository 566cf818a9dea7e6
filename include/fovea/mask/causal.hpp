// fovea/mask/causal.hpp - a query sees the keys up to its own position.
#pragma once

#include <fovea/mask/concept.hpp>

FOVEA_NAMESPACE_BEGIN

/// Key k is visible to query q where k <= q + n: the diagonal moved n keys to the right.
struct causal_offset {
  index_type n = 0;

  FOVEA_INLINE auto visible(const auto& q, const auto& k) const noexcept {
    return k <= q + static_cast<std::remove_cvref_t<decltype(q)>>(static_cast<int>(n));
  }
  FOVEA_INLINE coverage cover(range rows, range keys) const noexcept {
    if (keys.last - 1 <= rows.first + n) return coverage::full;
    return keys.first > rows.last - 1 + n ? coverage::none : coverage::partial;
  }
  FOVEA_INLINE range reach(range rows) const noexcept { return {0, rows.last + n}; }
};

/// k <= q: the first query stands at the first key.
struct causal_top_left_mask {
  using is_mask = void;
  FOVEA_INLINE causal_offset bind(const place&) const noexcept { return {0}; }
};

/// k <= q + Lk - Lq: the last query stands at the last key.
struct causal_bottom_right_mask {
  using is_mask = void;
  FOVEA_INLINE causal_offset bind(const place& at) const noexcept { return {at.keys - at.queries}; }
};

/// k <= q, where as many keys as queries leave no doubt what that means, or a cache says where the queries
/// stand: they are its last tokens.
struct causal_mask {
  using is_mask = void;
  FOVEA_INLINE void check(const place& at) const {
    if (at.in_cache && at.queries > at.keys)
      reject("causal: q has ", at.queries, " tokens, more than the ", at.keys, " in the cache");
    if (!at.in_cache && at.queries != at.keys)
      reject("causal needs as many queries as keys, not ", at.queries, " queries and ", at.keys,
             " keys; say causal_top_left (k <= q) or causal_bottom_right (k <= q + Lk - Lq), or "
             "causal_offset{n}");
  }
  FOVEA_INLINE causal_offset bind(const place& at) const noexcept { return {at.first_query()}; }
};

inline constexpr causal_mask causal;
inline constexpr causal_top_left_mask causal_top_left;
inline constexpr causal_bottom_right_mask causal_bottom_right;

FOVEA_NAMESPACE_END
