// A scorer of one's own: logits are -|q - k|^2 / length. What dual numbers know needs no derivative.
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
                 v = Matrix::Random(keys, dim), d_out = Matrix::Random(queries, 2 * dim);
    const auto [o, lse] = attend.with_lse(q, k, v, fovea::causal_bottom_right, scorer);
    const auto g = attend.backward(q, k, v, o, lse, d_out, fovea::causal_bottom_right, scorer);
    Eigen::MatrixXd d_k = Eigen::MatrixXd::Zero(keys, dim);
    for (index_type h = 0; h < 2; ++h)
      for (index_type i = 0; i < queries; ++i) {
        const index_type seen = i + keys - queries + 1;
        const auto row = [&](const Matrix& x) { return x.block(i, h * dim, 1, dim).cast<double>(); };
        const Eigen::MatrixXd apart = (-k.topRows(seen).cast<double>()).rowwise() + row(q).row(0),
                              values = v.topRows(seen).cast<double>();
        Eigen::VectorXd p = (-apart.rowwise().squaredNorm() / double(scorer.length)).array().exp();
        EXPECT_NEAR(lse(i, h), std::log(p.sum()), 1e-5);
        p /= p.sum();
        const Eigen::RowVectorXd out = p.transpose() * values;
        EXPECT_LT((row(o) - out).cwiseAbs().maxCoeff<Eigen::PropagateNaN>(), 1e-5);
        const Eigen::VectorXd dp = ((values.rowwise() - out) * row(d_out).transpose()).col(0);
        const Eigen::MatrixXd ds_apart =
            (-2 / double(scorer.length) * p.array() * dp.array()).matrix().asDiagonal() * apart;
        EXPECT_LT((row(g.d_q) - ds_apart.colwise().sum()).cwiseAbs().maxCoeff<Eigen::PropagateNaN>(), 2e-5);
        d_k.topRows(seen) -= ds_apart;
      }
    EXPECT_LT((g.d_k.cast<double>() - d_k).cwiseAbs().maxCoeff<Eigen::PropagateNaN>(), 2e-5);
  }
}

}  // namespace scorer_test
