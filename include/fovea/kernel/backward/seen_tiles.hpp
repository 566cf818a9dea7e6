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
  /// A few rows; rows and lanes are counted from the block's and the group's first.
  struct tile_of_rows {
    range rows, lanes;
    seen_registers panels[std::size_t{most_panels}];
  };

  /// Asks the mask; returns whether any of the rows sees any of the keys.
  template <class Mask>
  FOVEA_NOINLINE bool ask(const Mask& mask, range rows, range keys, index_type lanes_a_group) noexcept {
    keys_ = keys.size(), count_ = 0, hides_ = false;
    bool any = false;
    in_whole_tiles<shape::tile_rows>(rows.size(), [&](auto high, index_type i) FOVEA_INLINE_LAMBDA {
      const range tile_rows{rows.first + i, rows.first + i + high};
      const range reach = seen_of(mask, tile_rows, keys);
      tile_of_rows& tile = tiles_[count_++];
      tile.rows = {i, i + high}, tile.lanes = {lanes_a_group, 0};
      for (index_type t = 0; t * tile_lanes < lanes_a_group; ++t) {
        const index_type first = keys.first + t * tile_lanes;
        const seen_registers seen =
            registers_of(mask, tile_rows, intersect(reach, {first, first + tile_lanes}), first, keys);
        tile.panels[t] = seen;
        const index_type in_keys = std::clamp<index_type>(keys.last - first, 0, tile_lanes);
        hides_ = hides_ || seen.covered == coverage::partial || seen.first > 0 || seen.last * n < in_keys;
        if (seen.last == 0) continue;
        any = true;
        tile.lanes = {std::min(tile.lanes.first, t * tile_lanes + seen.first * n),
                      std::max(tile.lanes.last, t * tile_lanes + seen.last * n)};
      }
    });
    return any;
  }

  int count() const noexcept { return count_; }
  const tile_of_rows& operator[](int i) const noexcept { return tiles_[i]; }
  /// Whether some cell is hidden, or beyond the keys.
  bool hides() const noexcept { return hides_; }

  range rows_that_see(range keys) const noexcept {
    range rows{tiles_[count_ - 1].rows.last, 0};
    for (int t = 0; t < count_; ++t)
      if (!intersect(tiles_[t].lanes, keys).empty())
        rows = {std::min(rows.first, tiles_[t].rows.first), tiles_[t].rows.last};
    return rows;
  }
  range keys_seen_by(range rows) const noexcept {
    range keys{keys_, 0};
    for (int t = 0; t < count_; ++t)
      if (!intersect(tiles_[t].rows, rows).empty())
        keys = {std::min(keys.first, tiles_[t].lanes.first), std::max(keys.last, tiles_[t].lanes.last)};
    return {keys.first, std::min(keys.last, keys_)};
  }

 private:
  /// The registers of the panel from key `first` on that hold `wanted`, and how much of them is seen.
  template <class Mask>
  FOVEA_INLINE static seen_registers registers_of(const Mask& mask, range rows, range wanted,
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
  bool hides_ = false;
  tile_of_rows tiles_[std::size_t{most_tiles}];
};

}  // namespace kernel
FOVEA_NAMESPACE_END
