// A scorer of one's own: logits are -|q - k|^2 / length.
#include <fovea/attention.hpp>

#include <gtest/gtest.h>

#include <cmath>

namespace scorer_test {

using fovea::index_type;

struct squared_distance {
  using is_scorer = void;
  float length;
  template <class V>
  V add(V sum, V q, V k) const {
    return sum + (q - k) * (q - k);
  }
  template <class V>
  V logit(V sum) const {
    return -sum / V(length);
  }
};

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

TEST(scorer, squared_distance_in_double) {
  const squared_distance scorer{1.5f};
  const fovea::attention<float, 2, 1> attend;
  for (const auto& [queries, keys, dim] :
       {std::array<index_type, 3>{1, 9, 16}, {3, 300, 5}, {6, 1000, 24}, {70, 150, 33}, {40, 40, 8}}) {
    const Matrix q = Matrix::Random(queries, 2 * dim), k = Matrix::Random(keys, dim),
                 v = Matrix::Random(keys, dim);
    const auto [o, lse] = attend.with_lse(q, k, v, fovea::causal_bottom_right, scorer);
    for (index_type h = 0; h < 2; ++h)
      for (index_type i = 0; i < queries; ++i) {
        double sum = 0;
        Eigen::RowVectorXd expected = Eigen::RowVectorXd::Zero(dim);
        for (index_type j = 0; j <= i + keys - queries; ++j) {
          const auto apart = (q.block(i, h * dim, 1, dim) - k.row(j)).cast<double>();
          const double p = std::exp(-apart.squaredNorm() / double(scorer.length));
          sum += p, expected += p * v.row(j).cast<double>();
        }
        EXPECT_NEAR(lse(i, h), std::log(sum), 1e-5);
        EXPECT_LT((o.block(i, h * dim, 1, dim).cast<double>() - expected / sum).cwiseAbs().maxCoeff(), 1e-5);
      }
  }
}

TEST(scorer, has_no_scale) {
  const Matrix x = Matrix::Random(4, 8);
  const fovea::attention<float, 1> scaled{{.scale = 0.5}};
  EXPECT_THROW(static_cast<void>(scaled(x, x, x, squared_distance{1})), std::invalid_argument);
}

}  // namespace scorer_test
