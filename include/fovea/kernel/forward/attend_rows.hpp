// fovea/kernel/forward/attend_rows.hpp - one job of the form with dim in lanes: a few query rows that
// share a key/value head, against a span of its keys. What decoding runs: each key and value is read once.
#pragma once

#include <fovea/kernel/forward/row_values.hpp>
#include <fovea/kernel/problem.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// State: what a row keeps beside its sums, and what its logits become. Mixer: what these are summed with.
/// Both may be others than the softmax and V:
///   State   open(panel)                 of no key
///           absorb(panel, block)        S -> P; sets the panel's factors
///   Mixer   open(panel)
///           add(panels, block)          all rows at once: each value is read once
/// (A job of several key/value heads, each step for all of them before the next, hid the latency of a lone
/// key, 16 % less time, but took 10 % more for 8 queries of 8 keys and 14 % more for 1 of 128.)
template <class Arch, class T, class State, class Mixer>
FOVEA_NOINLINE void walk_rows(const row_job<Arch, T>& job, const row_panels<Arch, T>& panels,
                              const State& state, const Mixer& mixer) noexcept {
  for (const auto& q : panels) job.open(q), state.open(q), mixer.open(q);
  row_key_blocks<Arch, T> block(job);
  while (block.next()) {  // k (C, d)   v (C, dv)   of a panel: q (R, d)   o (R, dv)
    block.dot(panels);    // (R, C)   S = Q K^T
    for (const auto& s : panels) {
      apply_rules(job, s, block);  // (R, C)   S = score(S), hidden cells -inf
      state.absorb(s, block);      // (R, C)   P = exp(S - m)
      drop(job, s, block.keys);    // (R, C)
    }
    mixer.add(panels, block);  // (R, dv)  O = O * shrink + P V
  }
}

/// The query heads of a key/value head: what the job of a walk refers to.
template <class Arch, class Problem, class T = typename Problem::compute>
struct row_group {
  const Problem& p;
  row_block at;
  place of_first_head;
  group_rules<decltype(Problem::rules), std::remove_cvref_t<decltype(Problem::dropout)>> rules;
  decltype(operand_of<Arch>(p.k.head(0, 0), 0, static_cast<T*>(nullptr))) keys;

  row_group(const Problem& of, const row_block& rows, T* key_copy) noexcept
      : p(of),
        at(rows),
        of_first_head(p.at(at.batch, at.kv_head * p.group())),
        rules(p.rules, p.dropout, of_first_head, p.group()),
        keys(operand_of<Arch>(p.k.head(at.batch, at.kv_head), read_width<Arch, T>(p.dim()), key_copy)) {}
  row_group(const row_group&) = delete;

  row_job<Arch, T> job(range span, T scale, const row_memory<T>& memory) noexcept {
    return {at,     span,           queries(), p.dim(), scale, logits(), row_rules_ref<Arch, T>(rules),
            memory, p.from_memory};
  }

  /// Whether products of K are of pairs of bf16.
  static constexpr bool may_pair = Problem::scores_dots && pairs_channels_of<Arch, typename Problem::read>;
  bool in_pairs() const noexcept {
    return may_pair && keys.in_place() && p.dim() >= paired_channels<Arch>;
  }

 private:
  static constexpr dot_product_of_pairs pairs = {};
  row_queries_ref<Arch, T> queries() const noexcept {
    if constexpr (may_pair)
      if (in_pairs()) return {p.q, at.batch, of_first_head.head, as_bf16_pairs()};
    return {p.q, at.batch, of_first_head.head};
  }
  row_scorer_ref<Arch, T> logits() const noexcept {
    if constexpr (may_pair)
      if (in_pairs()) return {pairs, of_first_head, keys};
    return {p.scorer, of_first_head, keys};
  }
};

/// What rows keep while they attend: O, and the softmax's state.
template <class Arch, class T>
row_registers attending_rows(index_type value_dim) noexcept {
  return {registers_of<Arch, T>(value_dim), row_softmax<Arch, T>::registers};
}

/// How a call's logits become weights.
template <class Arch, class Problem, class T = typename Problem::compute>
auto row_weights_of(const Problem& p) noexcept {
  constexpr bool natural = Problem::units == unit_of::natural;
  if constexpr (Problem::normalises)
    return row_softmax<Arch, T>{natural};
  else
    return row_sigmoid<Arch, T>{natural, p.bias()};
}

/// The rows' states over the keys of `span`.
template <class Arch, class Problem, class Weights = no_weights, class T = typename Problem::compute>
FOVEA_NOINLINE void attend_rows(const Problem& p, const row_block& at, range span, const row_memory<T>& rows,
                                const scratch<T>& memory, const Weights& weights = {}) noexcept {
  row_group<Arch, Problem> group(p, at, memory.keys);
  const auto values =
      operand_of<Arch>(p.v.head(at.batch, at.kv_head), read_width<Arch, T>(p.value_dim()), memory.values);
  const row_values_ref<Arch, T> v(values);
  row_job<Arch, T> job = group.job(span, p.factor(), rows);
  job.values = &v, job.drops = p.drops_weights(), job.logits_stride = logits_a_row<T>(p.k.tokens(at.batch));
  walk_rows(job, row_panels<Arch, T>(at, rows, p.dim(), attending_rows<Arch, T>(p.value_dim())),
            weights.state(row_weights_of<Arch>(p), job, at.batch, group.of_first_head.head),
            row_values<Arch, T>{});
}

/// Writes the rows' results: the states over `spans` spans of the keys, each `stride` bytes after the one
/// before, are merged in order.
template <class Arch, class Problem, class Weights = no_weights, class T = typename Problem::compute>
FOVEA_NOINLINE void close_rows(const Problem& p, const row_block& at, index_type spans, index_type stride,
                               const row_memory<T>& memory, const Weights& weights = {}) noexcept {
  const index_type first_head = at.kv_head * p.group();
  const auto state = row_weights_of<Arch>(p);
  const row_results_ref<Arch, T> out(p.out, at.batch, first_head);
  for (const auto& rows : row_panels<Arch, T>(at, memory, p.dim(), attending_rows<Arch, T>(p.value_dim()))) {
    for (index_type i = 1; i < spans; ++i) state.merge(rows, rows.at_state(i * stride));
    if constexpr (sink_like<decltype(p.sink)>)
      for (index_type r = 0; r < rows.count() && has_sink(p.sink); ++r)
        state.absorb_sink(rows, r, static_cast<T>(p.sink.logit(first_head + rows.head(r))));
    write_values(rows, state, out, p.lse, at.batch, first_head);
    weights.close(rows, state, p, at.batch, first_head);
  }
}

}  // namespace kernel
FOVEA_NAMESPACE_END
