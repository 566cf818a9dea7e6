// fovea/mask/prefix.hpp - prefix language models: all see the prefix, the rest is causal.
#pragma once

#include <fovea/mask/lengths.hpp>

FOVEA_NAMESPACE_BEGIN

/// Key k is visible to query q where k < length or k - q <= last. `last` is within -queries and keys.
struct prefix_cells {
  index_type length, last;

  auto visible(const auto& q, const auto& k) const noexcept {
    using position = std::remove_cvref_t<decltype(q)>;
    return (k < position(static_cast<int>(length))) | (k - q <= position(static_cast<int>(last)));
  }
  coverage cover(range rows, range keys) const noexcept {
    if (keys.last <= std::max(length, rows.first + last + 1)) return coverage::full;
    return keys.first >= std::max(length, rows.last + last) ? coverage::none : coverage::partial;
  }
  range reach(range rows) const noexcept { return {0, std::max(length, rows.last + last)}; }
};

/// Key k is visible to query q where k < lengths[b] or k <= q + offset: the first lengths[b] tokens of
/// sequence b see each other, those that follow see them and what came before. (Prefix LM: Raffel et al.,
/// arXiv:1910.10683, section 3.2.1; images in front of text: PaliGemma, arXiv:2407.07726.) One length a batch
/// entry, of any type of integer, in a named vector, array, span or Eigen vector: read during the call, not
/// copied. The offset is where the first query stands among the keys; without one the call has as many
/// queries as keys, or a cache whose last tokens they are: else std::invalid_argument.
struct prefix {
  using is_mask = void;
  list_view<index_type> lengths;
  offset_if_given offset = {};

  void check(const place& at) const {
    key_lengths::check_lengths(lengths, at, "prefix");
    if (!offset.has_value())
      at.check_first_query("prefix", "; say .offset = n (the first query stands at key n)");
  }
  void each_operand(const auto& f) const { f("prefix", lengths); }
  named_diagonal diagonal(const place& at) const noexcept { return {"prefix", first_query(at)}; }
  prefix_cells bind(const place& at) const noexcept {
    return {lengths[at.batch], at.nearest_difference(first_query(at))};
  }

 private:
  index_type first_query(const place& at) const noexcept {
    return offset.has_value() ? index_type(offset) : at.first_query();
  }
};

FOVEA_NAMESPACE_END
