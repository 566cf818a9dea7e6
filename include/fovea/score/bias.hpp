// fovea/score/bias.hpp - a matrix that is added to the logits.
#pragma once

#include <fovea/score/concept.hpp>

FOVEA_NAMESPACE_BEGIN

/// One head's matrix, queries x keys.
template <class Matrix>
struct bias_cells {
  static constexpr score_stage stage = score_stage::bias;
  static constexpr int matrices = 1;
  Matrix values;

  FOVEA_INLINE auto near(auto& square) const noexcept {
    return bias_cells<decltype(square.copy(values))>{square.copy(values)};
  }

  FOVEA_INLINE void each_matrix(const auto& f) const noexcept { f(values); }

  template <class V>
  FOVEA_INLINE V apply(const V& s, const auto& cells) const noexcept {
    return cells.sum_or_hidden(s, cells.load(values));
  }
};

/// s -> s + values(q, k); -inf hides the cell. Broadcasts to batch x heads x queries x keys: each of its four
/// sizes is 1 or the full one. It is read, never copied. Made by bias(...).
template <class Table>
struct bias_matrix {
  static constexpr score_stage stage = score_stage::bias;
  Table table;

  FOVEA_INLINE void check(const place& at) const { table.check(at, "bias"); }
  FOVEA_INLINE auto bind(const place& at) const noexcept {
    return bias_cells<decltype(table.bind(at))>{table.bind(at)};
  }
};

FOVEA_NAMESPACE_END
