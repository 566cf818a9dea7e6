// What is hidden has no gradient and reaches none, not even as NaN.
#include "support.hpp"

namespace fovea_test {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();

void fill(tensor<float>& x, index_type b, index_type t, float value) {
  for (index_type h = 0; h < x.heads(); ++h)
    for (index_type c = 0; c < x.dim(); ++c) x(b, h, t, c) = value;
}

template <class Rules>
void expect_hidden_keys_to_be_unread(const sizes& n, Rules rules) {
  rules.lengths[0] = n.keys / 2;
  operands<float> x(n);
  const auto want = differentiated(n, x, rules, {});
  for (index_type j = n.keys / 2; j < n.keys; ++j) fill(x.k, 0, j, nan), fill(x.v, 0, j, nan);
  const auto got = differentiated(n, x, rules, {});
  EXPECT_TRUE(same(got.d_q, want.d_q));
  EXPECT_TRUE(same(got.d_k, want.d_k));
  EXPECT_TRUE(same(got.d_v, want.d_v));
  for (index_type h = 0; h < n.kv_heads; ++h)
    for (index_type j = n.keys / 2; j < n.keys; ++j)
      for (index_type c = 0; c < n.dim; ++c) ASSERT_EQ(got.d_k(0, h, j, c), 0);
}

// Sums of a block where something hidden is not finite leave it out, term by term; so the others are the same
// to rounding only.
template <class Rules>
void expect_rows_without_keys_to_be_unread(const sizes& n, Rules rules) {
  rules.diagonal = -3;  // the first three queries see nothing
  operands<float> x(n);
  const auto want = differentiated(n, x, rules, {});
  for (index_type i = 0; i < 3; ++i) fill(x.q, 0, i, nan), fill(x.d_out, 0, i, nan);
  const auto got = differentiated(n, x, rules, {});
  const auto near = [](const tensor<float>& a, const tensor<float>& b) {
    for (index_type i = 0; i < a.size(); ++i)
      ASSERT_NEAR(a.data()[i], b.data()[i], 1e-4f * (1 + std::abs(b.data()[i])));
  };
  near(got.d_q, want.d_q), near(got.d_k, want.d_k), near(got.d_v, want.d_v);
  for (index_type h = 0; h < n.heads; ++h)
    for (index_type i = 0; i < 3; ++i)
      for (index_type c = 0; c < n.dim; ++c) ASSERT_EQ(got.d_q(0, h, i, c), 0);
}

TEST(hidden_cells, do_not_reach_gradients) {
  for (const sizes& n : {sizes{1, 2, 1, 40, 130, 16, 24}, sizes{1, 4, 2, 70, 420, 72, 8}}) {
    expect_hidden_keys_to_be_unread(n, masks(n));
    expect_rows_without_keys_to_be_unread(n, masks(n));
    everything e(n);
    e.cap = 4, e.tilt = 0.1;
    expect_hidden_keys_to_be_unread(n, e);
    expect_rows_without_keys_to_be_unread(n, e);
  }
}

TEST(hidden_cells, of_sequences_without_keys_or_queries_have_gradients_of_zero) {
  for (const sizes& n :
       {sizes{2, 2, 1, 5, 0, 8, 8}, sizes{2, 2, 1, 0, 5, 8, 8}, sizes{0, 2, 1, 5, 5, 8, 8}}) {
    const auto got = differentiated(n, operands<float>(n), no_rules{}, {});
    for (const auto* x : {&got.d_q, &got.d_k, &got.d_v})
      for (index_type i = 0; i < x->size(); ++i) ASSERT_EQ(x->data()[i], 0);
  }
}

// A NaN that is seen does reach what saw it, and nothing else.
TEST(seen_nan, reaches_the_gradients_of_its_row_and_of_the_keys_that_it_saw) {
  const sizes n{1, 1, 1, 40, 130, 16, 16};
  operands<float> x(n);
  masks m(n);
  m.diagonal = 0;
  fill(x.q, 0, 20, nan);
  const auto got = differentiated(n, x, m, {});
  for (index_type i = 0; i < n.queries; ++i) EXPECT_EQ(std::isnan(got.d_q(0, 0, i, 0)), i == 20) << i;
  for (index_type j = 0; j < n.keys; ++j) EXPECT_EQ(std::isnan(got.d_k(0, 0, j, 0)), j <= 20) << j;
}

}  // namespace
}  // namespace fovea_test
