// transformer/rms_norm.hpp - y = x / sqrt(mean of x^2 + epsilon) * weight, row by row. Zhang and Sennrich,
// arXiv:1910.07467.
#pragma once

#include "parameter.hpp"

#include <cmath>

namespace transformer {

template <class T>
struct rms_norm {
  Row<T> weight;
  T epsilon = T(1e-6);

  struct saved {
    Matrix<T> unit;     // rows of mean square 1
    Column<T> inverse;  // 1 / sqrt(mean of x^2 + epsilon)
  };

  rms_norm() = default;
  explicit rms_norm(Index channels) : weight(Row<T>::Ones(channels)) {}

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
      s.inverse[i] = 1 / std::sqrt(row.squaredNorm() / static_cast<T>(row.size()) + epsilon);
      row *= s.inverse[i];
      y.row(i).array() = row.array() * weight.array();
    }
    return y;
  }

  /// With u the unit rows and g = dy weight: dx = (g - u mean(g u)) / sqrt(mean of x^2 + epsilon).
  Matrix<T> backward(const Matrix<T>& dy, const saved& s, rms_norm& gradient) const {
    Matrix<T> dx(dy.rows(), dy.cols());
    for (Index i = 0; i < dy.rows(); ++i) {
      const auto unit = s.unit.row(i).array();
      auto g = dx.row(i).array();
      gradient.weight.array() += dy.row(i).array() * unit;
      g = dy.row(i).array() * weight.array();
      const T along = (g * unit).mean();
      g = (g - unit * along) * s.inverse[i];
    }
    return dx;
  }

  static void each_parameter(const std::string& name, const auto& f, auto&... of) {
    f(part(name, "weight"), of.weight...);
  }
};

}  // namespace transformer
