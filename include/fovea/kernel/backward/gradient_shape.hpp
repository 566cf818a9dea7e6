// fovea/kernel/backward/gradient_shape.hpp - the blocks of the backward pass: their sizes, and what a
// block of rows is.
#pragma once

#include <fovea/kernel/operand/operand.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Sizes of blocks: `lanes_a_group` keys x `rows` queries at a time, `keys` keys to a superblock, whose dK
/// and dV stay in L2. (dim 64: 96 keys x 72 rows is a flat optimum; dim 128: 96 lanes lose 3 to 7 points.)
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
        rows(dim * static_cast<index_type>(sizeof(T)) <= 256 ? 72 : most_rows) {}

  /// Groups of a superblock of a sequence of so many keys.
  index_type groups(index_type of_keys) const noexcept {
    return std::min(keys / lanes_a_group, std::max<index_type>(ceil_div(of_keys, lanes_a_group), 1));
  }
  index_type stride() const noexcept { return (lanes_a_group / line | 1) * line; }
  index_type cells() const noexcept { return rows * stride(); }
};

/// A block of query rows of one head.
template <class T>
struct gradient_rows {
  range rows;
  rows_of<T> q, d_out;  // registers wide
  T* d_q;               // accumulators of the rows
  index_type d_q_stride;
  const T *lse, *delta;  // of each row: LSE in the units of the softmax; sum_c dO O - dLSE
};

/// Accumulators: rows of registers.
template <class T>
struct sums_of_rows {
  T* data = nullptr;
  index_type stride = 0;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
