// tests/kv_cache/index_operands.hpp - queries and keys of an index, and what their scores are.
#pragma once

#include <fovea/view/tensor.hpp>

#include "support.hpp"

#include <algorithm>

namespace fovea_test {
namespace index_operands {

inline constexpr index_type dim = 24;

template <class E>
fovea::tensor<E> stored_as(const Matrix& m, index_type heads) {
  fovea::tensor<E> x(1, heads, m.rows(), m.cols() / heads);
  for (index_type t = 0; t < m.rows(); ++t)
    for (index_type c = 0; c < m.cols(); ++c) x(0, c / x.dim(), t, c % x.dim()) = static_cast<E>(m(t, c));
  return x;
}

/// The formula, in double.
double score(const auto& q, const Matrix& w, const auto& k, index_type i, index_type j) {
  double sum = 0;
  for (index_type h = 0; h < q.heads(); ++h) {
    double dot = 0;
    for (index_type c = 0; c < dim; ++c)
      dot += static_cast<double>(static_cast<float>(q(0, h, i, c))) *
             static_cast<double>(static_cast<float>(k(0, 0, j, c)));
    sum += static_cast<double>(w(i, h)) * std::max(dot, 0.0);
  }
  return sum;
}

}  // namespace index_operands
}  // namespace fovea_test
