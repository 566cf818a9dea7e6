// fovea/plan/modifiers.hpp - the masks, scores and sink of a call, in whatever order they were listed, as
// rules.
#pragma once

#include <fovea/kernel/problem.hpp>
#include <fovea/plan/options.hpp>

#include <cmath>
#include <optional>

FOVEA_NAMESPACE_BEGIN

/// What changes the numbers of a call.
template <class M>
concept modifier = mask_like<M> || score_like<M> || sink_like<M> || dropout_like<M>;

/// What tells a call where to add what each key receives (received.hpp).
template <class M>
concept received_like = requires { typename std::remove_cvref_t<M>::is_received; };

/// What tells a call where to write weights of some heads (weights_into.hpp).
template <class M>
concept weights_like = requires { typename std::remove_cvref_t<M>::is_weights; };

/// What results are multiplied by as they are written (gate.hpp).
template <class M>
concept gate_like = requires { typename std::remove_cvref_t<M>::is_gate; };

/// What lets a call round its weights (rounded_weights.hpp).
template <class M>
concept rounding_like = requires { typename std::remove_cvref_t<M>::is_rounded_weights; };

/// What weights are in place of a softmax (sigmoid_attention.hpp).
template <class M>
concept weighing_like = requires { typename std::remove_cvref_t<M>::is_weighing; };

/// What may follow q, k, v where a result is made.
template <class M>
concept call_modifier = modifier<M> || received_like<M> || weights_like<M> || gate_like<M> ||
                        weighing_like<M> || scorer_like<M> || rounding_like<M> || call_option<M>;

template <class M>
using is_mask = std::bool_constant<mask_like<M>>;
template <class M>
using is_sink = std::bool_constant<sink_like<M>>;
template <class M>
using is_scorer = std::bool_constant<scorer_like<M>>;
template <class M>
using is_dropout = std::bool_constant<dropout_like<M>>;
template <class M>
using is_weights_into = std::bool_constant<weights_like<M>>;
template <class M>
using is_gate = std::bool_constant<gate_like<M>>;
template <class M>
using is_weighing = std::bool_constant<weighing_like<M>>;
template <class M>
struct is_softcap : std::false_type {};
template <score_like M>
struct is_softcap<M> : std::bool_constant<M::stage == score_stage::softcap> {};
template <class M>
using is_bias = std::bool_constant<score_like<M> && !is_softcap<M>::value>;

/// Positions are numbers of 32 bits.
inline void check_positions(const place& at) {
  const auto check = [](const char* name, index_type tokens) {
    if (tokens > most_positions)
      reject(name, " has ", tokens, " tokens in a sequence, more than the ", most_positions,
             " that masks, scores and dropout can count");
  };
  check("q", at.queries), check("k", at.keys);
}

/// The first of a list of references, or an Otherwise of its own.
template <class Otherwise, class... X>
decltype(auto) first_of(const value_list<X...>& list) noexcept {
  if constexpr (sizeof...(X) > 0)
    return (list.first);
  else
    return Otherwise{};
}

/// The sink of a call, or kernel::no_sink; here and below references, as nothing of a user's is copied.
template <class... Mods>
decltype(auto) sink_of(const Mods&... mods) noexcept {
  static_assert((0 + ... + int(sink_like<Mods>)) <= 1, "fovea: a call has at most one sink");
  return first_of<kernel::no_sink>(keep<is_sink>(mods...));
}

/// The dropout of a call, or kernel::no_dropout.
template <class... Mods>
decltype(auto) dropout_of(const Mods&... mods) noexcept {
  static_assert((0 + ... + int(dropout_like<Mods>)) <= 1, "fovea: a call has at most one dropout");
  return first_of<kernel::no_dropout>(keep<is_dropout>(mods...));
}

/// The scorer of a call, or dot_product.
template <class... Mods>
decltype(auto) scorer_of(const Mods&... mods) noexcept {
  static_assert((0 + ... + int(scorer_like<Mods>)) <= 1, "fovea: a call has at most one scorer");
  return first_of<dot_product>(keep<is_scorer>(mods...));
}

/// The scale of a call's logits: of q . k the option, or 1 / sqrt(dim); a scorer's own have none.
template <class Scorer>
double scale_for(const Scorer&, const std::optional<double>& option, index_type dim) {
  if constexpr (std::is_same_v<Scorer, dot_product>)
    return option.value_or(1 / std::sqrt(static_cast<double>(std::max<index_type>(dim, 1))));
  if (option)
    reject("the option scale is ", *option, ", but a scorer makes logits of its own: it has no scale");
  return 1;
}

/// The rules of a call: softcaps, then the other scores as listed; Masks: the intersection to build.
template <template <class...> class Masks, class... Mods>
auto rules_of(const Mods&... mods) noexcept {
  const auto build = []<class... M, class... S>(const value_list<M...>& masks,
                                                const value_list<S...>& scores) {
    return kernel::rules<Masks<M...>, S...>{{masks}, scores};
  };
  return build(keep<is_mask>(mods...), concat(keep<is_softcap>(mods...), keep<is_bias>(mods...)));
}

FOVEA_NAMESPACE_END
