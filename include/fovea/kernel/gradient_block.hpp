// fovea/kernel/gradient_block.hpp - one job of the backward pass: keys of one key/value head against all
// queries that see them. Scores are computed again from the LSE; nothing of size Lq x Lk is kept.
// The loop of the paper: Dao, "FlashAttention-2", arXiv:2307.08691, algorithm 2:
//   P = exp(S - LSE)   dV = P^T dO   dP = dO V^T   dS = P (dP - D)   dQ = dS K   dK = dS^T Q,
//   D = sum_c dO O - dLSE
#pragma once

#include <fovea/kernel/dropout.hpp>
#include <fovea/kernel/key_group.hpp>
#include <fovea/kernel/problem.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// What a backward call is about: the forward call, what it gave, and where the gradients go.
template <class Problem, class OE, class GE, class DQ, class DK, class DV>
struct gradient_problem {
  using compute = typename Problem::compute;
  static constexpr unit_of units = Problem::units;

  Problem forward;  // without results
  sequences<const OE> out;
  sequences<const compute> lse;
  sequences<const GE> d_out;
  sequences<const compute> d_lse;  // no data: 0
  sequences<DQ> d_q;
  sequences<DK> d_k;
  sequences<DV> d_v;
};

template <class Problem, class OE, class GE, class DQ, class DK, class DV, class T>
gradient_problem(Problem, sequences<const OE>, sequences<const T>, sequences<const GE>, sequences<const T>,
                 sequences<DQ>, sequences<DK>, sequences<DV>)
    -> gradient_problem<Problem, OE, GE, DQ, DK, DV>;

/// What becomes of a register of cells whose products are S and dO V^T.
template <class State, class Rules, class Dropout, int From = 0>
struct cell_gradients {
  static constexpr bool plain = !Rules::natural && !Dropout::drops;
  Rules rules;
  Dropout dropout;

  /// {what V is weighed with, dS times the slopes of the scores from number From on}: both 0 where hidden.
  template <class Cells, class V>
  FOVEA_INLINE std::pair<V, V> differentiate(const Cells& at, coverage covered, const V& s, const V& dp,
                                             const V& lse, const V& delta) const noexcept {
    using T = typename V::value_type;
    auto [x, slope] = rules.template score_and_slope<From>(s, at);
    if (covered == coverage::partial)
      x = xsimd::select(at.truth(visible_at(rules.mask, at)), x, V(hidden<T>));
    const auto unseen = x == V(hidden<T>);
    V p = xsimd::select(unseen, V(T(0)), State::exp(x - lse)), kept = dp;
    const V whole = p;
    if constexpr (Dropout::drops) {
      const V worth = worth_of(dropout, at);
      p = p * worth, kept = xsimd::select(worth == V(T(0)), V(T(0)), dp * worth);
    }
    return {p, xsimd::select(unseen, V(T(0)), whole * (kept - delta) * slope)};
  }
};

template <class State, int From = 0, class Rules, class Dropout>
FOVEA_INLINE cell_gradients<State, Rules, Dropout, From> gradients_of_cells(const Rules& rules,
                                                                            const Dropout& dropout) noexcept {
  return {rules, dropout};
}

/// Where a job of the backward pass works; `width`s are registers, whole.
template <class T>
struct gradient_scratch {
  T *panels, *d_k, *d_v, *p, *ds, *q_copy, *d_out_copy, *k_copy;
};

/// Keys of one key/value head, and which of its query heads; which part of the heads and span of the keys
/// these are.
struct gradient_job {
  index batch, kv_head, part, span;
  range heads, keys;
};

/// Accumulators: rows of registers.
template <class T>
struct sums_of_rows {
  T* data = nullptr;
  index stride = 0;
};

template <class Arch, class T>
FOVEA_NOINLINE void clear_rows(const sums_of_rows<T>& sums, index rows, index width) noexcept {
  for (index i = 0; i < rows; ++i) std::fill_n(sums.data + i * sums.stride, width, T(0));
}

template <class Arch, class T, class E>
FOVEA_NOINLINE void write_rows(const T* from, index stride, const matrix_view<E>& to, range rows) noexcept {
  for (index i = 0; i < rows.size(); ++i)
    store_elements(from + i * stride, to.cols, to.at(rows.first + i), to.col_stride);
}

/// Per query: LSE in the units of the softmax (0 where the row sees no key), delta = sum_c dO O - dLSE;
/// returns the gradient of a sink's logit, -sum_i P_sink delta.
template <class Arch, class Gradients, class T = typename Gradients::compute>
FOVEA_NOINLINE double row_terms(const Gradients& g, index b, index h, const gradient_scratch<T>& memory,
                                T* lse, T* delta) noexcept {
  constexpr index n = lanes<Arch, T>;
  using V = vec<Arch, T>;
  const auto& p = g.forward;
  const index width = round_up(p.value_dim(), n), block = gradient_shape<Arch, T>(p.dim()).rows;
  const auto out_of = operand_of<Arch>(g.out.head(b, h), width, memory.q_copy);
  const auto d_out_of = operand_of<Arch>(g.d_out.head(b, h), width, memory.d_out_copy);
  const auto lse_of = g.lse.head(b, h), d_lse_of = g.d_lse.head(b, h);
  double of_sink = 0;
  for (range rows{0, 0}; rows.first < lse_of.rows; rows.first = rows.last) {
    rows.last = std::min(rows.first + block, lse_of.rows);
    const auto out = out_of.read(rows), d_out = d_out_of.read(rows);
    for (index i = 0; i < rows.size(); ++i) {
      V sum(T(0));
      for (index c = 0; c < width; c += n)
        sum = isa<Arch>::fma(V::load_unaligned(out.data + i * out.stride + c),
                             V::load_unaligned(d_out.data + i * d_out.stride + c), sum);
      const index row = rows.first + i;
      const T natural = lse_of(row, 0);
      alignas(64) T sums[n];
      sum_over_lanes<Arch, T>(sum).store_aligned(sums);
      const bool empty = natural == hidden<T>;
      lse[row] = empty ? T(0)
                 : Gradients::units == unit_of::log2
                     ? static_cast<T>(static_cast<double>(natural) * std::numbers::log2e)
                     : natural;
      delta[row] = empty ? T(0) : sums[0] - (g.d_lse.all.data ? d_lse_of(row, 0) : T(0));
      if constexpr (sink_like<decltype(p.sink)>)
        if (!empty)
          of_sink -= std::exp(static_cast<double>(p.sink.logit(h)) - static_cast<double>(natural)) *
                     static_cast<double>(delta[row]);
    }
  }
  return of_sink;
}

/// dK and dV of the keys and, for `d_q_of(head)`, what these keys add to dQ.
/// `terms_of(head)` gives {lse, delta} of the rows; `close(keys, d_k, d_v)` takes a superblock's sums.
template <class Arch, class Gradients, class T, class DQ, class Terms, class Close>
FOVEA_INLINE void differentiate_keys(const Gradients& g, const gradient_job& job,
                                     const gradient_scratch<T>& memory, const DQ& d_q_of,
                                     const Terms& terms_of, const Close& close) noexcept {
  using group_type = key_group<Arch, T>;
  constexpr index n = lanes<Arch, T>;
  const auto& p = g.forward;
  const gradient_shape<Arch, T> shape(p.dim());
  const index b = job.batch, width = round_up(p.dim(), n), value_width = round_up(p.value_dim(), n);
  const index group_elements = shape.lanes_a_group * (p.dim() + p.value_dim());
  const auto k = p.k.head(b, job.kv_head);
  const auto v = p.v.head(b, job.kv_head);
  const auto k_of = operand_of<Arch>(k, width, memory.k_copy);
  const T scale = p.scale;

  for (index h = job.heads.first; h < job.heads.last; ++h) clear_rows<Arch>(d_q_of(h), p.q.tokens(b), width);

  for (range keys = job.keys; !keys.empty(); keys.first = keys.last, keys.last = job.keys.last) {
    keys.last = std::min(keys.first + shape.keys, job.keys.last);
    block_rows<Arch, T> k_rows(k_of.read(keys), keys.size());  // (C, d)
    const auto group_from = [&](index first) FOVEA_INLINE_LAMBDA {
      const index number = (first - keys.first) / shape.lanes_a_group;
      return group_type(shape, {first, std::min(first + shape.lanes_a_group, keys.last)}, p.dim(),
                        p.value_dim(), memory.panels + number * group_elements, memory.p, memory.ds);
    };
    for (index first = keys.first; first < keys.last; first += shape.lanes_a_group)
      group_from(first).pack_keys(k, p.factor(), v, scale);
    clear_rows<Arch>(sums_of_rows<T>{memory.d_k, width}, keys.size(), width);
    clear_rows<Arch>(sums_of_rows<T>{memory.d_v, value_width}, keys.size(), value_width);

    for (index h = job.heads.first; h < job.heads.last; ++h) {
      const auto rules = p.rules.bind(p.at(b, h));
      const auto dropout = p.dropout.bind(p.at(b, h));
      const auto of_cells = gradients_of_cells<softmax_state<Arch, T, Gradients::units>>(rules, dropout);
      const auto q_of = operand_of<Arch>(p.q.head(b, h), width, memory.q_copy);
      const auto d_out_of = operand_of<Arch>(g.d_out.head(b, h), value_width, memory.d_out_copy);
      const auto terms = terms_of(h);
      const sums_of_rows<T> d_q = d_q_of(h);
      for (range rows{0, 0}; rows.first < p.q.tokens(b); rows.first = rows.last) {
        rows.last = std::min(rows.first + shape.rows, p.q.tokens(b));
        if (intersect(reach_of(rules.mask, rows, keys.last), keys).empty()) continue;
        block_rows<Arch, T> q_rows(q_of.read(rows), rows.size()),
            d_out_rows(d_out_of.read(rows), rows.size());
        const gradient_rows<T> block{
            rows,       q_rows.from(0),         d_out_rows.from(0),      d_q.data + rows.first * d_q.stride,
            d_q.stride, terms.lse + rows.first, terms.delta + rows.first};
        for (index first = keys.first; first < keys.last; first += shape.lanes_a_group) {
          auto group = group_from(first);
          if (!group.look(rules.mask, rows)) continue;
          const bool may_hide = rules.hide || group.hides();
          const index skipped = first - keys.first;

          group.score(block, of_cells.plain);                 // (R, C)   P = exp(Q K^T - LSE)
          group.differentiate(block, scale, of_cells.plain);  // (R, C)   dS = P (dO V^T - D)
          if (!of_cells.plain || group.hides()) group.revise(block, scale, of_cells);
          const bool finite = !may_hide || (q_rows.finite() && d_out_rows.finite() && k_rows.finite());
          group.add_to_values(block, finite, memory.d_v + skipped * value_width,
                              value_width);  // (C, dv)  dV += P^T dO
          group.add_to_keys(block, finite, memory.d_k + skipped * width,
                            width);                                          // (C, d)   dK += dS^T Q
          group.add_to_queries(block, k_rows.from(skipped), finite, width);  // (R, d)   dQ += dS K
        }
      }
    }
    close(keys, memory.d_k, memory.d_v);
  }
}

}  // namespace kernel
FOVEA_NAMESPACE_END
