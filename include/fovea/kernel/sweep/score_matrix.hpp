// fovea/kernel/sweep/score_matrix.hpp - the score matrix itself, for looking at: logits, or probabilities
// given the LSE.
#pragma once

#include <fovea/kernel/sweep/logit_sweep.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Writes a block of logits, or the probabilities by the same exp as in O.
template <class Arch, class T>
FOVEA_NOINLINE void emit_block(const logit_block<Arch, T>& s, const matrix_view<T>& to,
                               const matrix_view<T>* lse) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  for (int w = 0; w < s.registers(); ++w) {
    const index_type first = s.rows.first + w * n, count = std::min(n, s.rows.last - first);
    alignas(64) T of_row[std::size_t{n}] = {}, cell[std::size_t{n}];
    for (index_type i = 0; lse != nullptr && i < count; ++i) of_row[i] = (*lse)(first + i, 0);
    const softmax_state<Arch, T, unit_of::natural> row{{V::load_aligned(of_row), V(T(0))}};
    for (index_type j = 0; j < s.keys.size(); ++j) {
      const V x = V::load_aligned(s.at(j, w));
      (lse != nullptr ? row.template probability<true>(x) : x).store_aligned(cell);
      for (index_type i = 0; i < count; ++i) to(first + i, s.keys.first + j) = cell[i];
    }
  }
}

/// Writes rows of one head of the score matrix to `to` (queries x keys): the logits that enter the softmax,
/// hidden ones -inf; or, with `lse` (queries x 1), the probabilities exp(s - lse), hidden ones 0. p.v has no
/// columns.
template <class Arch, class Problem, class T = typename Problem::compute>
FOVEA_NOINLINE void emit_queries(const Problem& p, index_type b, index_type h, range rows,
                                 const scratch<T>& memory, const matrix_view<T>& to,
                                 const matrix_view<T>* lse) noexcept {
  for (index_type i = rows.first; i < rows.last; ++i)
    for (index_type j = 0; j < to.cols; ++j) to(i, j) = lse ? T(0) : hidden<T>;
  sweep_logits<Arch>(p, b, h, rows, {0, to.cols}, p.scale, memory,
                     [&](const logit_block<Arch, T>& s) { emit_block(s, to, lse); });
}

}  // namespace kernel
FOVEA_NAMESPACE_END
