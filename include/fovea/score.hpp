// fovea/score.hpp - what happens to the logits s = scale * Q K^T before the softmax.
//
//   softcap{cap}                   s -> cap * tanh(s / cap), always first
//   alibi{slopes}                  s -> s - slopes[h] * |q - k|
//   bias(m)                        s -> s + m(q, k); broadcasts to batch x heads x Lq x Lk; -inf hides
//   score(f)                       s -> f(s, q, k) or f(s, b, h, q, k), any function, written once for
//                                  scalars and SIMD batches
//   sink{logits}                   exp(logits[h]) joins the denominator
//   off_by_one                     1 joins it
//   dropout{rate, seed}            after the softmax: weights are left out at random, for training
//
// A score of your own is a struct with `stage` and apply(s, q, k) (see score/concept.hpp).
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/score/alibi.hpp>
#include <fovea/score/bias.hpp>
#include <fovea/score/dropout.hpp>
#include <fovea/score/function.hpp>
#include <fovea/score/sink.hpp>
#include <fovea/score/softcap.hpp>
#include <fovea/view.hpp>

FOVEA_NAMESPACE_BEGIN

/// Real numbers of any precision; not the integers of caches.
template <class E>
inline constexpr bool is_bias_element = element<E> && !std::is_integral_v<E>;

/// An additive mask in memory: an Eigen matrix Lq x Lk, or a tensor_view whose sizes are each 1 or the full
/// batch, heads, Lq, Lk; any floating-point element. -inf hides a cell. Elements are read during the call.
template <viewable M>
auto bias(M&& m) {
  static_assert(outlives_call<M>, "fovea: bias keeps a view; give it a named matrix, not a temporary");
  static_assert(
      is_bias_element<element_of<M>>,
      "fovea: bias is of real numbers, which are added to the logits; a mask of bool or integers, true "
      "keeps, is boolean_mask(m)");
  return bias_matrix<broadcast<const element_of<M>>>{broadcast_of(m, "bias")};
}

/// The same, to be learnt: a backward call writes the gradient of each element to `gradient`, of the same
/// sizes as m, summed over batch entries, heads, queries or keys where a size of m is 1.
template <viewable M, viewable G>
auto bias(M&& m, G&& gradient) {
  static_assert(outlives_call<M> && outlives_call<G>,
                "fovea: bias keeps views; give it named matrices, not temporaries");
  static_assert(is_bias_element<element_of<M>> && is_bias_element<element_of<G>>,
                "fovea: bias and its gradient are of real numbers");
  const auto to = as_sequences(gradient, any_heads, "gradient").all;
  using table = broadcast<const element_of<M>>;
  return learnt_bias_matrix<table, std::remove_const_t<decltype(to)>>{{broadcast_of(m, "bias")}, to};
}

FOVEA_NAMESPACE_END
