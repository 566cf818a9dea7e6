// fovea/mask/complement.hpp - what a mask hides.
#pragma once

#include <fovea/mask/concept.hpp>

#include <limits>

FOVEA_NAMESPACE_BEGIN

/// The complement of one head's mask, which is asked about keys within its reach alone: what lies outside is
/// visible.
template <class Mask>
struct complement_cells {
  using reads_cells = void;
  static constexpr int matrices = matrices_of<Mask>;
  static constexpr bool unsure = is_unsure<Mask>;
  Mask mask;
  index_type keys;

  auto staged(auto& block) const noexcept {
    return complement_cells<decltype(staged_of<Mask>(mask, block))>{staged_of<Mask>(mask, block), keys};
  }
  void each_matrix(const auto& f) const noexcept { each_matrix_of(mask, f); }
  auto visible(const auto& cells) const noexcept { return !cells.truth(visible_at(mask, cells)); }

  coverage cover(range rows, range block) const noexcept {
    const range reached = intersect(block, reach_of(mask, rows, std::numeric_limits<index_type>::max()));
    if (reached.empty()) return coverage::full;
    const coverage hidden = cover_of(mask, rows, reached);
    if (hidden == coverage::none) return coverage::full;
    return hidden == coverage::full && reached == block ? coverage::none : coverage::partial;
  }
  /// Up to the mask's edges: parts that it shows whole are jumped over.
  index_type next(range rows, index_type key) const noexcept
    requires tells_edges<Mask>
  {
    while (key < keys) {
      const range part{key, std::clamp(mask.key_edge(key), key + 1, keys)};
      if (cover(rows, part) != coverage::none) break;
      key = part.last;
    }
    return key;
  }
  /// What the mask shows whole at the ends of a block is left out, by a few keys at a time. (Not where
  /// telling reads a matrix.)
  range shown(range rows, range block) const noexcept
    requires(!unsure && matrices == 0)
  {
    constexpr index_type few = 16;
    const auto hides = [&](range part) { return cover(rows, part) == coverage::none; };
    while (block.size() > few && hides({block.first, block.first + few})) block.first += few;
    while (block.size() > few && hides({block.last - few, block.last})) block.last -= few;
    return !block.empty() && hides(block) ? range{block.first, block.first} : block;
  }
  index_type row_edge(index_type row) const noexcept
    requires tells_edges<Mask>
  {
    return mask.row_edge(row);
  }
  index_type key_edge(index_type key) const noexcept
    requires tells_edges<Mask>
  {
    return mask.key_edge(key);
  }
  bool has_edges() const noexcept { return fovea::has_edges(mask); }
};

/// Visible is what the mask hides: !m. (A key_padding_mask that is true where keys are padding is
/// !boolean_mask(padding).) Blocks of keys that the mask shows whole are not computed. A causal mask inside
/// names its diagonal to windows of the call as it does outside.
template <class Mask>
struct mask_complement {
  using is_mask = void;
  Mask mask;

  void each_mask(const auto& f) const noexcept { f(mask); }
  void check(const place& at) const { check_at(mask, at); }
  void each_operand(const auto& f) const { each_operand_of(mask, f); }
  auto bind(const place& at) const noexcept {
    return complement_cells<decltype(bind_to(mask, at))>{bind_to(mask, at), at.keys};
  }
};

template <class Mask>
mask_complement(Mask) -> mask_complement<Mask>;

template <mask_like Mask>
auto operator!(Mask&& mask) {
  return mask_complement<std::remove_cvref_t<Mask>>{std::forward<Mask>(mask)};
}

FOVEA_NAMESPACE_END
