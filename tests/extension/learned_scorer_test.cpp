// A scorer of one's own that learns: a Gaussian kernel, logits -|q - k|^2 / (2 length^2), a length a head.
#include <fovea/attention.hpp>

#include <gtest/gtest.h>

#include <cmath>

namespace learned_scorer_test {

using fovea::index_type;

struct gaussian_kernel {
  using is_scorer = void;
  const double* lengths;        // of the heads
  double* d_lengths = nullptr;  // their gradients, added to; none: not wanted
  double factor = 0;            // of the head that is bound: -1 / (2 length^2), of every channel
  gaussian_kernel bind(const fovea::place& at) const {
    const double length = lengths[at.head];
    return {lengths, d_lengths, -0.5 / (length * length)};
  }
  double parameter(index_type) const { return factor; }
  template <class V>
  V add(V sum, V q, V k, V w) const {
    return sum + w * (q - k) * (q - k);
  }
  void set_gradient(index_type head, index_type,
                    double d_factor) const {  // d factor / d length = 1 / length^3
    if (d_lengths != nullptr) d_lengths[head] += d_factor / std::pow(lengths[head], 3);
  }
};

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

TEST(learned_scorer, length_of_a_gaussian_kernel) {
  const fovea::attention<double, 2, 1> attend;
  for (const auto& [queries, keys, dim] : {std::array<index_type, 3>{3, 40, 5}, {70, 150, 11}}) {
    const Matrix q = Matrix::Random(queries, 2 * dim), k = Matrix::Random(keys, dim),
                 v = Matrix::Random(keys, dim), d_out = Matrix::Random(queries, 2 * dim);
    double lengths[] = {0.9, 1.4}, d_lengths[] = {0, 0};
    const gaussian_kernel scorer{lengths, d_lengths};
    const auto [o, lse] = attend.with_lse(q, k, v, scorer);
    const double apart = (q.block(1, dim, 1, dim) - k.row(2)).squaredNorm();
    EXPECT_NEAR(attend.scores(q, k, scorer)(0, 1, 1, 2), -apart / (2 * lengths[1] * lengths[1]), 1e-12);
    static_cast<void>(attend.backward(q, k, v, o, lse, d_out, scorer));
    for (int h = 0; h < 2; ++h) {
      const double length = lengths[h];
      const auto loss = [&](double step) {
        lengths[h] = length + step;
        return attend(q, k, v, scorer).cwiseProduct(d_out).sum();
      };
      const double slope = (loss(1e-5) - loss(-1e-5)) / 2e-5;
      EXPECT_NEAR(d_lengths[h], slope, 1e-7 * (1 + std::abs(slope)));
      lengths[h] = length;
    }
  }
}

}  // namespace learned_scorer_test
