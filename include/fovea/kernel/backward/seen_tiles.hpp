// fovea/kernel/backward/seen_tiles.hpp - what the rows of a block see of a group of keys, tile by tile:
// gradients compute nothing else.
#pragma once

#include <fovea/kernel/backward/gradient_shape.hpp>
#include <fovea/kernel/tile/tile.hpp>
#include <fovea/mask/concept.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Registers [first, last) of a panel of tile_vectors, those around them being hidden.
struct seen_registers {
  int first = 0, last = 0;
  coverage covered = coverage::none;
};

template <class Arch, class T>
class seen_tiles {
  using shape = gradient_shape<Arch, T>;
  static constexpr index_type n = lanes<Arch, T>, tile_lanes = shape::tile_lanes;
  static constexpr int most_panels = static_cast<int>(6 * shape::line / tile_lanes);
  static constexpr int most_tiles = static_cast<int>(shape::most_rows / shape::tile_rows) + 4;

 public:
  /// A few rows; rows and the lanes of keys that they may see are counted from the block's and the group's
  /// first.
  struct tile_of_rows {
    range rows, lanes;
    seen_registers panels[std::size_t{most_panels}];
  };

  /// Asks the mask; returns whether any of the rows sees any of the keys. (Asked once where they see all, or
  /// none: 1 % of a causal call of 8 x 1,024 x 64.)
  template <class Mask>
  FOVEA_NOINLINE bool ask(const Mask& mask, range rows, range keys, index_type lanes_a_group) noexcept {
    keys_ = keys.size(), count_ = 0, hides_ = all_ = false;
    const coverage covered = seen_of(mask, rows, keys).empty() ? coverage::none : cover_of(mask, rows, keys);
    if (covered == coverage::none) return false;
    if (covered == coverage::full) return see_all(rows.size(), lanes_a_group);
    bool any = false;
    in_whole_tiles<shape::tile_rows>(rows.size(), [&](auto high, index_type i) FOVEA_INLINE_LAMBDA {
      const range tile_rows{rows.first + i, rows.first + i + high};
      const range reach = seen_of(mask, tile_rows, keys);
      tile_of_rows& tile = tiles_[count_++];
      tile.rows = {i, i + high}, tile.lanes = {lanes_a_group, 0};
      for (index_type t = 0; t * tile_lanes < lanes_a_group; ++t) {
        const index_type first = keys.first + t * tile_lanes;
        range wanted = intersect(reach, {first, first + tile_lanes});
        const seen_registers seen = registers_of(mask, tile_rows, wanted, first, keys);
        tile.panels[t] = seen;
        const index_type in_keys = std::clamp<index_type>(keys.last - first, 0, tile_lanes);
        hides_ = hides_ || seen.covered == coverage::partial || seen.first > 0 || seen.last * n < in_keys;
        if (seen.last == 0) continue;
        any = true;
        tile.lanes = {std::min(tile.lanes.first, wanted.first - keys.first),
                      std::max(tile.lanes.last, wanted.last - keys.first)};
      }
    });
    return any;
  }

  int count() const noexcept { return count_; }
  const tile_of_rows& operator[](int i) const noexcept { return tiles_[i]; }
  /// Whether some cell of the keys is hidden.
  bool hides() const noexcept { return hides_; }

  range rows_that_see(range keys) const noexcept {
    if (all_) return {0, tiles_[count_ - 1].rows.last};
    int first = 0, last = count_ - 1;
    while (first < count_ && intersect(tiles_[first].lanes, keys).empty()) ++first;
    if (first == count_) return {};
    while (intersect(tiles_[last].lanes, keys).empty()) --last;
    return {tiles_[first].rows.first, tiles_[last].rows.last};
  }
  range keys_seen_by(range rows) const noexcept {
    if (all_) return {0, keys_};
    range keys{keys_, 0};
    for (int t = static_cast<int>(rows.first / shape::tile_rows);
         t < count_ && tiles_[t].rows.first < rows.last; ++t)
      if (!tiles_[t].lanes.empty())
        keys = {std::min(keys.first, tiles_[t].lanes.first), std::max(keys.last, tiles_[t].lanes.last)};
    return {keys.first, std::min(keys.last, keys_)};
  }

 private:
  bool see_all(index_type rows, index_type lanes_a_group) noexcept {
    all_ = true;
    in_whole_tiles<shape::tile_rows>(rows, [&](auto high, index_type i) FOVEA_INLINE_LAMBDA {
      tile_of_rows& tile = tiles_[count_++];
      tile.rows = {i, i + high}, tile.lanes = {0, keys_};
      for (index_type t = 0; t * tile_lanes < lanes_a_group; ++t)
        if (const index_type left = std::min(keys_ - t * tile_lanes, tile_lanes); left > 0)
          tile.panels[t] = {0, static_cast<int>(ceil_div(left, n)), coverage::full};
        else
          tile.panels[t] = {};
    });
    return true;
  }

  /// The registers of the panel from key `first` on that hold `wanted`, and how much of them is seen.
  /// `wanted` becomes what may be seen of it.
  template <class Mask>
  FOVEA_INLINE static seen_registers registers_of(const Mask& mask, range rows, range& wanted,
                                                  index_type first, range keys) noexcept {
    if constexpr (tells_shown<Mask>)
      if (!wanted.empty()) wanted = shown_of(mask, rows, wanted);
    if (wanted.empty()) return {};
    seen_registers seen{static_cast<int>((wanted.first - first) / n),
                        static_cast<int>(ceil_div(wanted.last - first, n))};
    seen.covered = cover_of(mask, rows, {first + seen.first * n, std::min(first + seen.last * n, keys.last)});
    return seen.covered == coverage::none ? seen_registers{} : seen;
  }

  index_type keys_ = 0;
  int count_ = 0;
  bool hides_ = false, all_ = false;  // all_: every row sees every key
  tile_of_rows tiles_[std::size_t{most_tiles}];
};

/// sums(i, c) += over t of cells(i, t) from(t, c), where a cell of 0 hides what it would be multiplied by.
template <class Arch, class T>
FOVEA_NOINLINE void add_seen(const T* cells, index_type row, index_type step, index_type count,
                             const rows_of<T>& from, index_type depth, const sums_of_rows<T>& sums,
                             index_type width) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  clear_if_empty<Arch>(sums, count, width);
  for (index_type i = 0; i < count; ++i)
    for (index_type c = 0; c < width; c += n) {
      T* const to = sums.data + i * sums.stride + c;
      V sum = V::load_unaligned(to);
      for (index_type t = 0; t < depth; ++t)
        if (const T x = cells[i * row + t * step]; x != T(0))
          sum = isa<Arch>::fma(V::load_unaligned(from.data + t * from.stride + c), V(x), sum);
      sum.store_unaligned(to);
    }
}

}  // namespace kernel
FOVEA_NAMESPACE_END
