// fovea/kernel/backward/gradient_block.hpp - one job of the backward pass: keys of one key/value head against
// all queries that see them. Scores are computed again from the LSE; nothing of size Lq x Lk is kept.
// The loop of the paper: Dao, "FlashAttention-2", arXiv:2307.08691, algorithm 2:
//   P = exp(S - LSE)   dV = P^T dO   dP = dO V^T   dS = P (dP - D)   dQ = dS K   dK = dS^T Q,
//   D = sum_c dO O - dLSE
#pragma once

#include <fovea/kernel/backward/key_group.hpp>
#include <fovea/kernel/problem.hpp>
#include <fovea/kernel/rules/dropout.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// What a backward call is about: the forward call, what it gave, and where the gradients go.
template <class Problem, class OE, class GE, class DQ, class DK, class DV>
struct gradient_problem {
  using compute = typename Problem::compute;
  static constexpr unit_of units = Problem::units;
  static constexpr bool hides = Problem::rules_hide || Problem::drops;  // whatever the mask says

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
                                             const V& lse, const V& delta, const V& least) const noexcept {
    using T = typename V::value_type;
    auto [x, slope] = rules.template score_and_slope<From>(s, at);
    if (covered == coverage::partial)
      x = xsimd::select(at.truth(visible_at(rules.mask, at)), x, V(hidden<T>));
    const auto unseen = x == V(hidden<T>);
    V p = xsimd::select(unseen, V(T(0)), State::exp(x - lse, least)), kept = dp;
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

/// Where a job of the backward pass works.
template <class T>
struct gradient_scratch {
  T *panels, *d_k, *d_v, *p, *ds, *q_copy, *d_out_copy, *k_copy;
};

/// Keys of one key/value head, and which of its query heads; which part of the heads and span of the keys
/// these are.
struct gradient_job {
  index_type batch, kv_head, part, span;
  range heads, keys;
};

template <class Arch, class T>
FOVEA_NOINLINE void clear_rows(const sums_of_rows<T>& sums, index_type rows, index_type width) noexcept {
  for (index_type i = 0; i < rows; ++i) std::fill_n(sums.data + i * sums.stride, width, T(0));
}

template <class Arch, class T, class E>
FOVEA_NOINLINE void write_rows(const T* from, index_type stride, const matrix_view<E>& to,
                               range rows) noexcept {
  for (index_type i = 0; i < rows.size(); ++i)
    store_elements(from + i * stride, to.cols, to.at(rows.first + i), to.col_stride);
}

/// Per query: LSE in the units of the softmax (0 where the row sees no key), delta = sum_c dO O - dLSE;
/// returns the gradient of a sink's logit, -sum_i P_sink delta.
template <class Arch, class Gradients, class T = typename Gradients::compute>
FOVEA_NOINLINE double row_terms(const Gradients& g, index_type b, index_type h,
                                const gradient_scratch<T>& memory, T* lse, T* delta) noexcept {
  constexpr index_type n = lanes<Arch, T>;
  using V = vec<Arch, T>;
  const auto& p = g.forward;
  const index_type width = round_up(p.value_dim(), n), block = gradient_shape<Arch, T>(p.dim()).rows;
  const auto out_of = operand_of<Arch>(g.out.head(b, h), width, memory.q_copy);
  const auto d_out_of = operand_of<Arch>(g.d_out.head(b, h), width, memory.d_out_copy);
  const auto lse_of = g.lse.head(b, h), d_lse_of = g.d_lse.head(b, h);
  double of_sink = 0;
  for (range rows{0, 0}; rows.first < lse_of.rows; rows.first = rows.last) {
    rows.last = std::min(rows.first + block, lse_of.rows);
    const auto out = out_of.read(rows), d_out = d_out_of.read(rows);
    for (index_type i = 0; i < rows.size(); ++i) {
      V sum(T(0));
      for (index_type c = 0; c < width; c += n)
        sum = isa<Arch>::fma(V::load_unaligned(out.data + i * out.stride + c),
                             V::load_unaligned(d_out.data + i * d_out.stride + c), sum);
      const index_type row = rows.first + i;
      const T natural = lse_of(row, 0);
      alignas(64) T sums[std::size_t{n}];
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

/// Keys in groups of lanes, packed; as rows, too; and the sums of their dK and dV, which stay in L2.
template <class Arch, class T>
class key_superblock {
 public:
  /// `rows`: the keys' rows, registers wide.
  FOVEA_INLINE key_superblock(range keys, index_type dim, index_type value_dim, const rows_of<T>& rows,
                              const gradient_scratch<T>& memory) noexcept
      : shape_(dim),
        keys_(keys),
        dim_(dim),
        value_dim_(value_dim),
        memory_(memory),
        rows_(rows, keys.size()) {}

  FOVEA_INLINE range all() const noexcept { return keys_; }
  FOVEA_INLINE const gradient_shape<Arch, T>& shape() const noexcept { return shape_; }
  FOVEA_INLINE index_type width() const noexcept { return round_up(dim_, lanes<Arch, T>); }
  FOVEA_INLINE index_type value_width() const noexcept { return round_up(value_dim_, lanes<Arch, T>); }
  /// Whether no row holds NaN or infinities.
  FOVEA_INLINE bool finite() noexcept { return rows_.finite(); }

  /// Packs K^T * k_scale and V^T * v_scale; sums start at 0.
  template <class K, class Values>
  FOVEA_INLINE void open(const K& k, T k_scale, const Values& v, T v_scale) const noexcept {
    each_group([&](const auto& group, index_type)
                   FOVEA_INLINE_LAMBDA { group.pack_keys(k, k_scale, v, v_scale); });
    clear_rows<Arch>(d_k(keys_.first), keys_.size(), width());
    clear_rows<Arch>(d_v(keys_.first), keys_.size(), value_width());
  }
  /// f(group, its first key) for each.
  template <class F>
  FOVEA_INLINE void each_group(F&& f) const noexcept {
    const index_type lanes = shape_.lanes_a_group;
    for (index_type first = keys_.first; first < keys_.last; first += lanes)
      f(key_group<Arch, T>(shape_, {first, std::min(first + lanes, keys_.last)}, dim_, value_dim_,
                           memory_.panels + (first - keys_.first) * (dim_ + value_dim_), memory_.p,
                           memory_.ds),
        first);
  }
  FOVEA_INLINE rows_of<T> rows_from(index_type key) const noexcept { return rows_.from(key - keys_.first); }
  FOVEA_INLINE sums_of_rows<T> d_k(index_type key) const noexcept {
    return {memory_.d_k + (key - keys_.first) * width(), width()};
  }
  FOVEA_INLINE sums_of_rows<T> d_v(index_type key) const noexcept {
    return {memory_.d_v + (key - keys_.first) * value_width(), value_width()};
  }

 private:
  gradient_shape<Arch, T> shape_;
  range keys_;
  index_type dim_, value_dim_;
  gradient_scratch<T> memory_;
  block_rows<Arch, T> rows_;
};

/// What one query head of a group adds to dK and dV of a superblock of keys, and these to its dQ; `terms`:
/// {lse, delta} of its rows.
template <class Arch, class Gradients, class T, class Terms>
FOVEA_INLINE void differentiate_head(const Gradients& g, index_type b, index_type h,
                                     key_superblock<Arch, T>& keys, const sums_of_rows<T>& d_q,
                                     const Terms& terms, const gradient_scratch<T>& memory) noexcept {
  const auto& p = g.forward;
  const auto rules = p.rules.bind(p.at(b, h));
  const auto of_cells =
      gradients_of_cells<softmax_state<Arch, T, Gradients::units>>(rules, p.dropout.bind(p.at(b, h)));
  const auto q_of = operand_of<Arch>(p.q.head(b, h), keys.width(), memory.q_copy);
  const auto d_out_of = operand_of<Arch>(g.d_out.head(b, h), keys.value_width(), memory.d_out_copy);
  constexpr bool plain = of_cells.plain, always_hides = Gradients::hides;

  for (range rows{0, 0}; rows.first < p.q.tokens(b); rows.first = rows.last) {
    rows.last = std::min(rows.first + keys.shape().rows, p.q.tokens(b));
    if (intersect(reach_of(rules.mask, rows, keys.all().last), keys.all()).empty()) continue;
    block_rows<Arch, T> q(q_of.read(rows), rows.size());          // (R, d)
    block_rows<Arch, T> d_out(d_out_of.read(rows), rows.size());  // (R, dv)
    const gradient_rows<T> block{rows,
                                 q.from(0),
                                 d_out.from(0),
                                 d_q.data + rows.first * d_q.stride,
                                 d_q.stride,
                                 terms.lse + rows.first,
                                 terms.delta + rows.first};
    keys.each_group([&](auto group, index_type first) FOVEA_INLINE_LAMBDA {  // k (C, d)   v (C, dv)
      if (!group.look(rules.mask, rows)) return;
      const bool hides = always_hides || group.hides();
      const bool finite = !hides || (q.finite() && d_out.finite() && keys.finite());
      group.score(block, plain, finite);           // (R, C)   P = exp(Q K^T - LSE)
      group.differentiate(block, p.scale, plain);  // (R, C)   dS = P (dO V^T - D)
      if (!plain || group.hides()) group.revise(block, p.scale, of_cells, finite);
      group.add_to_values(block, finite, keys.d_v(first));                       // (C, dv)  dV += P^T dO
      group.add_to_keys(block, finite, keys.d_k(first));                         // (C, d)   dK += dS^T Q
      group.add_to_queries(block, keys.rows_from(first), finite, keys.width());  // (R, d)   dQ += dS K
    });
  }
}

/// dK and dV of the keys and, for `d_q_of(head)`, what these keys add to dQ.
/// `terms_of(head)` gives {lse, delta} of the rows; `close(keys, d_k, d_v)` takes a superblock's sums.
template <class Arch, class Gradients, class T, class DQ, class Terms, class Close>
FOVEA_INLINE void differentiate_keys(const Gradients& g, const gradient_job& job,
                                     const gradient_scratch<T>& memory, const DQ& d_q_of,
                                     const Terms& terms_of, const Close& close) noexcept {
  const auto& p = g.forward;
  const index_type b = job.batch, width = round_up(p.dim(), lanes<Arch, T>);
  const auto k = p.k.head(b, job.kv_head);
  const auto v = p.v.head(b, job.kv_head);
  const auto k_of = operand_of<Arch>(k, width, memory.k_copy);
  for (index_type h = job.heads.first; h < job.heads.last; ++h)
    clear_rows<Arch>(d_q_of(h), p.q.tokens(b), width);

  for (range some = job.keys; !some.empty(); some.first = some.last, some.last = job.keys.last) {
    some.last = std::min(some.first + gradient_shape<Arch, T>::keys, job.keys.last);
    key_superblock<Arch, T> keys(some, p.dim(), p.value_dim(), k_of.read(some), memory);
    keys.open(k, p.factor(), v, p.scale);
    for (index_type h = job.heads.first; h < job.heads.last; ++h)
      differentiate_head<Arch>(g, b, h, keys, d_q_of(h), terms_of(h), memory);
    close(some, memory.d_k, memory.d_v);
  }
}

}  // namespace kernel
FOVEA_NAMESPACE_END
