// A mixer of one's own: where in the sequence a row attends to, on average, and how far around.
#include <fovea/attention.hpp>

#include <gtest/gtest.h>

#include <cmath>

namespace mixer_test {

using fovea::index_type;

struct mean_position {
  static constexpr int columns = 2;  // sum P j, sum P j^2
  template <class V>
  V add(V sum, V weight, V key, int column) const {
    return sum + weight * (column == 0 ? key : key * key);
  }
};

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

TEST(mixer, mean_position_in_double) {
  const fovea::attention<float, 2, 1> attend;
  const float sinks[] = {0.5f, -1};
  for (const auto& [queries, keys, dim] :
       {std::array<index_type, 3>{1, 9, 16}, {3, 300, 5}, {6, 1000, 24}, {70, 150, 33}, {9, 4, 8}}) {
    const Matrix q = 3 * Matrix::Random(queries, 2 * dim), k = Matrix::Random(keys, dim);
    const fovea::softcap<float> cap{4};
    const fovea::tensor<float> o =
        attend.mix(mean_position(), q, k, fovea::causal_bottom_right, cap, fovea::sink(sinks));
    for (index_type h = 0; h < 2; ++h)
      for (index_type i = 0; i < queries; ++i) {
        double sum = std::exp(double(sinks[h])), mean = 0, square = 0;
        for (index_type j = 0; j <= i + keys - queries; ++j) {
          const double dot = q.row(i).segment(h * dim, dim).cast<double>().dot(k.row(j).cast<double>());
          const double p = std::exp(4 * std::tanh(dot / std::sqrt(double(dim)) / 4));
          sum += p, mean += p * double(j), square += p * double(j * j);
        }
        EXPECT_NEAR(o(0, h, i, 0), mean / sum, 1e-5 * double(keys));
        EXPECT_NEAR(o(0, h, i, 1), square / sum, 1e-5 * double(keys * keys));
      }
  }
}

TEST(mixer, of_a_row_that_sees_no_key) {
  const Matrix q = Matrix::Random(30, 8), k = Matrix::Random(10, 8);
  const auto o = fovea::attention<float, 1>().mix(mean_position(), q, k, fovea::causal_bottom_right);
  EXPECT_EQ(o(0, 0, 3, 0), 0.f);
}

}  // namespace mixer_test
