// fovea/mask/sliding_window.hpp - a query sees its neighbourhood only.
#pragma once

#include <fovea/mask/concept.hpp>

#include <optional>

FOVEA_NAMESPACE_BEGIN

/// Key k is visible to query q where first <= k - q <= last: what lies between two diagonals. Both are within
/// -queries and keys, so that nothing overflows.
struct diagonal_band {
  index_type first, last;

  auto visible(const auto& q, const auto& k) const noexcept {
    using position = std::remove_cvref_t<decltype(q)>;
    const position distance = k - q;
    return (distance >= position(static_cast<int>(first))) & (distance <= position(static_cast<int>(last)));
  }
  coverage cover(range rows, range keys) const noexcept {
    const index_type least = keys.first - (rows.last - 1), most = keys.last - 1 - rows.first;  // of k - q
    if (least >= first && most <= last) return coverage::full;
    return least > last || most < first ? coverage::none : coverage::partial;
  }
  range reach(range rows) const noexcept { return {rows.first + first, rows.last + last}; }
};

/// A corner of the score matrix that the diagonal of a window starts from.
enum class corner {
  top_left,     // the first query stands at the first key
  bottom_right  // the last query stands at the last key
};

/// Key k is visible to query q where q + offset - left <= k <= q + offset + right; -1 leaves a side open,
/// and so does any length beyond the matrix. A window counts extra keys: `.left = w, .right = 0` shows
/// w + 1. (Longformer, arXiv:2004.05150; Mistral, arXiv:2310.06825.) `causal & sliding_window{.left = w}`
/// is the window of a decoder.
///
/// The offset is where the first query stands among the keys:
///   n; 0; Lk - Lq       as the window says: .offset = n; .from = corner::top_left; corner::bottom_right
///   that of a mask      else as a causal mask of the call says: causal_bottom_right & sliding_window{...}
///   Lk - Lq             else with a cache: the queries are its last tokens
///   0                   else where there are as many queries as keys
/// Throws std::invalid_argument where none of these holds, where causal masks of the call have different
/// diagonals (and the window says nothing), where it has both .offset and .from, and for a side below -1.
struct sliding_window {
  using is_mask = void;
  index_type left = -1, right = -1;
  offset_if_given offset = {};
  std::optional<corner> from = {};

  void check(const place& at) const {
    if (left < -1) reject("sliding_window's left is ", left, ", below -1 (open)");
    if (right < -1) reject("sliding_window's right is ", right, ", below -1 (open)");
    if (offset.has_value() && from)
      reject("sliding_window has both an offset, ", index_type(offset), ", and a corner to start from, ",
             *from == corner::top_left ? "top_left" : "bottom_right", "; one of them is enough");
    if (offset.has_value() || from || (left < 0 && right < 0)) return;
    if (at.other.name != nullptr)
      reject("sliding_window stands beside ", at.diagonal.name, " (k <= q + ", at.diagonal.first_query,
             ") and ", at.other.name, " (k <= q + ", at.other.first_query,
             "), and could be relative to either; say .from = fovea::corner::top_left, .from = "
             "fovea::corner::bottom_right or .offset = n");
    if (at.diagonal.name == nullptr)
      at.check_first_query(
          "sliding_window",
          "; say .from = fovea::corner::top_left (the first query stands at the first key), .from = "
          "fovea::corner::bottom_right (the last at the last) or .offset = n (the first query stands at key "
          "n), or join it to a causal mask that says so: causal_top_left, causal_bottom_right, "
          "causal_offset{n}");
  }
  diagonal_band bind(const place& at) const noexcept {
    const index_type start = first_query(at);
    return {left < 0 ? -at.queries : at.nearest_difference(saturated_sum(start, -left)),
            right < 0 ? at.keys : at.nearest_difference(saturated_sum(start, right))};
  }

 private:
  index_type first_query(const place& at) const noexcept {
    if (from) return *from == corner::top_left ? 0 : at.keys - at.queries;
    return at.named_first_query(offset);
  }
};

FOVEA_NAMESPACE_END
