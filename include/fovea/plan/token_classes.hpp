// fovea/plan/token_classes.hpp - a call whose mask shows every n-th key at most, as a call for each class of
// tokens: what is computed is what is visible.
#pragma once

#include <fovea/kernel/backward/gradient_problem.hpp>
#include <fovea/kernel/rules/token_classes.hpp>

FOVEA_NAMESPACE_BEGIN

/// Whether bound scores ask for nothing but positions.
template <class S, class T>
inline constexpr bool scores_positions = requires(const std::remove_cvref_t<S>& s, T x) { s.apply(x, x, x); };
template <class T, class Mask, class... Scores>
constexpr bool all_score_positions(const kernel::rules<Mask, Scores...>*) noexcept {
  return (scores_positions<Scores, T> && ...);
}

/// Whether tokens of such a call may be sorted: a mask says that it shows every n-th key, K and V lie in
/// memory and not in a cache, logits are dot products, scores are of positions, and nothing is dropped, nor
/// kept a key.
template <class Problem>
inline constexpr bool may_sort_tokens = false;
template <class T, class QE, class KE, class VE, class Out, class Rules, class Sink>
inline constexpr bool may_sort_tokens<kernel::problem<T, QE, sequences<const KE>, sequences<const VE>, Out,
                                                      Rules, Sink, kernel::no_dropout, dot_product>> = [] {
  using bound = std::remove_cvref_t<decltype(std::declval<const Rules&>().bind(place()))>;
  constexpr const bound* rules = nullptr;
  return tells_step<decltype(bound::mask)> && all_score_positions<T>(rules);
}();
template <class Problem>
inline constexpr bool may_sort_tokens<kernel::with_rounded_weights<Problem>> = may_sort_tokens<Problem>;
template <class Problem>
inline constexpr bool may_sort_tokens<kernel::with_sigmoid<Problem>> = may_sort_tokens<Problem>;

/// The classes of a call's keys; those of its queries are the same without a shift. One class where the masks
/// show every key, not as many of them for all heads and sequences, or no head is there to ask about.
template <class Problem>
token_classes classes_of_keys(const Problem& p) noexcept {
  if (p.heads() == 0 || p.q.batches() == 0) return {};
  const auto every = [&](index_type b, index_type h) { return p.rules.bind(p.at(b, h)).mask.every(); };
  const index_type step = every(0, 0).step;
  if (step <= 1) return {};
  for (index_type b = 0; b < p.q.batches(); ++b) {
    const index_type of_first = every(b, 0).first_query;
    for (index_type h = 0; h < p.heads(); ++h)
      if (const key_step by = every(b, h); by.step != step || (by.first_query - of_first) % step != 0)
        return {};
  }
  return {step, std::clamp<index_type>(p.q.max_tokens(), 1, step), &p,
          [](const void* call, index_type b) noexcept {
            const Problem& asked = *static_cast<const Problem*>(call);
            const key_step by = asked.rules.bind(asked.at(b, 0)).mask.every();
            return modulo(by.first_query, by.step);
          }};
}

/// The classes of a call's tokens, which sorted calls refer to.
struct classes_of_call {
  token_classes of_keys, of_queries;

  template <class Problem>
  explicit classes_of_call(const Problem& p) noexcept
      : of_keys(classes_of_keys(p)), of_queries{of_keys.step, of_keys.count} {}
};

/// The call, its tokens sorted; it refers to p and the classes.
template <class T, class QE, class Keys, class Values, class Out, class Rules, class Sink, class Dropout>
auto sorted_call(const kernel::problem<T, QE, Keys, Values, Out, Rules, Sink, Dropout, dot_product>& p,
                 const classes_of_call& by) noexcept {
  using whole = kernel::problem<T, QE, Keys, Values, Out, Rules, Sink, Dropout, dot_product>;
  using rules = kernel::rules_of_classes<whole>;
  const auto& [of_keys, of_queries] = by;
  return kernel::problem<T, QE, Keys, Values, Out, rules, Sink, Dropout, dot_product>{
      {in_classes(p.q, of_queries), in_classes(p.k, of_keys), in_classes(p.v, of_keys)},
      in_classes(p.out, of_queries),
      in_classes(p.lse, of_queries),
      p.scale,
      rules{&p, of_keys},
      p.sink,
      p.dropout,
      p.scorer,
      p.beyond_caches,
      p.from_memory};
}
template <class Problem>
auto sorted_call(const kernel::with_sigmoid<Problem>& p, const classes_of_call& by) noexcept {
  const auto sorted = sorted_call(static_cast<const Problem&>(p), by);
  return kernel::with_sigmoid<std::remove_const_t<decltype(sorted)>>{sorted, p.natural_bias};
}
template <class Problem>
auto sorted_call(const kernel::with_rounded_weights<Problem>& p, const classes_of_call& by) noexcept {
  const auto sorted = sorted_call(static_cast<const Problem&>(p), by);
  return kernel::with_rounded_weights<std::remove_const_t<decltype(sorted)>>{sorted};
}

template <class E>
void clear(const sequences<E>& x) noexcept {
  for (index_type b = 0; b < x.batches(); ++b)
    for (index_type h = 0; h < x.heads(); ++h) {
      const matrix_view<E> head = x.head(b, h);
      for (index_type t = 0; t < head.rows; ++t)
        for (index_type c = 0; c < head.cols; ++c) head(t, c) = store_element<E>(0.0f);
    }
}

/// Whether a backward call sums the gradient of a score's parameter.
template <class Problem>
bool wants_parameter_gradients(const Problem& p) noexcept {
  bool wanted = false;
  p.rules.scores.each([&](const auto& score) { wanted = wanted || wants_gradient(score); });
  return wanted;
}

/// f(the call), forward or backward, its tokens sorted where that saves work. (1 x 4 x 4096 x 64, one
/// thread, AVX-512, over the time without a mask: dilated{8} 1.04, dilated{64} 0.95 before, as a panel of 48
/// queries sees every key.)
template <class Problem, class F>
decltype(auto) by_token_classes(const Problem& p, const F& f) {
  if constexpr (may_sort_tokens<Problem>)
    if (const classes_of_call by(p); by.of_keys.step > 1) return f(sorted_call(p, by));
  return f(p);
}

template <class Problem, class OE, class GE, class DQ, class DK, class DV, class Gates, class F>
decltype(auto) by_token_classes(const kernel::gradient_problem<Problem, OE, GE, DQ, DK, DV, Gates>& g,
                                const F& f) {
  if constexpr (may_sort_tokens<Problem>)
    if (const classes_of_call by(g.forward); by.of_keys.step > 1 && !wants_parameter_gradients(g.forward)) {
      const auto& [of_keys, of_queries] = by;
      return f(kernel::gradient_problem{
          sorted_call(g.forward, by), in_classes(g.out, of_queries), in_classes(g.lse, of_queries),
          in_classes(g.d_out, of_queries), in_classes(g.d_lse, of_queries), in_classes(g.d_q, of_queries),
          in_classes(g.d_k, of_keys), in_classes(g.d_v, of_keys), in_classes(g.gates, of_queries)});
    }
  return f(g);
}

/// Clears the gradients of keys that are in no class of `sorted`, as no query is.
template <class Gradients, class Sorted>
void clear_unseen(const Gradients& g, const Sorted& sorted) noexcept {
  const token_classes* const of_keys = sorted.d_k.classes;
  if (of_keys != nullptr && of_keys->count < of_keys->step) clear(g.d_k), clear(g.d_v);
}

FOVEA_NAMESPACE_END
