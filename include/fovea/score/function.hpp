// fovea/score/function.hpp - any function of a logit and its positions as a score.
#pragma once

#include <fovea/score/concept.hpp>

#include <utility>

FOVEA_NAMESPACE_BEGIN

/// s -> f(s, q, k). f is written once for scalars and for SIMD batches; a result of -inf hides the cell. The
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

template <class F>
score_function<F> score(F f) {
  static_assert(
      std::is_invocable_v<const F&, float, float, float>,
      "fovea: a score is a function of (s, q, k): the logit, the query's position, the key's position");
  return {std::move(f)};
}

/// With df = d f / d s, a function of (s, q, k) as f is. Without it gradients call f with dual numbers.
template <class F, class D>
differentiated_function<F, D> score(F f, D df) {
  static_assert(std::is_invocable_v<const D&, float, float, float>,
                "fovea: the derivative of a score is a function of (s, q, k)");
  return {score(std::move(f)), std::move(df)};
}

FOVEA_NAMESPACE_END
