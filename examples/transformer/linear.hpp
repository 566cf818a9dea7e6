// transformer/linear.hpp - y = x W^T + b.
#pragma once

#include "random.hpp"

namespace transformer {

template <class T>
struct linear {
  Matrix<T> weight;  // (out, in)
  Row<T> bias;       // (out), or empty for none

  struct saved {
    Matrix<T> x;
  };

  linear() = default;
  /// Weights of equal chance within +-sqrt(6 / (in + out)) (Glorot and Bengio, 2010); biases 0.
  linear(Index in, Index out, std::uint64_t key, bool with_bias = true)
      : weight(uniform_matrix<T>(out, in, std::sqrt(6. / static_cast<double>(in + out)), key)),
        bias(Row<T>::Zero(with_bias ? out : 0)) {}

  Matrix<T> operator()(const Matrix<T>& x) const {
    Matrix<T> y(x.rows(), weight.rows());
    y.noalias() = x * weight.transpose();
    if (bias.size() > 0) y.rowwise() += bias;
    return y;
  }

  Matrix<T> operator()(Matrix<T> x, saved& s) const {
    s.x = std::move(x);
    return (*this)(s.x);
  }

  /// dx = dy W   dW += dy^T x   db += sum of the rows of dy
  Matrix<T> backward(const Matrix<T>& dy, const saved& s, linear& gradient) const {
    gradient.weight.noalias() += dy.transpose() * s.x;
    if (bias.size() > 0) gradient.bias += dy.colwise().sum();
    Matrix<T> dx(dy.rows(), weight.cols());
    dx.noalias() = dy * weight;
    return dx;
  }

  static void each_parameter(const std::string& name, const auto& f, auto&... of) {
    f(part(name, "weight"), of.weight...);
    if (((of.bias.size() > 0) || ...)) f(part(name, "bias"), of.bias...);
  }
};

}  // namespace transformer
