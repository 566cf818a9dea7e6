// Where elements lie: every kind of view names the same element by (sequence, head, token, column), and says
// what does not fit.
#include "../support/refusal.hpp"

#include <fovea/element.hpp>
#include <fovea/view.hpp>
#include <fovea/view/broadcast.hpp>

#include <gtest/gtest.h>
#include <cstdint>

#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using fovea::index_type;
using fovea_test::expect_refused;
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ColMajor = Eigen::MatrixXf;

std::vector<float> counting(std::size_t n) {
  std::vector<float> x(n);
  std::iota(x.begin(), x.end(), 0.0f);
  return x;
}

TEST(tensor_view, layouts) {
  auto x = counting(2 * 3 * 5 * 7);
  const auto heads_first = fovea::bhsd(x.data(), 2, 3, 5, 7);
  const auto tokens_first = fovea::bshd(x.data(), 2, 5, 3, 7);
  for (index_type b = 0; b < 2; ++b)
    for (index_type h = 0; h < 3; ++h)
      for (index_type t = 0; t < 5; ++t)
        for (index_type c = 0; c < 7; ++c) {
          EXPECT_EQ(heads_first(b, h, t, c), static_cast<float>(((b * 3 + h) * 5 + t) * 7 + c));
          EXPECT_EQ(tokens_first(b, h, t, c), static_cast<float>(((b * 5 + t) * 3 + h) * 7 + c));
        }
  const fovea::tensor_view<const float> read = heads_first;
  EXPECT_EQ(&read(1, 2, 3, 4), &heads_first(1, 2, 3, 4));
}

TEST(tensor_view, packed_qkv) {
  constexpr index_type batch = 2, tokens = 3, heads = 4, kv_heads = 2, dim = 5,
                       row = (heads + 2 * kv_heads) * dim;
  auto x = counting(static_cast<std::size_t>(batch * tokens * row));
  const auto [q, k, v] = fovea::packed_qkv(x.data(), batch, tokens, heads, kv_heads, dim);
  EXPECT_EQ(q.heads, heads);
  EXPECT_EQ(k.heads, kv_heads);
  EXPECT_EQ(v.heads, kv_heads);
  for (index_type b = 0; b < batch; ++b)
    for (index_type t = 0; t < tokens; ++t)
      for (index_type c = 0; c < dim; ++c) {
        const index_type token = (b * tokens + t) * row + c;
        for (index_type h = 0; h < heads; ++h) EXPECT_EQ(q(b, h, t, c), static_cast<float>(token + h * dim));
        for (index_type h = 0; h < kv_heads; ++h) {
          EXPECT_EQ(k(b, h, t, c), static_cast<float>(token + (heads + h) * dim));
          EXPECT_EQ(v(b, h, t, c), static_cast<float>(token + (heads + kv_heads + h) * dim));
        }
      }
}

TEST(tensor, owns_zeros_in_order) {
  fovea::tensor<float> t(2, 3, 4, 5);
  EXPECT_EQ(t.size(), 2 * 3 * 4 * 5);
  for (index_type i = 0; i < t.size(); ++i) EXPECT_EQ(t.data()[i], 0);
  t(1, 2, 3, 4) = 7;
  EXPECT_EQ(t.data()[t.size() - 1], 7);
  EXPECT_EQ(std::as_const(t).view()(1, 2, 3, 4), 7);
  expect_refused([] { fovea::tensor<float>(1, -2, 3, 4); }, "a tensor of 1 x -2 x 3 x 4 has a negative size");
}

/// Sizes whose product no index can count are refused by name, whatever they would wrap to.
TEST(tensor, begins_at_a_line_of_cache) {
  for (const index_type dim : {1, 5, 300, 100000}) {
    fovea::tensor<float> x(1, 2, 3, dim);
    const fovea::tensor<float> copy = x, moved = std::move(x);
    for (const float* data : {copy.data(), moved.data()})
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 64, 0u) << dim;
  }
  EXPECT_EQ(fovea::tensor<float>().size(), 0);
}

TEST(sizes, that_wrap) {
  const auto refused = [](auto f, const std::string& sentence) {
    try {
      f();
      ADD_FAILURE() << "not refused: " << sentence;
    } catch (const std::length_error& e) {
      EXPECT_EQ(std::string(e.what()), "fovea: " + sentence + " is more than can be counted");
    }
  };
  constexpr index_type two32 = index_type(1) << 32, two62 = index_type(1) << 62;
  float x = 0;
  refused([] { fovea::tensor<float>(two32, two32, 1, 1); },
          "a tensor of 4294967296 x 4294967296 x 1 x 1 x 4");
  refused([] { fovea::tensor<float>(two62 + 16, 1, 4, 1); },
          "a tensor of 4611686018427387920 x 1 x 4 x 1 x 4");
  refused([] { fovea::tensor<double>(1, 1, 1, two62 / 4); },
          "a tensor of 1 x 1 x 1 x 1152921504606846976 x 8");
  refused([] { fovea::tensor<float>(0, two32, two32, 1); },
          "a tensor of 0 x 4294967296 x 4294967296 x 1 x 4");
  refused([&] { fovea::bhsd(&x, 1, two32, two32, 2); }, "a tensor_view of 1 x 4294967296 x 4294967296 x 2");
  refused([&] { fovea::bshd(&x, 0, two32, two32, 2); }, "a tensor_view of 0 x 4294967296 x 4294967296 x 2");
  refused([&] { fovea::packed_qkv(&x, 1, two32, 1, two32 / 4, 2); },
          "packed_qkv of 1 x 4294967296 x (1 + 2 x 1073741824) x 2");
  const fovea::tensor_view<float> wide{&x, two32, two32, 1, 1, 0, 0, 0, 0};
  refused([&] { fovea::as_sequences(wide, fovea::any_heads, "q"); }, "q of 4294967296 x 4294967296 x 1 x 1");
  EXPECT_EQ(fovea::tensor<float>(0, 3, 4, 5).size(), 0);
  EXPECT_EQ(fovea::size_product("x", 3, index_type(5), sizeof(float)), 60);
}

/// Every element of a matrix of `heads` heads is where Eigen has it.
template <class M>
void expect_same_elements(M& m, index_type heads) {
  const auto all = fovea::as_sequences(m, heads, "m");
  ASSERT_EQ(all.batches(), 1);
  ASSERT_EQ(all.tokens(0), m.rows());
  ASSERT_EQ(all.all.dim, m.cols() / heads);
  for (index_type h = 0; h < heads; ++h)
    for (index_type t = 0; t < m.rows(); ++t)
      for (index_type c = 0; c < m.cols() / heads; ++c)
        ASSERT_EQ(all.head(0, h)(t, c), m(t, h * (m.cols() / heads) + c)) << h << " " << t << " " << c;
}

TEST(eigen, matrices_maps_blocks_and_refs) {
  RowMajor rows = RowMajor::Random(7, 12);
  ColMajor columns = ColMajor::Random(7, 12);
  expect_same_elements(rows, 3);
  expect_same_elements(columns, 3);
  const RowMajor constant = rows;
  expect_same_elements(constant, 4);
  auto row_block = rows.block(1, 2, 5, 6);
  expect_same_elements(row_block, 2);
  const auto column_block = columns.block(1, 2, 5, 6);
  expect_same_elements(column_block, 3);
  auto transposed = rows.transpose();
  expect_same_elements(transposed, 7);
  Eigen::Ref<RowMajor> ref(rows);
  expect_same_elements(ref, 6);
  auto data = counting(400);
  using strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  Eigen::Map<RowMajor, 0, strides> spread(data.data(), 5, 8, strides(50, 3));
  expect_same_elements(spread, 2);
  Eigen::Map<const ColMajor, 0, strides> spread_columns(data.data(), 5, 8, strides(40, 2));
  expect_same_elements(spread_columns, 4);
  auto every_other = rows(Eigen::all, Eigen::seqN(0, 6, 2)).eval();
  expect_same_elements(every_other, 2);
  Eigen::RowVectorXf one_token = Eigen::RowVectorXf::Random(6);
  expect_same_elements(one_token, 2);
}

TEST(eigen, heads_divide_the_columns) {
  const RowMajor m = RowMajor::Zero(2, 10);
  expect_refused([&] { fovea::as_sequences(m, 3, "k"); }, "k has 10 columns, which 3 heads do not divide");
}

TEST(ragged, sequences_follow_each_other) {
  RowMajor m = RowMajor::Random(10, 6);
  const std::vector<index_type> offsets = {1, 4, 4, 9};
  const fovea::ragged batch(m, offsets);
  const auto all = fovea::as_sequences(batch, 2, "q");
  ASSERT_EQ(all.batches(), 3);
  EXPECT_EQ(all.tokens(0), 3);
  EXPECT_EQ(all.tokens(1), 0);
  EXPECT_EQ(all.tokens(2), 5);
  EXPECT_EQ(all.max_tokens(), 5);
  for (index_type t = 0; t < 5; ++t) EXPECT_EQ(all.head(2, 1)(t, 2), m(4 + t, 5));
}

TEST(ragged, offsets_are_checked) {
  RowMajor m = RowMajor::Zero(10, 6);
  const auto with = [&](std::vector<index_type> offsets) {
    return [&m, offsets] {
      const fovea::ragged<RowMajor> batch(m, offsets);
      fovea::as_sequences(batch, 2, "q");
    };
  };
  expect_refused(with({}), "q has 0 offsets; a batch of n sequences has n + 1");
  expect_refused(with({0, 5, 11}), "q's offset 2 is 11, not within 5 and 10");
  expect_refused(with({0, 5, 4}), "q's offset 2 is 4, not within 5 and 10");
  expect_refused(with({-1, 5}), "q's offset 0 is -1, not within 0 and 10");
}

TEST(broadcast, repeats_what_has_size_one) {
  auto x = counting(3 * 5);
  fovea::tensor_view<float> per_head = fovea::bhsd(x.data(), 1, 3, 1, 5);
  const auto table = fovea::broadcast_of(per_head, "bias");
  for (index_type b = 0; b < 2; ++b)
    for (index_type h = 0; h < 3; ++h) {
      const auto cells = table.bind({b, h, 2, 3, 4, 5});
      for (index_type i = 0; i < 4; ++i)
        for (index_type j = 0; j < 5; ++j) EXPECT_EQ(cells(i, j), static_cast<float>(h * 5 + j));
    }
  const fovea::place fits{0, 0, 2, 3, 4, 5};
  EXPECT_NO_THROW(table.check(fits, "bias"));
  expect_refused([&] { table.check({0, 0, 2, 4, 4, 5}, "bias"); }, "bias has 3 heads, neither 1 nor 4");
  expect_refused(
      [&] {
        table.check({0, 0, 2, 3, 4, 6}, "bias");
      },
      "bias has 5 columns (keys), neither 1 nor 6");
}

}  // namespace
