// Results over parts of the keys, merged: as over all keys, in any order; what saw nothing is neutral.
#include <fovea/attention.hpp>

#include "../support/max_abs.hpp"

#include <gtest/gtest.h>

namespace partial_test {

using fovea::index_type;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

const Matrix q = Matrix::Random(11, 8) * 4, k = Matrix::Random(30, 8) * 4, v = Matrix::Random(30, 6);
const fovea::attention<float, 2> attend;

auto part(index_type first, index_type last) {
  return attend.with_lse(q, k.middleRows(first, last - first), v.middleRows(first, last - first));
}

void expect_near(const auto& a, const auto& b, float tolerance) {
  EXPECT_LE(fovea_test::max_abs(a.out - b.out), tolerance);
  EXPECT_LE(fovea_test::max_abs(a.lse - b.lse), tolerance * 10);
}

TEST(merge, parts_make_the_whole) {
  const auto all = attend.with_lse(q, k, v);
  expect_near(fovea::merge(part(0, 13), part(13, 30)), all, 2e-6f);
  expect_near(fovea::merge(part(13, 30), part(0, 13)), all, 2e-6f);
  expect_near(fovea::merge(fovea::merge(part(0, 1), part(1, 20)), part(20, 30)), all, 3e-6f);
  expect_near(fovea::merge(part(0, 1), fovea::merge(part(1, 20), part(20, 30))), all, 3e-6f);
}

TEST(merge, in_place) {
  auto sum = part(0, 13);
  fovea::merge_into(sum, part(13, 30));
  const auto returned = fovea::merge(part(0, 13), part(13, 30));
  EXPECT_EQ(sum.out, returned.out);
  EXPECT_EQ(sum.lse, returned.lse);
}

TEST(merge, no_key_is_neutral) {
  const auto some = part(0, 13), none = part(4, 4);
  EXPECT_TRUE((none.out.array() == 0).all());
  EXPECT_TRUE((none.lse.array() == -std::numeric_limits<float>::infinity()).all());
  for (const auto& same : {fovea::merge(some, none), fovea::merge(none, some)}) {
    EXPECT_EQ(same.out, some.out);
    EXPECT_EQ(same.lse, some.lse);
  }
  const auto nothing = fovea::merge(none, none);
  EXPECT_EQ(nothing.out, none.out);
  EXPECT_EQ(nothing.lse, none.lse);
}

TEST(merge, far_apart_logits) {
  Matrix near_zero = Matrix::Zero(2, 1), far = Matrix::Zero(2, 1), low = Matrix::Constant(2, 1, -4000),
         high = Matrix::Constant(2, 1, 4000);
  using state = fovea::partial<Matrix, Matrix>;
  const Matrix one = Matrix::Ones(2, 3), two = one * 2;
  EXPECT_EQ(fovea::merge(state{one, low}, state{two, high}).out, two);
  EXPECT_EQ(fovea::merge(state{one, high}, state{two, low}).out, one);
  EXPECT_EQ(fovea::merge(state{one, near_zero}, state{two, far}).out, one * 1.5f);
  EXPECT_NEAR(fovea::merge(state{one, high}, state{two, high}).lse(0, 0), 4000.6931f, 1e-3f);
}

TEST(merge, a_nan_stays) {
  auto bad = part(0, 13);
  bad.out(3, 1) = bad.lse(3, 0) = std::numeric_limits<float>::quiet_NaN();
  for (const auto& merged : {fovea::merge(bad, part(13, 30)), fovea::merge(part(13, 30), bad)}) {
    EXPECT_TRUE(std::isnan(merged.out(3, 1)) && std::isnan(merged.lse(3, 0)));
    EXPECT_FALSE(std::isnan(merged.out(3, 5)) || std::isnan(merged.lse(3, 1)) || merged.out.row(2).hasNaN());
  }
}

/// A row that saw a NaN is NaN, however little what it saw weighs: as a call over all keys has it. What a part
/// that saw no key holds does not count.
TEST(merge, a_nan_of_little_weight_stays) {
  using state = fovea::partial<Matrix, Matrix>;
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const Matrix nan = Matrix::Constant(1, 3, std::numeric_limits<float>::quiet_NaN()),
               one = Matrix::Ones(1, 3), far = Matrix::Constant(1, 1, -200), near_zero = Matrix::Zero(1, 1),
               none = Matrix::Constant(1, 1, -infinity);
  EXPECT_TRUE(fovea::merge(state{nan, far}, state{one, near_zero}).out.array().isNaN().all());
  EXPECT_TRUE(fovea::merge(state{one, near_zero}, state{nan, far}).out.array().isNaN().all());
  EXPECT_EQ(fovea::merge(state{nan, none}, state{one, near_zero}).out, one);
  EXPECT_EQ(fovea::merge(state{one, near_zero}, state{nan, none}).out, one);
  Matrix far_k = k, bad_v = v;
  far_k.row(2) = -1000 * q.row(0), bad_v(2, 1) = nan(0, 0);
  const Matrix all = attend(q, far_k, bad_v);
  const auto first = attend.with_lse(q, far_k.topRows(3), bad_v.topRows(3)), rest = part(3, 30);
  const Matrix one_way = fovea::merge(first, rest).out, other_way = fovea::merge(rest, first).out;
  for (index_type i = 0; i < q.rows(); ++i) {
    EXPECT_TRUE(std::isnan(all(i, 1)) && std::isnan(one_way(i, 1)) && std::isnan(other_way(i, 1))) << i;
    EXPECT_FALSE(std::isnan(one_way(i, 0)) || std::isnan(other_way(i, 5))) << i;
  }
}

TEST(merge, tensors) {
  const auto tensor_of = [](const Matrix& m, index_type dim) {
    fovea::tensor<float> t(1, 2, m.rows(), dim);
    for (index_type h = 0; h < 2; ++h)
      for (index_type i = 0; i < m.rows(); ++i)
        for (index_type c = 0; c < dim; ++c) t(0, h, i, c) = m(i, h * dim + c);
    return t;
  };
  const auto over = [&](index_type first, index_type n) {
    return attend.with_lse(tensor_of(q, 4), tensor_of(k.middleRows(first, n), 4),
                           tensor_of(v.middleRows(first, n), 3));
  };
  const auto expected = fovea::merge(part(0, 13), part(13, 30));
  for (const auto& merged : {fovea::merge(over(0, 13), over(13, 17)),
                             fovea::merge(over(0, 13), part(13, 30))})  // a matrix holds heads side by side
    for (index_type h = 0; h < 2; ++h)
      for (index_type i = 0; i < 11; ++i) {
        EXPECT_EQ(merged.lse(0, h, i, 0), expected.lse(i, h));
        for (index_type c = 0; c < 3; ++c) EXPECT_EQ(merged.out(0, h, i, c), expected.out(i, h * 3 + c));
      }
  const auto in_matrices = fovea::merge(part(0, 13), over(13, 17));
  EXPECT_EQ(in_matrices.out, expected.out);
  EXPECT_EQ(in_matrices.lse, expected.lse);
}

}  // namespace partial_test
