// fovea/mask/sliding_window.hpp - a query sees its neighbourhood only.
#pragma once

#include <fovea/mask/concept.hpp>

FOVEA_NAMESPACE_BEGIN

/// Key k is visible to query q where q + offset - left <= k <= q + offset + right; -1 leaves a side open. A
/// window counts extra keys: `.left = w, .right = 0` shows w + 1. (Longformer, arXiv:2004.05150; Mistral,
/// arXiv:2310.06825.) `causal & sliding_window{.left = w}` is the window of a decoder. With fewer queries
/// than keys, `.offset = Lk - Lq` puts the last query at the last key, as causal_bottom_right does; where the
/// keys are a cache's, they stand so already.
struct sliding_window {
  index_type left = -1, right = -1, offset = 0;

  FOVEA_INLINE void check(const place&) const {
    if (left < -1) reject("sliding_window's left is ", left, ", below -1 (open)");
    if (right < -1) reject("sliding_window's right is ", right, ", below -1 (open)");
  }
  FOVEA_INLINE sliding_window bind(const place& at) const noexcept {
    return {left, right, offset + at.first_query()};
  }
  FOVEA_INLINE auto visible(const auto& q, const auto& k) const noexcept {
    using position = std::remove_cvref_t<decltype(q)>;
    const position far = position(far_away), at = q + position(static_cast<int>(offset));
    const position first = left < 0 ? position(-far_away) : at - position(static_cast<int>(left));
    const position last = right < 0 ? far : at + position(static_cast<int>(right));
    return (k >= first) & (k <= last);
  }
  FOVEA_INLINE coverage cover(range rows, range keys) const noexcept {
    const range every = seen_by(rows.last - 1, rows.first), any = seen_by(rows.first, rows.last - 1);
    if (keys.first >= every.first && keys.last <= every.last) return coverage::full;
    return intersect(keys, any).empty() ? coverage::none : coverage::partial;
  }
  FOVEA_INLINE range reach(range rows) const noexcept { return seen_by(rows.first, rows.last - 1); }

 private:
  static constexpr int far_away = 1 << 30;
  // The keys from the window's left end at query `left_of` to its right end at query `right_of`.
  FOVEA_INLINE range seen_by(index_type left_of, index_type right_of) const noexcept {
    return {left < 0 ? -far_away : left_of + offset - left,
            right < 0 ? far_away : right_of + offset + right + 1};
  }
};

FOVEA_NAMESPACE_END
