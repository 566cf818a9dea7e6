// Masks and scores of a user's own that read a number a token, or a distance: views with a stride of 0 or -1.
#include <fovea/attention.hpp>

#include "../support/max_abs.hpp"

#include <gtest/gtest.h>

#include <span>
#include <vector>

namespace own_mask_test {

using fovea::index_type;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// As mask/concept.hpp has it.
struct same_document {
  using is_mask = void;
  std::span<const float> ids;  // of each token
  struct bound {
    using reads_cells = void;
    fovea::matrix_view<const float> of_query, of_key;
    auto visible(const auto& cells) const noexcept { return cells.load(of_query) == cells.load(of_key); }
  };
  bound bind(const fovea::place& at) const noexcept {
    return {{ids.data(), at.queries, at.keys, 1, 0}, {ids.data(), at.queries, at.keys, 0, 1}};
  }
};

TEST(own_mask, documents_packed_in_one_sequence) {
  const index_type tokens = 150;
  const Matrix x = Matrix::Random(tokens, 16);
  const fovea::attention<float, 2> attend;
  std::vector<float> ids;
  const std::vector<index_type> offsets{0, 1, 40, 103, 150};
  for (std::size_t d = 0; d + 1 < offsets.size(); ++d)
    for (index_type t = offsets[d]; t < offsets[d + 1]; ++t) ids.push_back(static_cast<float>(7 * d % 4));
  const fovea::ragged apart{x, offsets};
  const Matrix got = attend(x, x, x, fovea::causal, same_document{ids}),
               alone = attend(apart, apart, apart, fovea::causal);
  EXPECT_LT(fovea_test::max_abs(got - alone), 1e-6f);

  // Documents that come back, which ragged can not say: as a matrix of booleans.
  Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic> same(tokens, tokens);
  std::vector<float> again;
  for (index_type t = 0; t < tokens; ++t) again.push_back(static_cast<float>(t / 7 % 3));
  for (index_type q = 0; q < tokens; ++q)
    for (index_type k = 0; k < tokens; ++k) same(q, k) = again[std::size_t(q)] == again[std::size_t(k)];
  EXPECT_EQ(attend(x, x, x, fovea::causal & same_document{again}),
            attend(x, x, x, fovea::causal & fovea::boolean_mask(same)));
  const Matrix few = x.topRows(2);
  const Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic> of_few = same.topRows(2);
  EXPECT_EQ(attend(few, x, x, same_document{again}), attend(few, x, x, fovea::boolean_mask(of_few)));
}

TEST(own_mask, a_number_a_distance_is_a_bias_by_strides) {
  // T5's relative bias: Lq + Lk - 1 numbers a head, of which cell (q, k) reads number k - q + Lq - 1.
  const index_type queries = 37, keys = 90, heads = 2, numbers = queries + keys - 1;
  const Matrix q = Matrix::Random(queries, 16), k = Matrix::Random(keys, 16);
  const fovea::attention<float, 2> attend;
  const Matrix table = Matrix::Random(heads, numbers);
  const fovea::tensor_view<const float> distances{
      table.data() + queries - 1, 1, heads, queries, keys, 0, numbers, -1, 1};
  fovea::tensor<float> whole(1, heads, queries, keys);
  for (index_type h = 0; h < heads; ++h)
    for (index_type i = 0; i < queries; ++i)
      for (index_type j = 0; j < keys; ++j) whole(0, h, i, j) = table(h, j - i + queries - 1);
  const Matrix expected = attend(q, k, k, fovea::bias(whole));
  ASSERT_NE(expected, attend(q, k, k));
  EXPECT_EQ(attend(q, k, k, fovea::bias(distances)), expected);
}

}  // namespace own_mask_test
