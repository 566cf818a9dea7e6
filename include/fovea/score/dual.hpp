// fovea/score/dual.hpp - a number with its derivative: how a score is differentiated that says nothing of it.
//
// Forward-mode automatic differentiation: Griewank & Walther, "Evaluating Derivatives" (SIAM, 2008),
// chapter 3.
#pragma once

#include <fovea/index.hpp>

#include <cmath>
#include <type_traits>
#include <utility>

FOVEA_NAMESPACE_BEGIN

/// value + slope * e with e * e = 0; V is a scalar or a SIMD batch. What scores are written with is here:
/// + - * /, abs, exp, log, sqrt, tanh, min, max, and comparisons, which compare values. Numbers and V's
/// convert, with slope 0.
template <class V>
struct dual {
  V value, slope;

  dual(const V& x, const V& dx = V(0)) noexcept : value(x), slope(dx) {}
  template <class N>
    requires(std::is_arithmetic_v<N> && !std::is_same_v<N, V>)
  dual(N x) noexcept : value(number_as<V>(x)), slope(V(0)) {}

  friend dual operator+(const dual& a, const dual& b) noexcept {
    return {a.value + b.value, a.slope + b.slope};
  }
  friend dual operator-(const dual& a, const dual& b) noexcept {
    return {a.value - b.value, a.slope - b.slope};
  }
  friend dual operator-(const dual& a) noexcept { return {-a.value, -a.slope}; }
  friend dual operator*(const dual& a, const dual& b) noexcept {
    return {a.value * b.value, a.slope * b.value + a.value * b.slope};
  }
  friend dual operator/(const dual& a, const dual& b) noexcept {
    const V quotient = a.value / b.value;
    return {quotient, (a.slope - quotient * b.slope) / b.value};
  }
  dual& operator+=(const dual& b) noexcept { return *this = *this + b; }
  dual& operator-=(const dual& b) noexcept { return *this = *this - b; }
  dual& operator*=(const dual& b) noexcept { return *this = *this * b; }
  dual& operator/=(const dual& b) noexcept { return *this = *this / b; }

  friend auto operator<(const dual& a, const dual& b) noexcept { return a.value < b.value; }
  friend auto operator>(const dual& a, const dual& b) noexcept { return a.value > b.value; }
  friend auto operator<=(const dual& a, const dual& b) noexcept { return a.value <= b.value; }
  friend auto operator>=(const dual& a, const dual& b) noexcept { return a.value >= b.value; }

  friend dual abs(const dual& a) noexcept { return choose(a.value < V(0), -a, a); }
  friend dual min(const dual& a, const dual& b) noexcept { return choose(b.value < a.value, b, a); }
  friend dual max(const dual& a, const dual& b) noexcept { return choose(a.value < b.value, b, a); }
  friend dual exp(const dual& a) noexcept {
    using std::exp;
    const V e = exp(a.value);
    return {e, a.slope * e};
  }
  friend dual log(const dual& a) noexcept {
    using std::log;
    return {log(a.value), a.slope / a.value};
  }
  friend dual sqrt(const dual& a) noexcept {
    using std::sqrt;
    const V root = sqrt(a.value);
    return {root, a.slope / (root + root)};
  }
  friend dual tanh(const dual& a) noexcept {
    using std::tanh;
    const V t = tanh(a.value);
    return {t, a.slope * (V(1) - t * t)};
  }
  /// a where the condition holds, else b.
  template <class B>
  friend dual select(const B& condition, const dual& a, const dual& b) noexcept {
    return choose(condition, a, b);
  }

 private:
  template <class B>
  static dual choose(const B& condition, const dual& a, const dual& b) noexcept {
    if constexpr (std::is_same_v<B, bool>)
      return condition ? a : b;
    else  // a batch's own select, found by its arguments
      return {select(condition, a.value, b.value), select(condition, a.slope, b.slope)};
  }
};

/// The type of number that V is made of: a scalar, a SIMD batch, or a dual of one.
template <class V>
struct number_type {
  using type = V;
};
template <class V>
  requires requires { typename V::value_type; }
struct number_type<V> {
  using type = typename V::value_type;
};
template <class V>
struct number_type<dual<V>> : number_type<V> {};
template <class V>
using number_in = typename number_type<V>::type;

FOVEA_NAMESPACE_END
