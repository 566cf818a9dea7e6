// fovea/kernel/problem.hpp - all that a call is about, as kernels read it.
#pragma once

#include <fovea/kernel/rules/rules.hpp>
#include <fovea/kernel/scratch.hpp>
#include <fovea/kernel/softmax.hpp>
#include <fovea/roles/concept.hpp>
#include <fovea/view/sequences.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// No sink.
struct no_sink {};

/// No dropout.
struct no_dropout {
  static constexpr bool drops = false;
  no_dropout bind(const place&) const noexcept { return {}; }
};

/// Weights are not kept (kernel/sweep/kept_weights.hpp keeps them): a walk has its own state and mixer.
struct no_weights {
  static constexpr bool kept = false;
  const auto& state(const auto& softmax, const auto&...) const noexcept { return softmax; }
  const auto& mixer(const auto& values) const noexcept { return values; }
  void close(const auto&...) const noexcept {}
};

/// What is read. QE: the elements of q; Keys, Values: sequences, or what a cache shows of itself, with
/// heads(), dim(), batches(), tokens(b), max_tokens(), in_cache and head(b, h), which is a matrix_view or
/// reads like one.
template <class T, class QE, class Keys, class Values>
struct inputs {
  using read = inputs;
  using compute = T;
  using query_element = QE;

  sequences<const QE> q;
  Keys k;
  Values v;

  index_type heads() const noexcept { return q.all.heads; }
  /// (Heads that share nothing are told without a division: a job of few keys asks several times.)
  index_type group() const noexcept {
    const index_type of_keys = k.heads(), all = heads();
    return of_keys == all || of_keys == 0 ? 1 : all / of_keys;
  }
  index_type dim() const noexcept { return q.all.dim; }
  index_type value_dim() const noexcept { return v.dim(); }
  place at(index_type b, index_type h) const noexcept {
    return {b, h, q.batches(), heads(), q.tokens(b), k.tokens(b), k.in_cache};
  }
};

/// Out: the result, sequences or gated_sequences. Rules, Sink and Dropout are not bound to a head yet.
/// Scorer: dot_product, or a reference to a user's, the logits of which are in natural units (with a scale of
/// 1).
template <class T, class QE, class Keys, class Values, class Out, class Rules, class Sink, class Dropout,
          class Scorer = dot_product>
struct problem : inputs<T, QE, Keys, Values> {
  using plain = problem;
  static constexpr bool rules_hide = Rules::hide, drops = std::remove_cvref_t<Dropout>::drops,
                        receives = false, keeps_weights = false, rounds_weights = false, normalises = true;
  static constexpr bool scores_dots = std::is_same_v<std::remove_cvref_t<Scorer>, dot_product>;
  static constexpr unit_of units = Rules::natural || !scores_dots ? unit_of::natural : unit_of::log2;

  Out out;
  sequences<T> lse;  // no data: not wanted
  T scale;
  Rules rules;
  Sink sink;
  Dropout dropout;
  Scorer scorer;
  bool beyond_caches;  // K and V are larger than what a machine keeps near
  bool from_memory;    // ... so much that they come from memory each time

  /// The factor of q.k in the units that the softmax runs in.
  T factor() const noexcept {
    return units == unit_of::log2 ? static_cast<T>(static_cast<double>(scale) * std::numbers::log2e) : scale;
  }
  bool wants_lse() const noexcept { return lse.all.data != nullptr; }
  /// Whether weights are dropped; of a dropout that may drop nothing (with active()), this once.
  bool drops_weights() const noexcept { return is_active(dropout); }
};

/// A call that rounds weights to bf16, which V's elements are, for products of pairs.
template <class Problem>
struct with_rounded_weights : Problem {
  using plain = with_rounded_weights;
  static constexpr bool rounds_weights = true;
};

/// A call with weights of sigmoid(S + bias) in place of a softmax.
template <class Problem>
struct with_sigmoid : Problem {
  using plain = with_sigmoid;
  static constexpr bool normalises = false;
  double natural_bias;

  /// In the units of the logits.
  typename Problem::compute bias() const noexcept {
    return static_cast<typename Problem::compute>(
        Problem::units == unit_of::log2 ? natural_bias * std::numbers::log2e : natural_bias);
  }
};

/// A call that also writes the weights of the query heads `kept`, a matrix each, in this order.
template <class Problem>
struct with_weights : Problem {
  static constexpr bool keeps_weights = true;
  sequences<typename Problem::compute> weights;
  list_view<index_type> kept;
};

/// A call that also adds up, for each key, the probabilities of its column.
template <class Problem, class E>
struct with_key_mass : Problem {
  static constexpr bool receives = true;
  sequences<E> received;  // heads as k, one column, tokens of k or more
};

}  // namespace kernel
FOVEA_NAMESPACE_END
