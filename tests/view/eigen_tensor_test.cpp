// Eigen's tensors of rank 4 are views: their elements are those of a tensor_view with the same strides.
#include "../support/refusal.hpp"
#include "elsewhere.hpp"

#include <fovea/view/eigen_tensor.hpp>

namespace {
namespace eigen_tensors {

using fovea::index_type;
using fovea_test::expect_refused;
using fovea_test::expect_same_bits;
using fovea_test::expect_same_places;
using fovea_test::spaced_elements;
using RowMajor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
using ColMajor = Eigen::Tensor<float, 4>;

static_assert(fovea::viewable<RowMajor> && fovea::viewable<const ColMajor> &&
              fovea::viewable<Eigen::TensorMap<const RowMajor>> &&
              fovea::viewable<Eigen::TensorFixedSize<float, Eigen::Sizes<2, 4, 5, 3>>>);

TEST(eigen_tensor, maps_in_both_orders) {
  spaced_elements elements;
  const auto rows = elements.view(60, 15, 3, 1);
  Eigen::TensorMap<RowMajor> x(rows.data, 2, 4, 5, 3);
  expect_same_places(x, rows);
  const Eigen::TensorMap<const RowMajor> read(rows.data, 2, 4, 5, 3);
  expect_same_places(read, fovea::tensor_view<const float>(rows));

  const fovea::attention<float, 4> attend;
  const fovea::tensor<float> expected = attend(rows, rows, rows, fovea::causal);
  const RowMajor o = attend(x, read, x, fovea::causal);
  expect_same_bits(o, expected);

  ColMajor columns(2, 4, 5, 3);
  for (index_type b = 0; b < 2; ++b)
    for (index_type h = 0; h < 4; ++h)
      for (index_type t = 0; t < 5; ++t)
        for (index_type c = 0; c < 3; ++c) columns(b, h, t, c) = rows(b, h, t, c);
  const auto strides = fovea::tensor_view<float>{columns.data(), 2, 4, 5, 3, 1, 2, 8, 40};
  expect_same_places(columns, strides);
  const ColMajor o_columns = attend(columns, columns, columns, fovea::causal);
  ColMajor written(2, 4, 5, 3);
  attend.into(written, columns, rows, columns, fovea::causal);
  expect_same_bits(written, o_columns);
  for (index_type b = 0; b < 2; ++b)
    for (index_type h = 0; h < 4; ++h)
      for (index_type t = 0; t < 5; ++t)
        for (index_type c = 0; c < 3; ++c) EXPECT_EQ(o_columns(b, h, t, c), expected(b, h, t, c));
}

TEST(eigen_tensor, sizes_of_results_and_of_indices) {
  Eigen::Tensor<float, 4, Eigen::RowMajor, int> q(1, 4, 2, 3);
  Eigen::TensorFixedSize<float, Eigen::Sizes<1, 2, 6, 3>, Eigen::RowMajor> k, v;
  q.setConstant(0.5f), k.setConstant(0.25f), v.setConstant(2.0f);
  const fovea::attention<float, 4, 2> attend;
  const auto [out, lse] = attend.with_lse(q, k, v);
  static_assert(std::is_same_v<decltype(out), const Eigen::Tensor<float, 4, Eigen::RowMajor, int>>);
  EXPECT_EQ(out.dimension(2), 2);
  EXPECT_EQ(lse.dimension(1), 4);
  EXPECT_EQ(lse.dimension(3), 1);
  EXPECT_EQ(out(0, 3, 1, 2), 2.0f);
}

TEST(eigen_tensor, what_does_not_fit) {
  const fovea::attention<float, 4> attend;
  RowMajor x(2, 4, 5, 3), narrow(2, 2, 5, 3), other(2, 4, 5, 4);
  x.setZero(), narrow.setZero(), other.setZero();
  expect_refused([&] { attend(x, narrow, x); }, "k has 2 heads, not 4");
  expect_refused([&] { attend(x, other, x); }, {"k", "3", "4"});
  expect_refused([&] { attend.into(narrow, x, x, x); }, {"2 heads, not 4"});
}

}  // namespace eigen_tensors
}  // namespace
