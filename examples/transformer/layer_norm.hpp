// transformer/layer_norm.hpp - y = (x - mean) / sqrt(variance + epsilon) * weight + bias, row by row.
// Ba, Kiros and Hinton, arXiv:1607.06450.
#pragma once

#include "parameter.hpp"

#include <cmath>

namespace transformer {

template <class T>
struct layer_norm {
  Row<T> weight, bias;
  T epsilon = T(1e-5);

  struct saved {
    Matrix<T> unit;     // rows of mean 0 and variance 1
    Column<T> inverse;  // 1 / sqrt(variance + epsilon)
  };

  layer_norm() = default;
  explicit layer_norm(Index channels) : weight(Row<T>::Ones(channels)), bias(Row<T>::Zero(channels)) {}

  Matrix<T> operator()(const Matrix<T>& x) const {
    saved unused;
    return (*this)(x, unused);
  }

  Matrix<T> operator()(Matrix<T> x, saved& s) const {
    s.unit = std::move(x);
    s.inverse.resize(s.unit.rows());
    Matrix<T> y(s.unit.rows(), s.unit.cols());
    for (Index i = 0; i < y.rows(); ++i) {
      auto row = s.unit.row(i);
      row.array() -= row.mean();
      s.inverse[i] = 1 / std::sqrt(row.squaredNorm() / static_cast<T>(row.size()) + epsilon);
      row *= s.inverse[i];
      y.row(i).array() = row.array() * weight.array() + bias.array();
    }
    return y;
  }

  /// With u the unit rows and g = dy weight: dx = (g - mean(g) - u mean(g u)) / sqrt(variance + epsilon).
  Matrix<T> backward(const Matrix<T>& dy, const saved& s, layer_norm& gradient) const {
    Matrix<T> dx(dy.rows(), dy.cols());
    for (Index i = 0; i < dy.rows(); ++i) {
      const auto unit = s.unit.row(i).array();
      auto g = dx.row(i).array();
      gradient.weight.array() += dy.row(i).array() * unit;
      gradient.bias += dy.row(i);
      g = dy.row(i).array() * weight.array();
      const T mean = g.mean(), along = (g * unit).mean();
      g = (g - mean - unit * along) * s.inverse[i];
    }
    return dx;
  }

  static void each_parameter(const std::string& name, const auto& f, auto&... of) {
    f(part(name, "weight"), of.weight...);
    f(part(name, "bias"), of.bias...);
  }
};

}  // namespace transformer
