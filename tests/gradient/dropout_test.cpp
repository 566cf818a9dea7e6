// Dropout: the generator against published numbers, the same cells for any way of computing, as many as said.
#include "support.hpp"

#include <fovea/reference.hpp>

namespace fovea_test {
namespace {

// Random123's known answers for threefry2x32 with 20 rounds (kat_vectors of its distribution).
TEST(threefry, gives_the_published_numbers) {
  const auto expect = [](std::uint32_t key0, std::uint32_t key1, std::int64_t x0, std::int64_t x1,
                         std::int64_t y0, std::int64_t y1) {
    EXPECT_EQ(fovea::threefry(key0, key1, x0, x1), std::pair(y0, y1));
  };
  expect(0, 0, 0, 0, 0x6b200159, 0x99ba4efe);
  expect(0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x1cb996fc, 0xbb002be7);
  expect(0x13198a2e, 0x03707344, 0x243f6a88, 0x85a308d3, 0xc4923a9c, 0x483df7a0);
}

// The reference asks for each cell alone; kernels ask a register at a time, in lanes of queries or of keys.
TEST(dropout, drops_the_same_cells_for_any_blocking) {
  for (const index_type queries : {1, 3, 40, 150}) {
    const sizes n{2, 2, 1, queries, 300, 16, 24};
    const operands<float> x(n);
    const fovea::dropout drop{.rate = 0.4, .seed = 0x123456789abcdef};
    const fovea::attention<float, 2, 1> attend;
    const auto got = attend(x.q, x.k, x.v, drop);
    const auto want = fovea::reference(x.q, x.k, x.v, {.heads = 2, .kv_heads = 1}, drop);
    for (index_type i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got.data()[i], want.out.data()[i], 2e-6 * (1 + want.magnitude.data()[i])) << queries;
  }
}

// Equal logits and values of one: a row's output is the part of the keys that is kept, over 1 - rate.
TEST(dropout, keeps_as_many_as_it_says_and_the_mean) {
  const index_type keys = 4000, queries = 500;
  tensor<float> q(1, 1, queries, 8), k(1, 1, keys, 8), v(1, 1, keys, 1);
  std::fill_n(v.data(), v.size(), 1.f);
  for (const double rate : {0.0, 0.1, 0.5, 0.9}) {
    const auto out = fovea::attention<float, 1>{}(q, k, v, fovea::dropout{.rate = rate, .seed = 3});
    double sum = 0, squares = 0;
    for (index_type i = 0; i < queries; ++i) sum += out.data()[i], squares += out.data()[i] * out.data()[i];
    const double mean = sum / static_cast<double>(queries), cells = static_cast<double>(queries * keys);
    const double variance = squares / static_cast<double>(queries) - mean * mean;
    const double expected =
        rate / (1 - rate) / static_cast<double>(keys);  // of a mean of `keys` Bernoulli cells
    EXPECT_NEAR(mean, 1, 5 * std::sqrt(rate / (1 - rate) / cells) + 1e-5) << rate;
    EXPECT_NEAR(variance, expected, 0.4 * expected + 1e-9) << rate;
  }
}

TEST(dropout, differs_by_seed_sequence_and_head) {
  tensor<float> q(2, 2, 64, 8), k(2, 2, 64, 8), v(2, 2, 64, 1);
  std::fill_n(v.data(), v.size(), 1.f);
  const fovea::attention<float, 2> attend;
  const auto one = attend(q, k, v, fovea::dropout{.rate = 0.5, .seed = 1}),
             other = attend(q, k, v, fovea::dropout{.rate = 0.5, .seed = 2});
  const auto differ = [](const float* a, const float* b) { return !std::equal(a, a + 64, b); };
  EXPECT_TRUE(differ(one.data(), other.data()));
  for (index_type head = 1; head < 4; ++head) EXPECT_TRUE(differ(one.data(), one.data() + 64 * head));
}

// What is dropped is as hidden: a NaN there reaches no other row.
TEST(dropout, leaves_out_what_it_drops) {
  const sizes n{1, 1, 1, 40, 60, 16, 16};
  operands<float> x(n);
  const fovea::dropout drop{.rate = 0.5, .seed = 9};
  for (index_type c = 0; c < 16; ++c) x.v(0, 0, 7, c) = std::numeric_limits<float>::infinity();
  const auto out = fovea::attention<float, 1>{}(x.q, x.k, x.v, drop);
  const auto head = drop.bind({});
  for (index_type i = 0; i < n.queries; ++i)
    EXPECT_EQ(std::isfinite(out(0, 0, i, 0)), !head.kept(fovea::cell{i, 7})) << i;
}

}  // namespace
}  // namespace fovea_test
