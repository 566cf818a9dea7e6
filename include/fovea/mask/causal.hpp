// fovea/mask/causal.hpp - a query sees the keys up to its own position.
#pragma once

#include <fovea/mask/concept.hpp>

FOVEA_NAMESPACE_BEGIN

/// Key k is visible to query q where k - q <= last: what is on or below a diagonal. `last` is within
/// -queries and keys, so that nothing overflows: not k - q, nor what cover and reach add.
struct below_diagonal {
  index_type last;

  auto visible(const auto& q, const auto& k) const noexcept {
    return k - q <= std::remove_cvref_t<decltype(q)>(static_cast<int>(last));
  }
  coverage cover(range rows, range keys) const noexcept {
    if (keys.last - 1 <= rows.first + last) return coverage::full;
    return keys.first > rows.last - 1 + last ? coverage::none : coverage::partial;
  }
  range reach(range rows) const noexcept { return {0, rows.last + last}; }
};

/// Key k is visible to query q where k <= q + n: the diagonal moved n keys to the right. Any n will do: from
/// n = Lk - 1 on all keys are visible, up to n = -Lq none.
struct causal_offset {
  using is_mask = void;
  index_type n = 0;

  named_diagonal diagonal(const place&) const noexcept { return {"causal_offset", n}; }
  below_diagonal bind(const place& at) const noexcept { return {at.nearest_difference(n)}; }
};

/// k <= q: the first query stands at the first key.
struct causal_top_left_mask {
  using is_mask = void;
  named_diagonal diagonal(const place&) const noexcept { return {"causal_top_left", 0}; }
  below_diagonal bind(const place&) const noexcept { return {0}; }
};

/// k <= q + Lk - Lq: the last query stands at the last key.
struct causal_bottom_right_mask {
  using is_mask = void;
  named_diagonal diagonal(const place& at) const noexcept {
    return {"causal_bottom_right", at.keys - at.queries};
  }
  below_diagonal bind(const place& at) const noexcept { return {at.keys - at.queries}; }
};

/// k <= q, where as many keys as queries leave no doubt what that means, or a cache says where the queries
/// stand: they are its last tokens.
struct causal_mask {
  using is_mask = void;
  void check(const place& at) const {
    at.check_first_query("causal",
                         "; say causal_top_left (k <= q) or causal_bottom_right (k <= q + Lk - Lq), or "
                         "causal_offset{n}");
  }
  named_diagonal diagonal(const place& at) const noexcept { return {"causal", at.first_query()}; }
  below_diagonal bind(const place& at) const noexcept { return {at.first_query()}; }
};

inline constexpr causal_mask causal;
inline constexpr causal_top_left_mask causal_top_left;
inline constexpr causal_bottom_right_mask causal_bottom_right;

FOVEA_NAMESPACE_END
