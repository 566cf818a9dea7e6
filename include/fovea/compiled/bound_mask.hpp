// fovea/compiled/bound_mask.hpp - a mask of one head of a kind known at run time only, and several of them.
#pragma once

#include <fovea/kernel/rules/cells.hpp>
#include <fovea/mask/boolean.hpp>
#include <fovea/mask/causal.hpp>
#include <fovea/mask/intersection.hpp>
#include <fovea/mask/sliding_window.hpp>

#include <limits>

FOVEA_NAMESPACE_BEGIN
namespace described {

/// A mask of one head, asked through pointers: see mask/concept.hpp.
template <class Arch, class T>
class bound_mask {
 public:
  using by_query = kernel::cells<Arch, T, kernel::in_lanes::queries>;
  using by_key = kernel::cells<Arch, T, kernel::in_lanes::keys>;
  using truth = typename by_query::truth_value;

  virtual truth visible(const by_query& at) const noexcept = 0;
  virtual truth visible(const by_key& at) const noexcept = 0;
  virtual coverage cover(range rows, range keys) const noexcept = 0;
  virtual range reach(range rows) const noexcept = 0;
  virtual index_type next(range rows, index_type key) const noexcept = 0;
  virtual range shown(range rows, range keys) const noexcept = 0;
  virtual index_type row_edge(index_type row) const noexcept = 0;
  virtual index_type key_edge(index_type key) const noexcept = 0;

  bool edges = false, gaps = false, is_band = false;
  diagonal_band band{-most_positions, most_positions};      // what a band between diagonals is
  const matrix_view<const std::uint8_t>* matrix = nullptr;  // what a boolean mask is

 protected:
  bound_mask() = default;
  bound_mask(const bound_mask&) = default;
  ~bound_mask() = default;
};

/// Bound: what a mask of the library binds to.
template <class Arch, class T, class Bound>
class bound_mask_of final : public bound_mask<Arch, T> {
  using base = bound_mask<Arch, T>;

 public:
  explicit bound_mask_of(const Bound& bound) noexcept : bound_(bound) {
    this->edges = has_edges(bound), this->gaps = has_gaps(bound);
    if constexpr (std::is_same_v<Bound, diagonal_band>) this->is_band = true, this->band = bound;
    if constexpr (std::is_same_v<Bound, below_diagonal>) this->is_band = true, this->band.last = bound.last;
  }
  const Bound& bound() const noexcept { return bound_; }

  typename base::truth visible(const typename base::by_query& at) const noexcept override {
    return at.truth(visible_at(bound_, at));
  }
  typename base::truth visible(const typename base::by_key& at) const noexcept override {
    return at.truth(visible_at(bound_, at));
  }
  coverage cover(range rows, range keys) const noexcept override { return cover_of(bound_, rows, keys); }
  range reach(range rows) const noexcept override {
    return reach_of(bound_, rows, std::numeric_limits<index_type>::max());
  }
  index_type next(range rows, index_type key) const noexcept override { return next_of(bound_, rows, key); }
  range shown(range rows, range keys) const noexcept override { return shown_of(bound_, rows, keys); }
  index_type row_edge(index_type row) const noexcept override {
    if constexpr (tells_edges<Bound>) return bound_.row_edge(row);
    return most_positions;
  }
  index_type key_edge(index_type key) const noexcept override {
    if constexpr (tells_edges<Bound>) return bound_.key_edge(key);
    return most_positions;
  }

 private:
  Bound bound_;
};

/// One of them as a mask that another is made of: a union, a complement.
template <class Arch, class T>
struct mask_part {
  using reads_cells = void;
  static constexpr bool unsure = false;
  const bound_mask<Arch, T>* of;

  auto visible(const auto& cells) const noexcept { return of->visible(cells); }
  coverage cover(range rows, range keys) const noexcept { return of->cover(rows, keys); }
  range reach(range rows) const noexcept { return of->reach(rows); }
  index_type next(range rows, index_type key) const noexcept { return of->next(rows, key); }
  range shown(range rows, range keys) const noexcept { return of->shown(rows, keys); }
  index_type row_edge(index_type row) const noexcept { return of->row_edge(row); }
  index_type key_edge(index_type key) const noexcept { return of->key_edge(key); }
  bool has_edges() const noexcept { return of->edges; }
  bool has_gaps() const noexcept { return of->gaps; }
};

/// What masks show of an n x n block of cells: those that say something there.
template <class Arch, class T, int Matrices>
struct staged_masks {
  using reads_cells = void;
  static constexpr int most = 8;
  const bound_mask<Arch, T>* masks[most];
  kernel::staged_truth<Arch, T> truths[std::size_t{Matrices}];
  int count = 0, copies = 0;
  bool none = false;

  auto visible(const auto& cells) const noexcept {
    auto seen = cells.truth(!none);
    for (int i = 0; i < copies; ++i) seen = seen & cells.nonzero(truths[i]);
    for (int i = 0; i < count; ++i) seen = seen & masks[i]->visible(cells);
    return seen;
  }
};

/// The masks of a call, bound to a head: they intersect.
template <class Arch, class T>
struct described_cells {
  using reads_cells = void;
  static constexpr bool unsure = false;
  static constexpr int matrices = 2;  // room for so many copies in a block; others are read in place
  using staged_type = staged_masks<Arch, T, matrices>;
  const bound_mask<Arch, T>* const* masks;
  int count;

  auto visible(const auto& cells) const noexcept {
    auto seen = cells.truth(true);
    for (int i = 0; i < count; ++i) seen = seen & masks[i]->visible(cells);
    return seen;
  }
  /// None, bands, or a boolean matrix alone. (Asked a register at a time they took 6 % more.)
  void of_kind(const auto& f) const noexcept {
    if constexpr (!std::is_same_v<T, float>) return f(*this);  // see described_score.hpp
    if (count == 0) return f(mask_intersection<>());
    if (count == 1 && masks[0]->matrix != nullptr)
      return f(boolean_cells<matrix_view<const std::uint8_t>>{*masks[0]->matrix});
    if (!std::all_of(masks, masks + count, [](const auto* m) { return m->is_band; })) return f(*this);
    diagonal_band all{-most_positions, most_positions};
    for (int i = 0; i < count; ++i) {
      const diagonal_band& band = masks[i]->band;
      all = {std::max(all.first, band.first), std::min(all.last, band.last)};
    }
    f(all);
  }
  coverage cover(range rows, range keys) const noexcept {
    coverage least = coverage::full;
    for (int i = 0; i < count && least != coverage::none; ++i)
      least = std::min(least, masks[i]->cover(rows, keys));
    return least;
  }
  range reach(range rows) const noexcept {
    range seen{0, std::numeric_limits<index_type>::max()};
    for (int i = 0; i < count; ++i) seen = intersect(seen, masks[i]->reach(rows));
    return seen;
  }
  index_type next(range rows, index_type key) const noexcept {
    for (int i = 0; i < count; ++i) key = std::max(key, masks[i]->next(rows, key));
    return key;
  }
  range shown(range rows, range keys) const noexcept {
    for (int i = 0; i < count; ++i) keys = intersect(masks[i]->shown(rows, keys), keys);
    return keys;
  }
  index_type row_edge(index_type row) const noexcept {
    return nearest([&](const auto& m) { return m.row_edge(row); });
  }
  index_type key_edge(index_type key) const noexcept {
    return nearest([&](const auto& m) { return m.key_edge(key); });
  }
  bool has_edges() const noexcept {
    return std::any_of(masks, masks + count, [](const auto* m) { return m->edges; });
  }
  bool has_gaps() const noexcept {
    return std::any_of(masks, masks + count, [](const auto* m) { return m->gaps; });
  }
  void each_matrix(const auto& f) const noexcept {
    for (int i = 0, copies = 0; i < count && copies < matrices; ++i)
      if (masks[i]->matrix != nullptr) f(*masks[i]->matrix), ++copies;
  }

  /// Masks that show all of the block are not asked again; boolean matrices are copied.
  template <class Block>
  staged_type staged(Block& block) const noexcept {
    const range rows{block.query, block.query + block.queries}, keys{block.key, block.key + block.keys};
    staged_type here;
    for (int i = 0; i < count && !here.none; ++i) {
      const auto* const mask = masks[i];
      if (mask->matrix != nullptr && here.copies < matrices) {
        here.truths[here.copies++] = block.copy_truth(*mask->matrix);
      } else if (const coverage covered = mask->cover(rows, keys); covered == coverage::none) {
        here.none = true;
      } else if (covered == coverage::partial) {
        here.masks[here.count++] = mask;
      }
    }
    return here;
  }

 private:
  index_type nearest(const auto& edge_of) const noexcept {
    index_type edge = most_positions;
    for (int i = 0; i < count; ++i)
      if (masks[i]->edges) edge = std::min(edge, edge_of(*masks[i]));
    return edge;
  }
};

}  // namespace described
FOVEA_NAMESPACE_END
