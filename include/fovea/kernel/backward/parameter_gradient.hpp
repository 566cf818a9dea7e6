// fovea/kernel/backward/parameter_gradient.hpp - the gradient of a score's parameters: dS, computed once
// more, summed over the sizes that the parameters do not have. Each parameter is one job's alone, so that
// sums have an order.
#pragma once

#include <fovea/kernel/backward/gradient_rules.hpp>
#include <fovea/kernel/backward/gradient_scorer.hpp>
#include <fovea/kernel/backward/key_superblock.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// The cells of the score matrices that a job sums: ranges of sequences and heads, and rows.
struct parameter_job {
  range batches, heads, rows;
};

/// Rows of a job's sums: one, where all queries share their parameters.
template <class T>
struct parameter_sums {
  T* data;
  bool shared_by_queries, shared_by_keys;
  index_type stride;

  /// Adds a register of cells; lanes beyond `count` are padding.
  template <class Arch, class Score, class Cells>
  FOVEA_INLINE void add(const Score& score, index_type row, const Cells& cells,
                        const vec<Arch, T>& ds) const noexcept {
    using V = vec<Arch, T>;
    const V x = ds * slope_of_parameter(score, ds, cells);
    T* const to = data + (shared_by_queries ? 0 : row * stride) + (shared_by_keys ? 0 : cells.key);
    if (shared_by_keys) {
      alignas(64) T lane[lanes<Arch, T>];
      xsimd::select(counting_up<Arch, T>() < V(static_cast<T>(cells.count)), x, V(T(0))).store_aligned(lane);
      sum_over_lanes<Arch, T>(V::load_aligned(lane)).store_aligned(lane);
      *to += lane[0];
    } else {
      (V::load_unaligned(to) + x).store_unaligned(to);
    }
  }
};

/// Adds what one head of one sequence gives for score number `Number`.
template <class Arch, int Number, class Gradients, class Score, class Terms, class Sums, class T>
FOVEA_INLINE void sum_parameters(const Gradients& g, const Score& score, index_type b, index_type h,
                                 range rows, const Terms& terms, const Sums& sums,
                                 const gradient_scratch<T>& memory) noexcept {
  const auto& p = g.forward;
  constexpr index_type n = lanes<Arch, T>;
  const gradient_shape<Arch, T> shape(p.dim());
  const index_type width = round_up(p.dim(), n), value_width = round_up(p.value_dim(), n),
                   keys = p.k.tokens(b);
  rows.last = std::min(rows.last, p.q.tokens(b));
  const auto at = p.at(b, h);
  const auto rules = p.rules.bind(at);
  const auto dropout = p.dropout.bind(at);
  const auto& bound = bind_score(score, at);
  const auto& scorer = bind_scorer(p.scorer, at);
  const auto of_cells = gradients_of_cells<weights_of<Arch, Gradients>, Number + 1>(rules, dropout);
  const auto k = p.k.head(b, h / p.group());
  const auto v = p.v.head(b, h / p.group());
  prefetch nothing;
  for (index_type first = 0; first < keys; first += shape.lanes_a_group) {
    key_group<Arch, T> group(shape, {first, std::min(first + shape.lanes_a_group, keys)}, p.dim(),
                             p.value_dim(), memory.panels, memory.p, memory.ds, nothing);
    group.pack_keys(query_ref<Arch, T>(k), p.factor(), query_ref<Arch, T>(v), T(1));
    for (range block_rows{rows.first, 0}; block_rows.first < rows.last; block_rows.first = block_rows.last) {
      block_rows.last = std::min(block_rows.first + shape.rows, rows.last);
      if (!group.ask(rules.mask, block_rows)) continue;
      const auto q = operand_of<Arch>(p.q.head(b, h), width, memory.q_copy).read(block_rows);
      const auto d_out =
          operand_of<Arch>(g.template d_sums<Arch>(b, h), value_width, memory.d_out_copy).read(block_rows);
      const gradient_rows<T> block{
          block_rows, q, d_out, {}, terms.lse + block_rows.first, terms.delta + block_rows.first};
      gradient_scorer_ref<Arch, T>(scorer).score(group, block, of_cells.plain(), true);
      group.differentiate(block, T(1), of_cells.plain());
      group.apply_rules(block, T(1), of_cells, true);
      group.each_register(block, [&](index_type i, const auto& cells, const auto& ds) FOVEA_INLINE_LAMBDA {
        sums.template add<Arch>(bound, block_rows.first + i - rows.first, cells, ds);
      });
    }
  }
}

/// The gradient of the parameters of score number `Number` that a job owns.
template <class Arch, int Number, class Gradients, class Score, class E, class Terms, class T>
FOVEA_NOINLINE void differentiate_parameters(const Gradients& g, const Score& score,
                                             const parameter_gradient<E>& to, const parameter_job& job,
                                             const Terms& terms_of, T* room,
                                             const gradient_scratch<T>& memory) noexcept {
  const index_type rows = to.queries == 1 ? 1 : job.rows.size();
  const parameter_sums<T> sums{room, to.queries == 1, to.keys == 1, round_up(to.keys, lanes<Arch, T>)};
  for (index_type i = 0; i < rows * sums.stride; ++i) room[i] = T(0);
  for (index_type b = job.batches.first; b < job.batches.last; ++b)
    for (index_type h = job.heads.first; h < job.heads.last; ++h)
      sum_parameters<Arch, Number>(g, score, b, h, job.rows, terms_of(b, h), sums, memory);
  E* const first = to.data + (to.batch == 1 ? 0 : job.batches.first * to.batch_stride) +
                   (to.heads == 1 ? 0 : job.heads.first * to.head_stride) +
                   (to.queries == 1 ? 0 : job.rows.first * to.query_stride);
  for (index_type i = 0; i < rows; ++i)
    store_elements(room + i * sums.stride, to.keys, first + i * to.query_stride, to.key_stride);
}

}  // namespace kernel
FOVEA_NAMESPACE_END
