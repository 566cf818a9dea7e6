// Compiled with -O3 -ffast-math -fno-finite-math-only, for more than one instruction set: the contract holds for what is
// left of -ffast-math. What is expected comes from expected.cpp, compiled without; NaN and infinities are made and asked
// of bits.
#include "expected.hpp"

#include <fovea/kv_cache.hpp>
#include <fovea/position.hpp>

#include <gtest/gtest.h>

#include <random>

namespace fovea_test {
namespace {

using fovea::index_type;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Truth = Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr double u = 0x1p-24;

// No constants to the compiler, which would know of them what it assumes of none.
volatile std::uint32_t nan_bits = 0x7fc00000u, minus_infinity_bits = 0xff800000u, infinity_bits = 0x7f800000u;
const float nan = std::bit_cast<float>(std::uint32_t(nan_bits));
const float minus_infinity = std::bit_cast<float>(std::uint32_t(minus_infinity_bits));
const float infinity = std::bit_cast<float>(std::uint32_t(infinity_bits));

bool is_finite(float x) { return (std::bit_cast<std::uint32_t>(x) & 0x7f800000u) != 0x7f800000u; }
bool is_minus_infinity(float x) { return std::bit_cast<std::uint32_t>(x) == 0xff800000u; }
bool is_zero(float x) { return (std::bit_cast<std::uint32_t>(x) & 0x7fffffffu) == 0; }

struct sizes {
  index_type queries, keys;
};
// One query and few rows have dim in lanes; many rows have queries in lanes, in one block of keys and in several.
const sizes all_sizes[] = {{1, 1}, {1, 37}, {1, 700}, {3, 300}, {40, 40}, {40, 700}};
constexpr index_type dim = 24;

struct fast_math : testing::TestWithParam<sizes> {
  std::mt19937 engine{7};
  const index_type queries = GetParam().queries, keys = GetParam().keys;
  Matrix q = draw(queries, dim), k = draw(keys, dim), v = draw(keys, dim), bias = draw(queries, keys);
  Truth seen = Truth::Ones(queries, keys);
  const fovea::attention<float, 1> attend;

  Matrix draw(index_type rows, index_type columns) {
    std::uniform_real_distribution<float> uniform(-2, 2);
    return Matrix::NullaryExpr(rows, columns, [&] { return uniform(engine); });
  }
  /// Hides a seventh of the cells, every fourth row, and the last two keys, which become NaN and infinite.
  void hide_some() {
    for (index_type i = 0; i < queries; ++i)
      for (index_type j = 0; j < keys; ++j)
        seen(i, j) = (3 * i + 5 * j) % 7 != 0 && i % 4 != 2 && j + 2 < keys;
    for (index_type j = std::max<index_type>(keys - 2, 0); j < keys; ++j) {
      k(j, j % dim) = j % 2 ? nan : infinity;
      v.row(j).setConstant(j % 2 ? infinity : nan);
    }
  }
  problem given(double cap = 0, bool biased = false) const {
    return {q.data(), k.data(), v.data(), biased ? bias.data() : nullptr, seen.data(), queries,
            keys,     dim,      cap};
  }
  void expect_near(const Matrix& o, const Matrix& lse, const result& want) const {
    for (index_type i = 0; i < queries; ++i) {
      const auto row = static_cast<std::size_t>(i);
      if (want.hidden[row]) {
        EXPECT_TRUE(is_minus_infinity(lse(i, 0))) << "LSE of row " << i << ", which sees nothing";
        for (index_type c = 0; c < dim; ++c) EXPECT_TRUE(is_zero(o(i, c))) << "row " << i;
        continue;
      }
      ASSERT_TRUE(is_finite(lse(i, 0)));
      EXPECT_NEAR(double(lse(i, 0)), want.lse[row], 3 * u * (4 + want.largest[row]));
      for (index_type c = 0; c < dim; ++c) {
        const auto cell = static_cast<std::size_t>(i * dim + c);
        ASSERT_TRUE(is_finite(o(i, c))) << "row " << i << ", column " << c;
        ASSERT_NEAR(double(o(i, c)), want.out[cell], 3 * u * want.magnitude[cell] * (4 + want.largest[row]))
            << "row " << i << ", column " << c;
      }
    }
  }
};

TEST_P(fast_math, every_key_seen) {
  const auto got = attend.with_lse(q, k, v, fovea::boolean_mask(seen));
  expect_near(got.out, got.lse, expected(given()));
}

TEST_P(fast_math, a_boolean_mask_hides_nan_and_rows) {
  hide_some();
  const auto got = attend.with_lse(q, k, v, fovea::boolean_mask(seen));
  expect_near(got.out, got.lse, expected(given()));
}

TEST_P(fast_math, a_bias_of_minus_infinity_hides_the_same) {
  hide_some();
  for (index_type i = 0; i < queries; ++i)
    for (index_type j = 0; j < keys; ++j)
      if (!seen(i, j)) bias(i, j) = minus_infinity;
  const auto got = attend.with_lse(q, k, v, fovea::softcap{5.f}, fovea::bias(bias));
  expect_near(got.out, got.lse, expected(given(5, true)));
}

TEST_P(fast_math, a_nan_that_is_seen_stays) {
  k(0, 3) = nan;
  const auto got = attend.with_lse(q, k, v, fovea::boolean_mask(seen));
  for (index_type i = 0; i < queries; ++i) EXPECT_FALSE(is_finite(got.out(i, 0))) << "row " << i;
}

TEST_P(fast_math, gradients) {
  hide_some();
  const Matrix d_out = draw(queries, dim);
  const auto part = attend.with_lse(q, k, v, fovea::boolean_mask(seen));
  const auto got = attend.backward(q, k, v, part.out, part.lse, d_out, fovea::boolean_mask(seen));
  const slopes want = expected_slopes(given(), d_out.data());
  const auto expect = [](const Matrix& x, const std::vector<double>& wanted, const char* name) {
    for (index_type i = 0; i < x.size(); ++i) {
      ASSERT_TRUE(is_finite(x.data()[i])) << name << " at " << i;
      ASSERT_NEAR(double(x.data()[i]), wanted[static_cast<std::size_t>(i)], 2e-4) << name << " at " << i;
    }
  };
  expect(got.d_q, want.d_q, "d_q"), expect(got.d_k, want.d_k, "d_k"), expect(got.d_v, want.d_v, "d_v");
}

TEST_P(fast_math, parts_merge) {
  hide_some();
  Truth first = seen, second = seen, none = Truth::Zero(queries, keys);
  first.rightCols(keys - keys / 2).setConstant(false), second.leftCols(keys / 2).setConstant(false);
  const auto part = [&](const Truth& of) { return attend.with_lse(q, k, v, fovea::boolean_mask(of)); };
  const auto got =
      fovea::merge(fovea::merge(part(none), part(first)), fovea::merge(part(second), part(none)));
  result want = expected(given());
  for (double& x : want.magnitude) x *= 2;  // two more roundings
  for (double& x : want.largest) x += 4;
  expect_near(got.out, got.lse, want);
}

INSTANTIATE_TEST_SUITE_P(sizes, fast_math, testing::ValuesIn(all_sizes), [](const auto& info) {
  return std::to_string(info.param.queries) + "_by_" + std::to_string(info.param.keys);
});

TEST(fast_math_refusals, nan_and_infinities) {
  const Matrix fine = Matrix::Ones(1, 8);
  for (const float wrong : {nan, infinity, minus_infinity}) {
    Matrix x = fine;
    x(0, 5) = wrong;
    fovea::kv_cache<std::int8_t, 1> cache(4, 8);
    EXPECT_THROW(cache.append(x, fine), std::invalid_argument);
    EXPECT_THROW(cache.append(fine, x), std::invalid_argument);
    EXPECT_THROW((fovea::attention<float, 1>({.scale = double(wrong)})), std::invalid_argument);
    EXPECT_THROW(fovea::rotary_table<float>(4, 8, double(wrong)), std::invalid_argument);
    const fovea::place here{};
    EXPECT_THROW(fovea::softcap{wrong}.check(here), std::invalid_argument);
    EXPECT_THROW((fovea::dropout{.rate = double(wrong)}.check(here)), std::invalid_argument);
  }
}

TEST(fast_math_elements, of_16_bits) {
  for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const auto half = std::bit_cast<fovea::fp16>(static_cast<std::uint16_t>(bits));
    ASSERT_EQ(std::bit_cast<std::uint32_t>(float(half)), bits_of_fp16(bits)) << bits;
    if ((bits & 0x7fffu) <= 0x7c00u) {
      ASSERT_EQ(fovea::fp16(float(half)).bits, bits);
    }
  }
}

}  // namespace
}  // namespace fovea_test
