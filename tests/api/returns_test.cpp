// What a call returns and takes: every kind of view, every way to ask, all with the same numbers.
#include <fovea/reference.hpp>

#include "../support/max_abs.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace returns_test {

using fovea::index_type;
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ColMajor = Eigen::MatrixXf;

constexpr int heads = 4, kv_heads = 2, dim = 6, value_dim = 5, queries = 9, keys = 13;

struct inputs {
  RowMajor q = RowMajor::Random(queries, heads* dim), k = RowMajor::Random(keys, kv_heads* dim);
  RowMajor v = RowMajor::Random(keys, kv_heads* value_dim);
  RowMajor expected{queries, heads* value_dim}, lse{queries, heads};

  inputs() {
    const auto r =
        fovea::reference(q, k, v, {.heads = heads, .kv_heads = kv_heads}, fovea::causal_bottom_right);
    for (index_type h = 0; h < heads; ++h)
      for (index_type i = 0; i < queries; ++i) {
        lse(i, h) = static_cast<float>(r.lse(0, h, i, 0));
        for (index_type c = 0; c < value_dim; ++c)
          expected(i, h * value_dim + c) = static_cast<float>(r.out(0, h, i, c));
      }
  }
};

void expect_equal(const auto& a, const auto& b, float tolerance = 2e-6f) {
  ASSERT_EQ(a.rows(), b.rows());
  ASSERT_EQ(a.cols(), b.cols());
  EXPECT_LE(fovea_test::max_abs(a - b), tolerance);
}

const fovea::attention<float, heads, kv_heads> attend;

TEST(returns, an_eigen_matrix_of_the_order_of_q) {
  const inputs in;
  const ColMajor q = in.q;
  const auto by_rows = attend(in.q, in.k, in.v, fovea::causal_bottom_right);
  const auto by_columns = attend(q, in.k, in.v, fovea::causal_bottom_right);
  static_assert(std::is_same_v<std::remove_const_t<decltype(by_rows)>, RowMajor>);
  static_assert(std::is_same_v<std::remove_const_t<decltype(by_columns)>, ColMajor>);
  expect_equal(by_rows, in.expected);
  EXPECT_EQ(by_rows, RowMajor(by_columns));
}

TEST(returns, heads_known_at_run_time_give_the_same) {
  const inputs in;
  const fovea::attention<float> any{{.heads = heads, .kv_heads = kv_heads}};
  EXPECT_EQ(any(in.q, in.k, in.v), attend(in.q, in.k, in.v));
  const fovea::attention<float, heads, kv_heads> scaled{{.scale = 1 / std::sqrt(double(dim))}};
  EXPECT_EQ(scaled(in.q, in.k, in.v), attend(in.q, in.k, in.v));
}

TEST(returns, into_what_is_there) {
  const inputs in;
  RowMajor whole = RowMajor::Constant(queries + 2, heads * value_dim + 3, 7);
  attend.into(whole.block(1, 2, queries, heads * value_dim), in.q, in.k, in.v, fovea::causal_bottom_right);
  expect_equal(whole.block(1, 2, queries, heads * value_dim), in.expected);
  EXPECT_EQ((whole.array() == 7).count(), whole.size() - in.expected.size());
  ColMajor columns(queries, heads * value_dim);
  attend.into(columns, in.q, in.k, in.v, fovea::causal_bottom_right);
  expect_equal(columns, in.expected);
  Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic> wide(queries, heads * value_dim);
  attend.into(wide, in.q, in.k, in.v, fovea::causal_bottom_right);
  EXPECT_EQ(wide.cast<float>(), columns);
}

TEST(returns, the_lse) {
  const inputs in;
  const auto part = attend.with_lse(in.q, in.k, in.v, fovea::causal_bottom_right);
  expect_equal(part.out, in.expected);
  expect_equal(part.lse, in.lse, 4e-6f);
  RowMajor out(queries, heads * value_dim), lse(queries, heads);
  attend.with_lse_into(out, lse, in.q, in.k, in.v, fovea::causal_bottom_right);
  EXPECT_EQ(out, part.out);
  EXPECT_EQ(lse, part.lse);
  EXPECT_EQ(attend(in.q, in.k, in.v, fovea::causal_bottom_right), part.out)
      << "asking for the LSE changed the result";
}

TEST(returns, the_value_where_there_is_one_key) {
  constexpr int wide = 37;  // two whole registers and a piece of one
  RowMajor q = RowMajor::Random(3, heads * wide);
  const RowMajor k = RowMajor::Random(1, kv_heads * wide), v = RowMajor::Random(1, kv_heads * wide);
  q(1, 0) = std::numeric_limits<float>::quiet_NaN();
  RowMajor around = RowMajor::Constant(5, heads * wide + 4, 7), lse(3, heads);
  auto out = around.block(1, 2, 3, heads * wide);
  attend.with_lse_into(out, lse, q, k, v);
  const auto expected = fovea::reference(q, k, v, {.heads = heads, .kv_heads = kv_heads});
  for (index_type h = 0; h < heads; ++h)
    for (index_type i = 0; i < 3; ++i)
      if (i == 1 && h == 0) {
        EXPECT_TRUE(out.block(i, h * wide, 1, wide).array().isNaN().all() && std::isnan(lse(i, h)));
      } else {
        EXPECT_EQ(out.block(i, h * wide, 1, wide), v.middleCols(h / 2 * wide, wide)) << i << " " << h;
        EXPECT_NEAR(lse(i, h), expected.lse(0, h, i, 0), 1e-6);
      }
  EXPECT_EQ((around.array() == 7).count(), around.size() - out.size());
}

TEST(returns, a_tensor_for_tensors) {
  inputs in;
  const auto q = fovea::bshd(in.q.data(), 1, queries, heads, dim);
  const auto k = fovea::bshd(in.k.data(), 1, keys, kv_heads, dim),
             v = fovea::bshd(in.v.data(), 1, keys, kv_heads, value_dim);
  const auto part = attend.with_lse(q, k, v, fovea::causal_bottom_right);
  static_assert(std::is_same_v<decltype(part.out), fovea::tensor<float>>);
  ASSERT_EQ(part.lse.dim(), 1);
  fovea::tensor<float> owned(1, heads, queries, dim);
  for (index_type h = 0; h < heads; ++h)
    for (index_type i = 0; i < queries; ++i) {
      EXPECT_NEAR(part.lse(0, h, i, 0), in.lse(i, h), 4e-6f);
      for (index_type c = 0; c < value_dim; ++c)
        EXPECT_NEAR(part.out(0, h, i, c), in.expected(i, h * value_dim + c), 2e-6f);
      for (index_type c = 0; c < dim; ++c) owned(0, h, i, c) = q(0, h, i, c);
    }
  const auto again = attend(owned, k, v, fovea::causal_bottom_right);
  for (index_type i = 0; i < again.size(); ++i) EXPECT_EQ(again.data()[i], part.out.data()[i]);
}

TEST(returns, all_rows_of_a_ragged_batch) {
  const inputs in;
  const std::vector<index_type> q_offsets = {0, 4, 4, 9}, k_offsets = {0, 5, 7, 13};
  const fovea::ragged q(in.q, q_offsets), k(in.k, k_offsets), v(in.v, k_offsets);
  const auto part = attend.with_lse(q, k, v);
  static_assert(std::is_same_v<decltype(part.out), RowMajor>);
  for (std::size_t b = 0; b < 3; ++b) {
    const index_type first = q_offsets[b], n = q_offsets[b + 1] - first, key = k_offsets[b],
                     m = k_offsets[b + 1] - key;
    const auto alone =
        attend.with_lse(in.q.middleRows(first, n), in.k.middleRows(key, m), in.v.middleRows(key, m));
    EXPECT_EQ(part.out.middleRows(first, n), alone.out);
    EXPECT_EQ(part.lse.middleRows(first, n), alone.lse);
  }
}

template <class E>
void expect_sixteen_bits(const auto& zero) {
  inputs in;
  using matrix =
      Eigen::Matrix<std::remove_cvref_t<decltype(zero)>, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const matrix q = in.q.cast<std::remove_cvref_t<decltype(zero)>>();
  in.q = q.template cast<float>();
  const fovea::attention<E, heads, kv_heads> half;
  const auto out = half(q, in.k, in.v);
  const RowMajor exact = attend(in.q, in.k, in.v);
  for (index_type i = 0; i < out.size(); ++i)
    EXPECT_EQ(static_cast<float>(out.data()[i]), static_cast<float>(E(exact.data()[i])));
}

TEST(returns, sixteen_bits_from_eigens_types) {
  expect_sixteen_bits<fovea::fp16>(Eigen::half(0));
  expect_sixteen_bits<fovea::bf16>(Eigen::bfloat16(0));
}

TEST(returns, weights_of_one_head) {
  const inputs in;
  const auto all = attend.weights(in.q, in.k, fovea::causal_bottom_right);
  for (index_type h = 0; h < heads; ++h) {
    const RowMajor one = attend.weights_of(h, in.q, in.k, fovea::causal_bottom_right);
    ASSERT_EQ(one.rows(), queries);
    ASSERT_EQ(one.cols(), keys);
    for (index_type i = 0; i < queries; ++i)
      for (index_type j = 0; j < keys; ++j) EXPECT_EQ(one(i, j), all(0, h, i, j));
    expect_equal(one * in.v.middleCols(h / 2 * value_dim, value_dim),
                 in.expected.middleCols(h * value_dim, value_dim));
  }
}

TEST(returns, keys_shared_by_a_batch_through_strides_of_zero) {
  inputs in;
  const auto q = fovea::bshd(in.q.data(), 1, queries, heads, dim);
  auto k = fovea::bshd(in.k.data(), 1, keys, kv_heads, dim),
       v = fovea::bshd(in.v.data(), 1, keys, kv_heads, value_dim);
  auto twice = q;
  twice.batch = k.batch = v.batch = 2, twice.batch_stride = k.batch_stride = v.batch_stride = 0;
  const auto both = attend(twice, k, v);
  const RowMajor one = attend(in.q, in.k, in.v);
  for (index_type b = 0; b < 2; ++b)
    for (index_type h = 0; h < heads; ++h)
      for (index_type i = 0; i < queries; ++i)
        for (index_type c = 0; c < value_dim; ++c) EXPECT_EQ(both(b, h, i, c), one(i, h * value_dim + c));
}

TEST(returns, scores_hide_what_a_short_sequence_lacks) {
  const inputs in;
  const std::vector<index_type> rows{0, 6, 9}, key_rows{0, 9, 13};
  const fovea::ragged q{in.q, rows}, k{in.k, key_rows};
  const auto scores = attend.scores(q, k), weights = attend.weights(q, k);
  for (index_type b = 0; b < 2; ++b)
    for (index_type i = 0; i < 6; ++i)
      for (index_type j = 0; j < 9; ++j) {
        const bool there = b == 0 || (i < 3 && j < 4);
        EXPECT_EQ(scores(b, 0, i, j) == -std::numeric_limits<float>::infinity(), !there);
        EXPECT_EQ(weights(b, 0, i, j) == 0, !there);
      }
}

TEST(returns, a_plan_in_words) {
  const inputs in;
  const auto plan = attend.plan_for(in.q, in.k, in.v, fovea::causal_bottom_right);
  const std::string words = plan.explain();
  for (const index_type number : {index_type(queries), index_type(keys), plan.jobs, plan.scratch_bytes()})
    EXPECT_NE(words.find(std::to_string(number)), std::string::npos) << words;
}

}  // namespace returns_test
