// fovea/attention_inside.hpp - looking inside: what an attention object tells of its logits and weights.
//
//   attend.weights(q, k, fovea::causal)                   the probabilities
//   attend.scores(q, k, fovea::causal)                    the logits
//   attend.statistics(q, k, fovea::causal)                entropy, distance, largest weight of each row
//   attend.received(q, k, fovea::causal)                  what each key receives
//   attend.sweep(largest_key(), q, k, fovea::causal)      what a state keeps of each row's logits
//   attend.mix(mean_position(), q, k, fovea::causal)      what a mixer sums with the softmax's weights
#pragma once

#include <fovea/check_types.hpp>
#include <fovea/mask/intersection.hpp>
#include <fovea/plan/build_problem.hpp>
#include <fovea/plan/heads.hpp>
#include <fovea/plan/run.hpp>
#include <fovea/plan/sweeps.hpp>
#include <fovea/received.hpp>
#include <fovea/row_statistics.hpp>
#include <fovea/view/tensor.hpp>

FOVEA_NAMESPACE_BEGIN

/// The part of attention<T, Heads, KVHeads> that needs no values. Errors are those of attention's calls. All
/// of it uses the executor, with the same bits for any number of workers.
template <class T, int Heads, int KVHeads, class Arch>
class attention_inside {
  static_assert(element<T>, "fovea: attention<T>: T is float, double, fovea::bf16 or fovea::fp16");
  static_assert(Heads == dynamic_heads || Heads > 0,
                "fovea: attention<T, Heads>: Heads is positive, or dynamic_heads");
  static_assert(KVHeads == dynamic_heads || (KVHeads > 0 && (Heads == dynamic_heads || Heads % KVHeads == 0)),
                "fovea: attention<T, Heads, KVHeads>: KVHeads divides Heads");

 public:
  attention_inside() = default;
  explicit attention_inside(const attention_options& options) : options_(options) {
    check_heads("heads", options.heads, Heads), check_heads("kv_heads", options.kv_heads, KVHeads);
    if (options.scale && !is_finite(*options.scale))
      reject("scale is ", *options.scale, ", not a finite number");
  }
  template <class N>
    requires std::is_arithmetic_v<N>
  explicit attention_inside(N) {
    static_assert(never<N>, "fovea: options are named: attention<float, 8>{{.scale = 0.1}}, or .heads");
  }

  /// The probabilities softmax(score(scale * Q K^T)), batch x heads x Lq x Lk: memory O(Lq Lk).
  template <class Q, class K, class... Mods>
  auto weights(const Q& q, const K& k, const Mods&... mods) const {
    return score_matrices(true, q, k, mods...);
  }

  /// The probabilities of one query head, like q: Lq x Lk for matrices, batch x 1 x Lq x Lk for tensors. In
  /// the rows of a ragged batch, columns from a sequence's number of keys on are 0.
  template <class Q, class K, class... Mods>
  auto weights_of(index_type head, const Q& q, const K& k, const Mods&... mods) const {
    const index_type heads = heads_of(q);
    if (head < 0 || head >= heads) reject("head ", head, " is not one of ", heads);
    auto p = problem_of_keys(q, k, mods...);
    auto one = make_like<typename decltype(p)::compute>(q, 1, p.k.max_tokens());
    auto&& like_q = shaped_like(q, one);
    const auto rows = as_sequences(like_q, 1, "weights");
    fill_rows_of_none(rows);
    write_matrices(true, {head, head + 1}, p, rows);
    return one;
  }

  /// What enters the softmax: score(scale * Q K^T), batch x heads x Lq x Lk; -inf where a cell is masked, or
  /// a sequence has no such query or key.
  template <class Q, class K, class... Mods>
  auto scores(const Q& q, const K& k, const Mods&... mods) const {
    return score_matrices(false, q, k, mods...);
  }

  /// The LSE of each row, and entropy, mean distance and largest probability (row_statistics.hpp), in one
  /// sweep over blocks of keys: the numbers of statistics_of(weights(q, k, mods...)) in memory O(Lq).
  template <class Q, class K, class... Mods>
  row_statistics statistics(const Q& q, const K& k, const Mods&... mods) const {
    const auto p = problem_of_keys(q, k, mods...);
    row_statistics rows(p.q.batches(), p.heads(), p.q.max_tokens());
    measure_all<Arch>(p, options_.executor, rows.writer());
    return rows;
  }

  /// What each key receives, sum_ih P_hij over the queries and the query heads of its group, from 0: batch x
  /// kv_heads x Lk x 1. To sum over calls, or beside a result: add_received (received.hpp), which says more.
  template <class Q, class K, class... Mods>
  auto received(const Q& q, const K& k, const Mods&... mods) const {
    const auto p = problem_of_keys(q, k, mods...);
    tensor<typename decltype(p)::compute> sums(p.k.batches(), p.k.heads(), p.k.max_tokens(), 1);
    const auto summed = with_received(p, add_received(sums));
    run<Arch>(summed, make_plan<Arch>(summed, options_.executor.workers()), options_.executor, {});
    return sums;
  }

  /// A fold over the logits of each row: state.absorb(stored, s_ij, j) for the keys j that are visible, in
  /// their order, with s = score(scale * Q K^T). Returns what was stored, batch x heads x Lq x state.columns,
  /// in float, or double where q or k is double; of a row that sees no key, what state.clear gave; of rows
  /// behind the end of a shorter sequence, 0. `state`: see roles/concept.hpp. Neither sink nor dropout takes
  /// part. Cost: 2 Lq Lk d operations a head and the state's, less what masks hide in whole blocks; memory
  /// O(Lq).
  template <state_like State, class Q, class K, class... Mods>
  auto sweep(const State& state, const Q& q, const K& k, const Mods&... mods) const {
    return columns_of_rows(
        State::columns,
        [&](const auto& p, const auto& stored) { fold_all<Arch>(p, options_.executor, state, stored); }, q, k,
        mods...);
  }

  /// Softmax weights summed with something that is no stored value: o_ic is the fold of mixer.add(sum, P_ij,
  /// j, c) over the keys j, from 0, with P = softmax(score(scale * Q K^T)), sink and dropout included.
  /// Returns o, batch x heads x Lq x mixer.columns, in float, or double where q or k is double; 0 for a row
  /// that sees no key. `mixer`: see roles/concept.hpp. Cost as for sweep.
  template <mixer_like Mixer, class Q, class K, class... Mods>
  auto mix(const Mixer& mixer, const Q& q, const K& k, const Mods&... mods) const {
    return columns_of_rows(
        Mixer::columns,
        [&](const auto& p, const auto& sums) { mix_all<Arch>(p, options_.executor, mixer, sums); }, q, k,
        mods...);
  }

 protected:
  /// What numbers are computed in.
  template <class... X>
  using compute_of = common_compute_t<T, element_of<X>...>;

  template <class Q>
  index_type heads_of(const Q& q) const {
    return query_heads<Heads>(options_, q);
  }
  index_type kv_heads_of(index_type heads) const { return key_value_heads<KVHeads>(options_, heads); }

  attention_options options_{};

 private:
  /// A call without values; k may be a cache.
  template <class Q, class K, class... Mods>
  auto problem_of_keys(const Q& q, const K& k, const Mods&... mods) const {
    static_assert(!(received_like<Mods> || ...), "fovea: add_received goes with calls that make a result");
    static_assert(!(rounding_like<Mods> || ...), "fovea: rounded_weights goes with calls that make a result");
    static_assert(!(weights_like<Mods> || ...), "fovea: weights_into goes with calls that make a result");
    static_assert(!(gate_like<Mods> || ...), "fovea: a gate goes with calls that make a result");
    static_assert(!(weighing_like<Mods> || ...), "fovea: these are of the softmax");
    static_assert(!(call_option<Mods> || ...),
                  "fovea: a plan or a workspace goes with calls that make a result: attend, into, with_lse");
    const auto& stored = keys_of(k);
    using keys_type = std::remove_cvref_t<decltype(stored)>;
    static_assert(check_call<T, Q, keys_type, keys_type, Mods...>());
    const index_type heads = heads_of(q), kv_heads = kv_heads_of(heads);
    const auto queries = view_of(q, heads, "q");
    const auto keys = view_of(stored, kv_heads, "k");
    return build_problem_of_keys<mask_intersection>(
        options_.scale, sequences<T>{}, sequences<compute_of<Q, keys_type>>{}, queries, keys, mods...);
  }

  /// Numbers of each row, batch x heads x Lq x columns, which write(problem, sequences) writes.
  template <class Write, class Q, class K, class... Mods>
  auto columns_of_rows(index_type columns, const Write& write, const Q& q, const K& k,
                       const Mods&... mods) const {
    const auto p = problem_of_keys(q, k, mods...);
    tensor<typename decltype(p)::compute> numbers(p.q.batches(), p.heads(), p.q.max_tokens(), columns);
    write(p, as_sequences(numbers, any_heads, "result"));
    return numbers;
  }

  /// The score matrices of all heads; and of some, to `to`: probabilities, given the LSE of a run without
  /// values, or logits.
  template <class Q, class K, class... Mods>
  auto score_matrices(bool probabilities, const Q& q, const K& k, const Mods&... mods) const {
    auto p = problem_of_keys(q, k, mods...);
    tensor<typename decltype(p)::compute> result(p.q.batches(), p.heads(), p.q.max_tokens(),
                                                 p.k.max_tokens());
    write_matrices(probabilities, {0, p.heads()}, p, as_sequences(result, any_heads, "result"));
    return result;
  }
  template <class Problem, class Compute>
  void write_matrices(bool probabilities, range heads, Problem& p, const sequences<Compute>& to) const {
    tensor<Compute> lse(p.q.batches(), p.heads(), p.q.max_tokens(), 1);
    p.lse = as_sequences(lse, any_heads, "lse");
    if (probabilities) run<Arch>(p, make_plan<Arch>(p, options_.executor.workers()), options_.executor, {});
    write_score_matrices<Arch>(p, options_.executor, heads, to, probabilities);
  }
};

FOVEA_NAMESPACE_END
