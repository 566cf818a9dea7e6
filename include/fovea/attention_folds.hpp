// fovea/attention_folds.hpp - the calls of an attention object with a state or a mixer of one's own.
//
//   attend.sweep(largest_key(), q, k, fovea::causal)      what a state keeps of each row's logits
//   attend.mix(mean_position(), q, k, fovea::causal)      what a mixer sums with the softmax's weights
#pragma once

#include <fovea/attention_call.hpp>
#include <fovea/plan/folds.hpp>

FOVEA_NAMESPACE_BEGIN

template <class T, int Heads, int KVHeads, class Arch>
class attention_folds : protected attention_call<T, Heads, KVHeads, Arch> {
  using call = attention_call<T, Heads, KVHeads, Arch>;

 protected:
  template <class... X>
  using compute_of = typename call::template compute_of<X...>;

 public:
  using call::call;

  /// A fold over the logits of each row: state.absorb(kept, s_ij, j) for the keys j that are visible, in
  /// their order, with s = score(scale * Q K^T). Returns what was kept, batch x heads x Lq x state.columns,
  /// in float, or double where q or k is double; of a row that sees no key, what state.clear gave; of rows
  /// behind the end of a shorter sequence, 0. `state`: see roles/concept.hpp. Errors as for a call; neither
  /// sink nor dropout takes part. Cost: 2 Lq Lk d operations a head and the state's, less what masks hide in
  /// whole blocks; memory O(Lq).
  template <state_like State, class Q, class K, class... Mods>
  auto sweep(const State& state, const Q& q, const K& k, const Mods&... mods) const {
    return folded<State::columns>(
        q, k, [&](const auto& p, const auto& to) { fold_all<Arch>(p, this->options_.executor, state, to); },
        mods...);
  }

  /// Softmax weights summed with something that is no stored value: o_ic is the fold of mixer.add(sum, P_ij,
  /// j, c) over the keys j, from 0, with P = softmax(score(scale * Q K^T)), sink and dropout included.
  /// Returns o, batch x heads x Lq x mixer.columns, in float, or double where q or k is double; 0 for a row
  /// that sees no key. `mixer`: see roles/concept.hpp. Errors and cost as for sweep.
  template <mixer_like Mixer, class Q, class K, class... Mods>
  auto mix(const Mixer& mixer, const Q& q, const K& k, const Mods&... mods) const {
    return folded<Mixer::columns>(
        q, k, [&](const auto& p, const auto& to) { mix_all<Arch>(p, this->options_.executor, mixer, to); },
        mods...);
  }

 private:
  template <int Columns, class Q, class K, class F, class... Mods>
  auto folded(const Q& q, const K& k, const F& fold, const Mods&... mods) const {
    static_assert(check_operand<Q>());
    const auto& keys = keys_of(k);
    using compute = compute_of<Q, decltype(keys)>;
    const auto p = this->problem_of_keys(sequences<compute>{}, q, keys, mods...);
    tensor<compute> columns(p.q.batches(), p.heads(), p.q.max_tokens(), Columns);
    fold(p, as_sequences(columns, any_heads, "result"));
    return columns;
  }
};

FOVEA_NAMESPACE_END
