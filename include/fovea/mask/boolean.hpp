// fovea/mask/boolean.hpp - a matrix of booleans as a mask.
#pragma once

#include <fovea/mask/concept.hpp>

#include <cstdint>
#include <cstring>

FOVEA_NAMESPACE_BEGIN

/// Whether all, and whether any, of the elements read so far are not zero.
struct truth_of_row {
  bool all = true, any = false;

  /// Integers are read eight bytes at a time, by hand: g++ 12 vectorises a loop over them at -O3 alone, and
  /// at -O2 a call with a boolean matrix took four times as long.
  template <class E>
  void read(const E* row, index_type stride, index_type count) noexcept {
    index_type k = 0;
    if constexpr (std::is_integral_v<E> && sizeof(E) < 8)
      if (stride == 1) {
        constexpr index_type a_word = 8 / static_cast<index_type>(sizeof(E));
        constexpr std::uint64_t ones = ~std::uint64_t(0) / ((std::uint64_t(1) << 8 * sizeof(E)) - 1),
                                tops = ones << (8 * sizeof(E) - 1);
        std::uint64_t zeros = 0, others = 0;  // a top bit where an element is 0; any bit where one is not
        for (; k + a_word <= count; k += a_word) {
          std::uint64_t word;
          std::memcpy(&word, row + k, 8);
          zeros |= (word - ones) & ~word, others |= word;
        }
        all = all && (zeros & tops) == 0, any = any || others != 0;
      }
    unsigned char all_shown = 1, any_shown = 0;  // bytes, so that a register takes many
    for (; k < count; ++k) {
      const unsigned char shown = row[k * stride] != E(0);
      all_shown &= shown, any_shown |= shown;
    }
    all = all && all_shown, any = any || any_shown;
  }
};

/// One head's matrix, queries x keys: a cell is visible where its element is not zero.
template <class Matrix>
struct boolean_cells {
  using reads_cells = void;
  static constexpr int matrices = 1;
  Matrix keep;

  auto staged(auto& block) const noexcept {
    return boolean_cells<decltype(block.copy_truth(keep))>{block.copy_truth(keep)};
  }
  void each_matrix(const auto& f) const noexcept { f(keep); }
  auto visible(const auto& cells) const noexcept { return cells.nonzero(keep); }

  /// Reads the block: a byte a cell costs a hundredth of computing it. A row or a column that is repeated
  /// is read once.
  coverage cover(range rows, range keys) const noexcept
    requires requires { keep.row_stride; }
  {
    const index_type last = keep.row_stride == 0 ? std::min(rows.first + 1, rows.last) : rows.last;
    const index_type count = keep.col_stride == 0 ? std::min<index_type>(1, keys.size()) : keys.size();
    truth_of_row found;
    for (index_type q = rows.first; q < last && (found.all || !found.any); ++q)
      found.read(keep.at(q, keys.first), keep.col_stride, count);
    return found.all ? coverage::full : found.any ? coverage::partial : coverage::none;
  }
};

/// A matrix that broadcasts to batch x heads x queries x keys: each of its four sizes is 1 or the full one.
/// It is read, never copied. Made by boolean_mask(...).
template <class Table>
struct boolean_matrix {
  using is_mask = void;
  Table table;

  void check(const place& at) const { table.check(at, "boolean_mask"); }
  void each_operand(const auto& f) const { f("boolean_mask", table.table); }
  auto bind(const place& at) const noexcept {
    return boolean_cells<decltype(table.bind(at))>{table.bind(at)};
  }
};

FOVEA_NAMESPACE_END
