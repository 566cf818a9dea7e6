// fovea/kernel/backward/gradient_shape.hpp - the blocks of the backward pass: their sizes, and what a
// block of rows is.
#pragma once

#include <fovea/kernel/operand/operand.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Sizes of blocks: `lanes_a_group` keys x `rows` queries at a time, `keys` keys to a superblock, whose dK
/// and dV stay in L2. (dim 64: 96 rows meet the diagonal where groups of 96 keys do: causal calls of 128 and
/// 1,024 tokens take 2 to 3 % less time than with 72 rows, calls without a mask the same; 48 and 120 rows
/// take 1 to 4 % more. dim 128: 96 lanes lose 3 to 7 points. With AVX-512 a cell of a causal call of
/// 8 x 1,024 x 64 takes 1.05 of the time of one without a mask. 1.2 % of the multiply-adds are of cells that
/// nobody sees, in tiles across the diagonal; finer ones could save no more than that.)
template <class Arch, class T>
struct gradient_shape {
  static constexpr index_type tile_lanes = geometry<Arch>::tile_vectors * lanes<Arch, T>;
  static constexpr index_type tile_rows = geometry<Arch>::tile_rows;
  static constexpr index_type line = 64 / static_cast<index_type>(sizeof(T));
  static constexpr index_type most_rows = 240, keys = 24 * line;

  /// At edges of the mask groups and blocks of rows end sooner: from so many rows, and a panel of keys, on.
  /// (8 rows and a register: documents of 8 tokens took twice as long, of 20 up to 45 % longer than without.)
  static constexpr index_type fewest_rows = 4 * tile_rows;

  index_type lanes_a_group, rows;

  explicit gradient_shape(index_type dim) noexcept
      : lanes_a_group(dim * static_cast<index_type>(sizeof(T)) <= 256 ? 6 * line : 3 * line),
        rows(dim * static_cast<index_type>(sizeof(T)) <= 256 ? 96 : most_rows) {}

  /// Rows of a block of a sequence of so many: fewer, about as many in each, where the last would have a few.
  /// (197 rows as 96 + 96 + 5 take 1.4 % more time than as 72 + 72 + 53.)
  index_type rows_a_block(index_type of_rows) const noexcept {
    constexpr index_type few = 24, grain = 8;
    const index_type rest = of_rows % rows;
    if (rest == 0 || rest >= few || of_rows < rows) return rows;
    return round_up(ceil_div(of_rows, ceil_div(of_rows, rows)), grain);
  }
  /// Groups of a superblock of a sequence of so many keys.
  index_type groups(index_type of_keys) const noexcept {
    return std::min(keys / lanes_a_group, std::max<index_type>(ceil_div(of_keys, lanes_a_group), 1));
  }
  /// How many tiles there are, about, of so many rows and keys.
  index_type tiles(index_type of_rows, index_type of_keys) const noexcept {
    constexpr index_type high = geometry<Arch>::tile_queries;
    return 2 * ceil_div(of_rows, tile_rows) * ceil_div(of_keys, tile_lanes) +
           2 * ceil_div(of_keys, high) * ceil_div(of_rows, rows) +
           ceil_div(of_rows, high) * ceil_div(of_keys, lanes_a_group);
  }
  index_type stride() const noexcept { return (lanes_a_group / line | 1) * line; }
  index_type cells() const noexcept { return rows * stride(); }
};

/// Accumulators: rows of registers. Those that hold nothing yet need no zeros: what is added first is stored.
template <class T>
struct sums_of_rows {
  T* data = nullptr;
  index_type stride = 0;
  bool empty = false;
  sums_of_rows from(index_type row) const noexcept { return {data + row * stride, stride, empty}; }
};

template <class Arch, class T>
FOVEA_NOINLINE void clear_rows(const sums_of_rows<T>& sums, index_type rows, index_type width) noexcept {
  for (index_type i = 0; i < rows; ++i) std::fill_n(sums.data + i * sums.stride, width, T(0));
}
template <class Arch, class T>
void clear_if_empty(const sums_of_rows<T>& sums, index_type rows, index_type width) noexcept {
  if (sums.empty) clear_rows<Arch>(sums, rows, width);
}

/// A block of query rows of one head.
template <class T>
struct gradient_rows {
  range rows;
  rows_of<T> q, d_out;  // registers wide
  sums_of_rows<T> d_q;
  const T *lse, *delta;  // of each row: LSE in the units of the softmax; sum_c dO O - dLSE
};

}  // namespace kernel
FOVEA_NAMESPACE_END
