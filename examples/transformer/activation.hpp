// transformer/activation.hpp - functions of single numbers: their values, and the slopes at x, as Eigen
// expressions.
#pragma once

#include "parameter.hpp"

namespace transformer {

/// max(x, 0)
struct relu {
  static void apply(const auto& x, auto& y) { y.array() = x.array().cwiseMax(0); }
  /// dx = slope at x * dy
  static void backward(const auto& x, auto& dy) { dy.array() = (x.array() > 0).select(dy.array(), 0); }
};

/// x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2: the approximation of x Phi(x) by Hendrycks and Gimpel,
/// arXiv:1606.08415, as tanh runs in SIMD.
struct gelu {
  template <class X>
  static void apply(const X& in, auto& y) {
    using T = typename X::Scalar;
    const auto x = in.array();
    y.array() = T(0.5) * x * (1 + (T(slope) * x * (1 + T(cubic) * x * x)).tanh());
  }
  template <class X>
  static void backward(const X& in, auto& dy) {
    using T = typename X::Scalar;
    for (Index i = 0; i < in.rows(); ++i) {  // by rows: t stays in the cache
      const auto x = in.row(i).array();
      const Eigen::Array<T, 1, Eigen::Dynamic> t = (T(slope) * x * (1 + T(cubic) * x * x)).tanh();
      dy.row(i).array() *= T(0.5) * (1 + t) * (1 + x * (1 - t) * T(slope) * (1 + T(3 * cubic) * x * x));
    }
  }

 private:
  static constexpr double slope = 0.79788456080286535588, cubic = 0.044715;
};

/// x / (1 + exp(-x))
struct silu {
  static void apply(const auto& x, auto& y) { y.array() = x.array() * x.array().logistic(); }
  static void backward(const auto& in, auto& dy) {
    const auto x = in.array();
    dy.array() *= x.logistic() * (1 + x * (1 - x.logistic()));
  }
};

}  // namespace transformer
