// fovea/kernel/forward/attend_lanes.hpp - one job: a block of query rows against all keys that they see.
// The loop of the paper: Dao, "FlashAttention-2", arXiv:2307.08691, algorithm 1.
#pragma once

#include <fovea/kernel/forward/lane_values.hpp>

#include <optional>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// State: what a query keeps beside its sums, and what its logits become. Mixer: what these are summed with,
/// and where that goes. Both may be others than the softmax and V; they are asked once a panel of a block:
///   State   columns                         registers that a register of queries keeps
///           open(panel)                     of no key
///           absorb(s, panel, block)         S -> P; sets s.shrink
///   Mixer   columns(), whole()              registers it keeps; whether it wants all keys as one block, and
///                                           is done with a panel's sums when it has added to them
///           open(panel)
///           add(p, panel, state, block)
///           close(panel, state)             after the last block, for panels that saw none as well
template <class Arch, class T, class State, class Mixer>
FOVEA_NOINLINE void walk_lanes(const lane_job<Arch, T>& job, const State& state,
                               const Mixer& mixer) noexcept {
  query_panels<Arch, T> panels(job.rows, job.memory.panels, job.dim, mixer.columns(), State::columns,
                               few_that_see_less(job), mixer.whole());
  const auto open = [&](auto& q) {
    if (!std::exchange(q.opened, true)) pack(job, q), state.open(q), mixer.open(q);
  };
  key_blocks<Arch, T> block(job, mixer.whole());
  while (block.next())        // k (C, d)   v (C, dv)
    for (auto& q : panels) {  // q (R, d)   o (R, dv)
      open(q);
      auto s = block.logits_of(q);  // (R, C)
      if (s.empty()) continue;
      dot(job, q, block, s);          // (R, C)   S = Q K^T
      apply_rules(job, s);            // (R, C)   S = score(S), hidden cells -inf
      state.absorb(s, q, block);      // (R, C)   P = exp(S - m)
      drop(job, s);                   // (R, C)
      mixer.add(s, q, state, block);  // (R, dv)  O = O * shrink + P V
    }
  for (auto& q : panels) {
    open(q);
    mixer.close(q, state);  // (R, dv)  O / l
  }
}

/// One query head of a call: what the job of a walk refers to.
template <class Arch, class Problem, class T = typename Problem::compute>
struct lane_head {
  static constexpr bool in_pairs = Problem::scores_dots && pairs_channels_of<Arch, typename Problem::read>;

  const Problem& p;
  index_type b, h;
  bound_rules<decltype(p.rules.bind(p.at(0, 0))), decltype(p.dropout.bind(p.at(0, 0)))> rules;
  decltype(bind_scorer(p.scorer, p.at(0, 0))) scorer;
  decltype(p.q.head(0, 0)) q;
  decltype(operand_in_lanes<Arch, in_pairs>(p.k.head(0, 0), p.dim(), static_cast<T*>(nullptr))) keys;
  scratch<T> memory;

  lane_head(const Problem& of, index_type batch, index_type head, const scratch<T>& given) noexcept
      : lane_head(of, of.at(batch, head), given) {}
  lane_head(const Problem& of, const place& at, const scratch<T>& given) noexcept
      : p(of),
        b(at.batch),
        h(at.head),
        rules{p.rules.bind(at), p.dropout.bind(at)},
        scorer(bind_scorer(p.scorer, at)),
        q(p.q.head(b, h)),
        keys(operand_in_lanes<Arch, in_pairs>(p.k.head(b, h / p.group()), p.dim(), given.keys)),
        memory(given) {}
  lane_head(const lane_head&) = delete;

  lane_job<Arch, T> job(range rows, T scale) const noexcept {
    return {rows,     {0, keys.all.rows},        p.dim(), queries(), scale, block_ref<T>(keys),
            logits(), rules_ref<Arch, T>(rules), memory};
  }

 private:
  static constexpr dot_product_of_pairs pairs = {};
  query_ref<Arch, T> queries() const noexcept {
    if constexpr (in_pairs)
      return {q, as_bf16_pairs()};
    else
      return query_ref<Arch, T>(q);
  }
  scorer_ref<Arch, T> logits() const noexcept {
    if constexpr (in_pairs)
      return scorer_ref<Arch, T>(pairs);
    else
      return scorer_ref<Arch, T>(scorer);
  }
};

/// Up to so many keys are one block. Where a mask shows parts of them with others between, which blocks of
/// their own skip, these are fewer. (AVX2, 197 keys, 3 of 5 blocks of 64 x 64 shown: 1.35 times as long in
/// one block. Documents, at which a job's rows are cut, take 15 % less in one.)
template <class Arch, class T, class Mask>
index_type keys_at_once(const Mask& mask, index_type value_dim) noexcept {
  return has_gaps(mask) ? index_type(geometry<Arch>::short_block) : short_block<Arch, T>(value_dim);
}

/// How a call's logits become weights.
template <class Arch, class Problem, class T = typename Problem::compute>
auto lane_weights_of(const Problem& p) noexcept {
  constexpr bool natural = Problem::units == unit_of::natural;
  if constexpr (Problem::normalises)
    return lane_softmax<Arch, T>{natural};
  else
    return lane_sigmoid<Arch, T>{natural, p.bias()};
}

/// Rows of one query head, queries in lanes.
template <class Arch, class Problem, class Weights = no_weights, class T = typename Problem::compute>
FOVEA_NOINLINE void attend_queries(const Problem& p, index_type b, index_type h, range rows,
                                   const scratch<T>& memory, const next_job& next,
                                   const Weights& weights = {}) noexcept {
  const lane_head<Arch, Problem> head(p, b, h, memory);
  const auto out = p.out.head(b, h);
  constexpr bool rounds = Problem::rounds_weights;
  const auto values =
      operand_in_lanes<Arch, rounds>(p.v.head(b, h / p.group()), p.value_dim(), memory.values);
  const block_ref<T> v(values);
  const result_ref<Arch, T> to(out);
  const auto state = lane_weights_of<Arch>(p);
  using weight = std::conditional_t<rounds, bf16_pair, T>;
  const lane_values<Arch, T, weight, std::remove_const_t<decltype(state)>> mixer(
      v, p.value_dim(), to, lse_rows<T>{p.wants_lse() ? p.lse.head(b, h) : matrix_view<T>{}},
      sink_ref<T>(p.sink, h, 1), keys_at_once<Arch, T>(head.rules.rules.mask, p.value_dim()));
  lane_job<Arch, T> job = head.job(rows, p.factor());
  job.values = &v, job.drops = p.drops_weights();
  job.asks = p.from_memory && rows.size() <= job.most_that_ask;
  std::optional<next_lines> lines;
  if (mixer.whole() && !next.rows.empty()) job.next = &lines.emplace(p, next, b, h);
  walk_lanes(job, weights.state(state, job, b, h), weights.mixer(mixer));
}

}  // namespace kernel
FOVEA_NAMESPACE_END
