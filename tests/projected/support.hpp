// tests/projected/support.hpp - layers that score: their textbook in double, their inputs.
#pragma once

#include "../support/differences.hpp"
#include "../support/random.hpp"
#include "../support/refusal.hpp"

#include <fovea/additive.hpp>

#include <gtest/gtest.h>

namespace fovea_test {

using fovea::index_type;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class M>
void fill(M&& x, random_source& random, double size = 1) {
  for (Eigen::Index i = 0; i < x.rows(); ++i)
    for (Eigen::Index j = 0; j < x.cols(); ++j)
      x(i, j) = static_cast<typename std::remove_cvref_t<M>::Scalar>(random.uniform(-size, size));
}
inline Matrix random_matrix(index_type rows, index_type columns, random_source& random) {
  Matrix x(rows, columns);
  fill(x, random);
  return x;
}

/// Rows of weights of logits, where seen(i, j) says; a row that sees nothing is 0.
template <class Seen>
Matrix softmax_rows(Matrix s, const Seen& seen) {
  for (Eigen::Index i = 0; i < s.rows(); ++i) {
    double sum = 0;
    for (Eigen::Index j = 0; j < s.cols(); ++j) sum += s(i, j) = seen(i, j) ? std::exp(s(i, j)) : 0;
    if (sum > 0) s.row(i) /= sum;
  }
  return s;
}

}  // namespace fovea_test
