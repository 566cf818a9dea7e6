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
    return boolean_cells<decltype(square.copy(keep))>{square.copy(keep)};
  }
  FOVEA_INLINE auto visible(const auto& cells) const noexcept { return cells.nonzero(keep); }

  /// Reads the block: a byte a cell costs a hundredth of computing it.
  FOVEA_INLINE coverage cover(range rows, range keys) const noexcept
    requires requires { keep.row_stride; }
  {
    bool all = true, any = false;
    for (index q = rows.first; q < rows.last && (all || !any); ++q) {
      index shown = 0;
      const auto* row = keep.at(q, keys.first);
      if (keep.col_stride == 1)
        for (index k = 0; k < keys.size(); ++k) shown += row[k] != 0;
      else
        for (index k = 0; k < keys.size(); ++k) shown += row[k * keep.col_stride] != 0;
      all = all && shown == keys.size(), any = any || shown > 0;
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
