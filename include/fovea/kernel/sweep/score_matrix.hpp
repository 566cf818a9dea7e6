// fovea/kernel/sweep/score_matrix.hpp - the score matrix itself, for looking at: logits, or probabilities
// given the LSE.
#pragma once

#include <fovea/kernel/forward/attend_lanes.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Writes a panel's block of logits, or the probabilities by the same exp as in O.
template <class Arch, class Panel, class T>
FOVEA_NOINLINE void emit_block(const Panel& panel, range keys, const matrix_view<T>& to,
                               const matrix_view<T>* lse) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type width = Panel::width, n = lanes<Arch, T>;
  const range rows = panel.rows();
  alignas(64) T of_row[std::size_t{width}] = {}, cell[std::size_t{width}];
  for (index_type i = 0; lse != nullptr && i < rows.size(); ++i) of_row[i] = (*lse)(rows.first + i, 0);
  for (index_type j = 0; j < keys.size(); ++j) {
    for (index_type i = 0; i < width; i += n) {
      V x = V::load_aligned(panel.logits() + j * width + i);
      const softmax_state<Arch, T, unit_of::natural> row{{V::load_aligned(of_row + i), V(T(0))}};
      if (lse != nullptr) x = row.template probability<true>(x);
      x.store_aligned(cell + i);
    }
    for (index_type i = 0; i < rows.size(); ++i) to(rows.first + i, keys.first + j) = cell[i];
  }
}

/// Writes rows of one head of the score matrix to `to` (queries x keys): the logits that enter the softmax,
/// hidden ones -inf; or, with `lse` (queries x 1), the probabilities exp(s - lse), hidden ones 0. p.v has no
/// columns.
template <class Arch, class Problem, class T = typename Problem::compute>
FOVEA_NOINLINE void emit_queries(const Problem& p, index_type b, index_type h, range rows,
                                 const scratch<T>& memory, const matrix_view<T>& to,
                                 const matrix_view<T>* lse) noexcept {
  const auto rules = p.rules.bind(p.at(b, h));
  const auto q = p.q.head(b, h);
  const auto keys_of = operand_of<Arch>(p.k.head(b, h / p.group()), p.dim(), memory.keys);
  const auto each_panel = [&](auto&& f) FOVEA_INLINE_LAMBDA {
    each_query_panel<Arch, T, unit_of::natural>(rows, p.dim(), index_type(0), memory, f);
  };
  for (index_type i = rows.first; i < rows.last; ++i)
    for (index_type j = 0; j < to.cols; ++j) to(i, j) = lse ? T(0) : hidden<T>;

  each_panel([&](const auto& panel) { panel.open(q, p.scale); });
  for (range keys{0, 0}; keys.first < to.cols; keys.first = keys.last) {
    keys.last = std::min(keys.first + geometry<Arch>::key_block, to.cols);
    const auto k = keys_of.read(keys);
    each_panel([&](const auto& panel) {
      if (cover_of(rules.mask, panel.rows(), keys) == coverage::none) return;
      panel.template dot_keys<false>(k, keys.size());
      panel.revise(rules, keys, memory.squares);
      emit_block<Arch>(panel, keys, to, lse);
    });
  }
}

}  // namespace kernel
FOVEA_NAMESPACE_END
