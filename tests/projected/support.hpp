// tests/projected/support.hpp - layers that score: their textbook in double, and differences of a loss.
#pragma once

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

/// Whether each of some entries of a gradient is the difference quotient of loss().
template <class M, class G, class Loss>
void expect_slopes(const char* name, M&& x, const G& gradient, const Loss& loss, double error = 1e-8) {
  ASSERT_EQ(x.size(), gradient.size()) << name;
  random_source random(3);
  for (int probe = 0; probe < 3 && x.size() > 0; ++probe) {
    const Eigen::Index i = random.integer(0, x.size() - 1);
    const double at = x.data()[i], step = 1e-4;
    const auto moved = [&](double by) {
      x.data()[i] = at + by * step;
      return loss();
    };
    const double wanted = (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * step);
    x.data()[i] = at;
    EXPECT_NEAR(gradient.data()[i], wanted, error * (1 + std::abs(wanted))) << name << " " << i;
  }
}

}  // namespace fovea_test
