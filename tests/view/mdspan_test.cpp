// What has the members of std::mdspan is a view: its elements are those of a tensor_view with the same strides.
#include "../support/refusal.hpp"
#include "elsewhere.hpp"

#if __has_include(<mdspan>)
#include <mdspan>
#endif

namespace {
namespace mdspans {

using fovea::index_type;
using fovea_test::expect_refused;
using fovea_test::expect_same_bits;
using fovea_test::expect_same_places;
using fovea_test::spaced_elements;

/// The least that std::mdspan has in common with others of its kind. Its index is narrow and has no sign.
template <class E, std::size_t Rank>
struct span_of {
  using element_type = E;
  struct extents_of {
    std::array<unsigned, Rank> sizes;
    unsigned extent(std::size_t i) const { return sizes[i]; }
  };
  E* first;
  extents_of sizes;
  std::array<unsigned, Rank> strides;
  static constexpr std::size_t rank() { return Rank; }
  const extents_of& extents() const { return sizes; }
  unsigned stride(std::size_t i) const { return strides[i]; }
  E* data_handle() const { return first; }
};

/// With a layout that may have no strides.
struct tiled_span : span_of<const float, 4> {
  bool is_strided() const { return false; }
};

static_assert(fovea::viewable<span_of<float, 4>> && fovea::viewable<const span_of<const float, 2>>);
static_assert(fovea::is_view<span_of<float, 4>>);
static_assert(fovea::tells_heads<span_of<float, 4>> && !fovea::tells_heads<span_of<float, 2>>);
static_assert(!fovea::mdspan_like<fovea::tensor_view<float>> && !fovea::mdspan_like<Eigen::MatrixXf> &&
              !fovea::mdspan_like<std::vector<float>>);

TEST(mdspan, of_rank_4) {
  spaced_elements elements;
  const auto expected = elements.view(300, 3, 40, 2);
  const span_of<float, 4> x{expected.data, {{2, 4, 5, 3}}, {300, 3, 40, 2}};
  expect_same_places(x, expected);

  const fovea::attention<float, 4> attend;
  const fovea::tensor<float> o = attend(x, x, x, fovea::causal);
  expect_same_bits(o, attend(expected, expected, expected, fovea::causal));
  std::vector<float> written(o.size() * 2, -1.0f);  // results with a stride, and what lies between left alone
  const span_of<float, 4> out{written.data(), {{2, 4, 5, 3}}, {120, 30, 6, 2}};
  attend.into(out, x, x, x, fovea::causal);
  for (std::size_t i = 0; i < written.size(); ++i)
    EXPECT_EQ(written[i], i % 2 == 0 ? o.data()[i / 2] : -1.0f) << i;
}

TEST(mdspan, of_rank_2_holds_heads_side_by_side) {
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const RowMajor m = RowMajor::Random(5, 12);
  const span_of<const float, 2> x{m.data(), {{5, 12}}, {12, 1}};
  const fovea::attention<float, 4> attend;
  const fovea::tensor<float> o = attend(x, x, x);  // (1, heads, tokens, dim)
  const RowMajor expected = attend(m, m, m);
  for (index_type h = 0; h < 4; ++h)
    for (index_type t = 0; t < 5; ++t)
      for (index_type c = 0; c < 3; ++c) EXPECT_EQ(o(0, h, t, c), expected(t, h * 3 + c));
  RowMajor written = RowMajor::Zero(5, 12);
  attend.into(span_of<float, 2>{written.data(), {{5, 12}}, {12, 1}}, x, x, x);
  EXPECT_EQ(written, expected);
  const RowMajor added = RowMajor::Random(5, 5);
  const span_of<const float, 2> bias{added.data(), {{5, 5}}, {5, 1}};
  attend.into(written, m, m, m, fovea::bias(bias));
  EXPECT_EQ(written, RowMajor(attend(m, m, m, fovea::bias(added))));
}

TEST(mdspan, what_does_not_fit) {
  std::vector<float> memory(120);
  const fovea::attention<float, 4> attend;
  const span_of<const float, 4> x{memory.data(), {{2, 4, 5, 3}}, {60, 15, 3, 1}};
  const span_of<const float, 2> columns{memory.data(), {{5, 10}}, {10, 1}};
  const span_of<const float, 4> nothing{nullptr, {{2, 4, 5, 3}}, {60, 15, 3, 1}};
  const tiled_span tiled{x};
  expect_refused([&] { attend(x, tiled, x); }, "k is an mdspan of rank 4 whose layout has no strides");
  expect_refused([&] { attend(columns, columns, columns); }, {"10 columns", "4 heads"});
  expect_refused([&] { attend(x, x, nothing); }, "v is a null pointer");
  expect_refused([&] { fovea::attention<float, 2>()(x, x, x); }, {"has 4 heads, not 2"});
  expect_refused([&] { fovea::attention<float>()(columns, columns, columns); },
                 {"does not tell how many heads"});
}

#ifdef __cpp_lib_mdspan
TEST(mdspan, of_the_standard_library) {
  spaced_elements elements;
  const auto expected = elements.view(60, 15, 3, 1);
  const std::mdspan<float, std::dextents<int, 4>> x(expected.data, 2, 4, 5, 3);
  const std::layout_stride::mapping<std::dextents<std::size_t, 4>> strides(
      std::dextents<std::size_t, 4>(2, 4, 5, 3), std::array<std::size_t, 4>{60, 15, 3, 1});
  const std::mdspan<const float, std::dextents<std::size_t, 4>, std::layout_stride> y(expected.data, strides);
  expect_same_places(x, expected);
  expect_same_places(y, fovea::tensor_view<const float>(expected));
  const fovea::attention<float, 4> attend;
  expect_same_bits(attend(x, y, x), attend(expected, expected, expected));
}
#endif

}  // namespace mdspans
}  // namespace
