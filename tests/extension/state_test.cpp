// A state of one's own: of each row, the largest logit and its key.
#include <fovea/attention.hpp>

#include <gtest/gtest.h>

namespace state_test {

using fovea::index_type;

struct largest_key {
  static constexpr int columns = 2;  // the logit, and the first key that has it
  template <class V>
  void clear(V* stored) const {
    stored[0] = V(-std::numeric_limits<float>::infinity()), stored[1] = V(-1);
  }
  template <class V>
  void absorb(V* stored, V logit, V key) const {
    const V other[] = {logit, key};
    merge(stored, other);
  }
  template <class V>
  void merge(V* stored, const V* other) const {
    const auto larger = other[0] > stored[0];
    for (int i = 0; i < columns; ++i) stored[i] = fovea::choose(larger, other[i], stored[i]);
  }
};

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

TEST(state, largest_key_in_double) {
  const fovea::attention<float, 2, 1> attend{{.scale = 0.5}};
  for (const auto& [queries, keys, dim] :
       {std::array<index_type, 3>{1, 9, 16}, {3, 300, 5}, {6, 1000, 24}, {70, 150, 33}, {9, 4, 8}}) {
    const Matrix q = Matrix::Random(queries, 2 * dim), k = Matrix::Random(keys, dim);
    const fovea::tensor<float> stored =
        attend.sweep(largest_key(), q, k, fovea::causal_top_left & fovea::sliding_window{.left = 20});
    for (index_type h = 0; h < 2; ++h)
      for (index_type i = 0; i < queries; ++i) {
        double most = -1e9;
        const auto logit = [&](index_type j) {
          return 0.5 * q.row(i).segment(h * dim, dim).cast<double>().dot(k.row(j).cast<double>());
        };
        for (index_type j = std::max<index_type>(0, i - 20); j <= std::min(i, keys - 1); ++j)
          most = std::max(most, logit(j));
        EXPECT_NEAR(stored(0, h, i, 0), most, 1e-5);
        const auto key = static_cast<index_type>(stored(0, h, i, 1));
        ASSERT_TRUE(key >= i - 20 && key <= i && key >= 0 && std::abs(logit(key) - most) < 1e-5);
      }
  }
}

TEST(state, of_a_row_that_sees_no_key) {
  const Matrix q = Matrix::Random(30, 8), k = Matrix::Random(10, 8);
  const auto stored = fovea::attention<float, 1>().sweep(largest_key(), q, k, fovea::causal_bottom_right);
  EXPECT_EQ(stored(0, 0, 3, 1), -1.f);
}

}  // namespace state_test
