// fovea/kernel/sweep/score_matrix.hpp - the score matrix itself, for looking at: logits, or probabilities
// given the LSE.
#pragma once

#include <fovea/kernel/sweep/logit_sweep.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// The cells of rows that there is nothing to say of.
template <class T>
FOVEA_NOINLINE void fill_rows(const matrix_view<T>& to, range rows, T value) noexcept {
  const matrix_view<T> part = to.only(rows);
  if (part.col_stride == 1)
    for (index_type i = 0; i < part.rows; ++i) std::fill_n(part.at(i), part.cols, value);
  else
    for (index_type j = 0; j < part.cols; ++j)
      for (index_type i = 0; i < part.rows; ++i) part(i, j) = value;
}

/// Writes a block of logits, or the probabilities by the same exp as in O, which take their place.
template <class Arch, class T>
FOVEA_NOINLINE void emit_block(const logit_block<Arch, T>& s, const matrix_view<T>& to,
                               const matrix_view<T>* lse) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  const matrix_view<T> cells{to.at(0, s.keys.first), to.rows, s.keys.size(), to.row_stride, to.col_stride};
  for (int w = 0; w < s.registers(); ++w) {
    const range rows{s.rows.first + w * n, std::min(s.rows.first + (w + 1) * n, s.rows.last)};
    if (lse != nullptr) {
      alignas(64) T of_row[std::size_t{n}] = {};
      for (index_type i = 0; i < rows.size(); ++i) of_row[i] = (*lse)(rows.first + i, 0);
      const softmax_state<Arch, T, unit_of::natural> row{{V::load_aligned(of_row), V(T(0))}};
      for (index_type j = 0; j < s.keys.size(); ++j)
        row.template probability<true>(V::load_aligned(s.at(j, w))).store_aligned(s.at(j, w));
    }
    unpack<Arch>(s.at(0, w), s.width, V(T(1)), cells, rows);
  }
}

/// Writes rows of one head of the score matrix to `to` (queries x keys, or more): the logits that enter the
/// softmax, hidden ones -inf; or, with `lse` (queries x 1), the probabilities exp(s - lse), hidden ones 0.
/// p.v has no columns.
template <class Arch, class Problem, class T = typename Problem::compute>
FOVEA_NOINLINE void emit_queries(const Problem& p, index_type b, index_type h, range rows,
                                 const scratch<T>& memory, const matrix_view<T>& to,
                                 const matrix_view<T>* lse) noexcept {
  fill_rows(to, rows, lse != nullptr ? T(0) : hidden<T>);
  sweep_logits<Arch>(p, b, h, rows, {0, p.k.tokens(b)}, p.scale, memory,
                     [&](const logit_block<Arch, T>& s) { emit_block(s, to, lse); });
}

}  // namespace kernel
FOVEA_NAMESPACE_END
