// fovea/mask/boolean.hpp - a matrix of booleans as a mask.
#pragma once

#include <fovea/mask/concept.hpp>

FOVEA_NAMESPACE_BEGIN

/// One head's matrix, queries x keys: a cell is visible where its element is not zero.
template <class Matrix>
struct boolean_cells {
  using reads_cells = void;
  static constexpr int matrices = 1;
  Matrix keep;

  FOVEA_INLINE auto near(auto& square) const noexcept {
    return boolean_cells<decltype(square.copy_truth(keep))>{square.copy_truth(keep)};
  }
  FOVEA_INLINE void each_matrix(const auto& f) const noexcept { f(keep); }
  FOVEA_INLINE auto visible(const auto& cells) const noexcept { return cells.nonzero(keep); }

  /// Reads the block: a byte a cell costs a hundredth of computing it.
  FOVEA_INLINE coverage cover(range rows, range keys) const noexcept
    requires requires { keep.row_stride; }
  {
    unsigned char all = 1, any = 0;  // bytes, so that a register takes many
    for (index_type q = rows.first; q < rows.last && (all || !any); ++q) {
      const auto* row = keep.at(q, keys.first);
      const auto look = [&](const auto& x) FOVEA_INLINE_LAMBDA {
        const unsigned char shown = x != 0;
        all &= shown, any |= shown;
      };
      if (keep.col_stride == 1)
        for (index_type k = 0; k < keys.size(); ++k) look(row[k]);
      else
        for (index_type k = 0; k < keys.size(); ++k) look(row[k * keep.col_stride]);
    }
    return all ? coverage::full : any ? coverage::partial : coverage::none;
  }
};

/// A matrix that broadcasts to batch x heads x queries x keys: each of its four sizes is 1 or the full one.
/// It is read, never copied. Made by boolean_mask(...).
template <class Table>
struct boolean_matrix {
  using is_mask = void;
  Table table;

  FOVEA_INLINE void check(const place& at) const { table.check(at, "boolean_mask"); }
  FOVEA_INLINE auto bind(const place& at) const noexcept {
    return boolean_cells<decltype(table.bind(at))>{table.bind(at)};
  }
};

FOVEA_NAMESPACE_END
