// fovea/score/function.hpp - any function of a logit and its positions as a score.
#pragma once

#include <fovea/score/concept.hpp>

#include <utility>

FOVEA_NAMESPACE_BEGIN

/// s -> f(s, q, k), or f(s, b, h, q, k) at query head h of sequence b, which are two index_type. f is written
/// once for scalars and for SIMD batches; a result of -inf hides the cell. The
/// positions 0 <= q < Lq and 0 <= k < Lk are numbers of the type of s, and no others are asked about, in
/// lanes that lie beyond as well. f is called through a const reference and never copied during a call, by
/// several threads at once where the executor has them. It must not throw: that ends the program
/// (std::terminate).
template <class F>
struct score_function {
  static constexpr score_stage stage = score_stage::bias;
  F f;

  template <class V>
  V apply(const V& s, const V& q, const V& k) const noexcept {
    return f(s, q, k);
  }
};

/// The same with its derivative d f / d s, for gradients.
template <class F, class D>
struct differentiated_function : score_function<F> {
  D df;

  template <class V>
  V derivative(const V& s, const V& q, const V& k) const noexcept {
    return V(df(s, q, k));
  }
};

/// A function of heads, at one of them: it is referred to.
template <class F>
struct function_at {
  const F* f;
  index_type batch, head;

  template <class V>
  V operator()(const V& s, const V& q, const V& k) const noexcept {
    return V((*f)(s, batch, head, q, k));
  }
};

/// A score_function of (s, b, h, q, k).
template <class F>
struct score_of_heads {
  static constexpr score_stage stage = score_stage::bias;
  F f;

  score_function<function_at<F>> bind(const place& at) const noexcept { return {{&f, at.batch, at.head}}; }
};

/// The same with its derivative.
template <class F, class D>
struct differentiated_of_heads {
  static constexpr score_stage stage = score_stage::bias;
  F f;
  D df;

  differentiated_function<function_at<F>, function_at<D>> bind(const place& at) const noexcept {
    return {{{&f, at.batch, at.head}}, {&df, at.batch, at.head}};
  }
};

/// Whether F is a function of (s, b, h, q, k), and none of (s, q, k).
template <class F>
inline constexpr bool asks_for_heads =
    !std::is_invocable_v<const F&, float, float, float> &&
    std::is_invocable_v<const F&, float, index_type, index_type, float, float>;

template <class F>
auto score(F f) {
  static_assert(
      asks_for_heads<F> || std::is_invocable_v<const F&, float, float, float>,
      "fovea: a score is a function of (s, q, k): the logit, the query's position, the key's position; "
      "or of (s, b, h, q, k), with the sequence and the query head");
  if constexpr (asks_for_heads<F>)
    return score_of_heads<F>{std::move(f)};
  else
    return score_function<F>{std::move(f)};
}

/// With df = d f / d s, a function of what f is of. Without it gradients call f with dual numbers.
template <class F, class D>
auto score(F f, D df) {
  static_assert(
      asks_for_heads<F> == asks_for_heads<D> &&
          (asks_for_heads<D> || std::is_invocable_v<const D&, float, float, float>),
      "fovea: the derivative of a score is a function of (s, q, k), or of (s, b, h, q, k), as the score is");
  if constexpr (asks_for_heads<F>)
    return differentiated_of_heads<F, D>{std::move(f), std::move(df)};
  else
    return differentiated_function<F, D>{{std::move(f)}, std::move(df)};
}

FOVEA_NAMESPACE_END
