// The ends of the range: numbers that are tiny or huge in int8 and 16 bits; sizes whose products no index
// can count.
#include "../support/max_abs.hpp"
#include "support.hpp"

#include <cmath>
#include <limits>

namespace fovea_test {
namespace range_test {

constexpr index_type dim = 8, count = 40;  // a block of int8 keys, and 8 that are not quantised yet
constexpr float largest = std::numeric_limits<float>::max(), least_normal = std::numeric_limits<float>::min();

/// int8: each number within 1/254 of the largest that it shares its scale with, or all of them 0.
TEST(ranges, of_int8) {
  const Matrix unit_k = normal(count, kv_heads * dim, 1) / 8, unit_v = normal(count, kv_heads * dim, 2) / 8;
  for (const float size :
       {0.f, std::numeric_limits<float>::denorm_min(), 1e-40f, least_normal, 1e-37f, 126 * least_normal,
        127 * least_normal, 1e-35f, 1e-20f, 1.f, 1e20f, 1e38f, largest}) {
    SCOPED_TRACE(size);
    Matrix k = unit_k * size, v = unit_v * size;
    for (index_type c = 0; c < k.cols(); ++c) k(3, c) = size, k(35, c) = -size;
    for (index_type t = 0; t < count; ++t) v(t, 2) = size, v(t, dim + 5) = -size;
    fovea::kv_cache<std::int8_t, kv_heads> cache(count, dim);
    cache.append(k, v);
    const numbers got = numbers_of(cache);
    const auto check = [&](double stored, double given) {
      ASSERT_LE(std::abs(stored), static_cast<double>(largest));
      if (size < 127 * least_normal)
        ASSERT_EQ(stored, 0);
      else
        ASSERT_LE(std::abs(stored - given), static_cast<double>(size) / 253);
    };
    for (index_type c = 0; c < k.cols(); ++c) {
      for (index_type t = 0; t < 32; ++t)
        ASSERT_NO_FATAL_FAILURE(check(got.k(t, c), static_cast<double>(k(t, c))));
      for (index_type t = 0; t < count; ++t)
        ASSERT_NO_FATAL_FAILURE(check(got.v(t, c), static_cast<double>(v(t, c))));
    }
    for (const index_type queries : {1, 40}) {
      const Matrix q = normal(queries, heads * dim, 3) * 1e-3f, o = attend(q, cache);
      for (index_type i = 0; i < o.size(); ++i) {
        ASSERT_TRUE(std::isfinite(o.data()[i])) << "with " << queries << " queries";
        ASSERT_LE(std::abs(o.data()[i]), 1.01f * size + least_normal);
      }
    }
  }
}

/// What is beyond the range of what is stored becomes infinite, where there are infinities.
TEST(ranges, of_doubles) {
  const Eigen::MatrixXd huge = Eigen::MatrixXd::Constant(1, kv_heads * dim, 1e300);
  const auto stored = [&]<class E>(E, double value) {
    fovea::kv_cache<E, kv_heads> cache(1, dim);
    cache.append(Eigen::MatrixXd(huge * (value / 1e300)), huge);
    return numbers_of(cache);
  };
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(stored(0.f, 1).v(0, 0), infinity);
  EXPECT_EQ(stored(fovea::bf16(0.f), 3.4e38).k(0, 0), infinity);
  EXPECT_EQ(stored(fovea::fp16(0.f), 65520).k(0, 0), infinity);
  EXPECT_EQ(stored(fovea::fp16(0.f), 65519).k(0, 0), 65504);
  EXPECT_EQ(stored(0.0, 1).v(0, 0), 1e300);
  // int8 keys beside values of double.
  fovea::kv_cache<std::int8_t, kv_heads, double> cache(count, dim);
  const Eigen::MatrixXd k = normal(count, kv_heads * dim, 1).cast<double>();
  cache.append(k, Eigen::MatrixXd(k * 1e250));
  const numbers got = numbers_of(cache);
  EXPECT_LE(fovea_test::max_abs(got.k - k), fovea_test::max_abs(k) / 253);
  EXPECT_EQ(got.v, k * 1e250);
}

TEST(ranges, of_sizes) {
  const index_type two20 = 1 << 20, two32 = index_type(1) << 32, two58 = index_type(1) << 58,
                   most = std::numeric_limits<index_type>::max();
  int refused = 0;
  const auto expect_length_error = [&](const char* why, const auto& make) {
    try {
      make();
      ADD_FAILURE() << "made: " << why;
    } catch (const std::length_error& e) {
      EXPECT_NE(std::string(e.what()).find(why), std::string::npos) << e.what();
      ++refused;
    }
  };
  using fovea::kv_cache, fovea::ring_cache, fovea::page_pool;
  expect_length_error("1 x 1152921504606846977 x 1 x 4", [&] { kv_cache<float, 1>(4 * two58 + 1, 4); });
  expect_length_error("1 x 288230376151711744 x 1 x 16", [&] { kv_cache<float, 1>(two58, 16); });
  expect_length_error("x 4611686018427387968 x 1 x 2", [&] { kv_cache<fovea::bf16, 1>(16 * two58 + 64, 2); });
  expect_length_error("x 9223372036854775807 x 1 x 64", [&] { kv_cache<std::int8_t, 1>(most, 64); });
  expect_length_error("x 4294967296 x 4294967296", [&] { kv_cache<float>(1, two32, {.heads = two32}); });
  expect_length_error("x 9223372036854775807", [&] { kv_cache<float, 1>(1, 2, {.value_dim = most}); });
  expect_length_error("1 x 1152921504606846976 x 1 x 4",
                      [&] { ring_cache<float, 1>(4 * two58 - 4, 4, {.sinks = 4}); });
  expect_length_error("9223372036854775807 tokens and 9223372036854775807 sinks",
                      [&] { ring_cache<float, 1>(most, 4, {.sinks = most}); });
  expect_length_error("1048576 x 4398046511104 x 1 x 1",
                      [&] { page_pool<float, 1>({.pages = two20, .page_tokens = two20 << 22, .dim = 1}); });
  page_pool<float, 1> pool({.pages = 2, .page_tokens = 4, .dim = 4});
  expect_length_error("9223372036854775807 x 4 x 1 x 4", [&] { pool.grow(most); });
  EXPECT_EQ(pool.pages(), 2);
  kv_cache<float, 1> cache(4, 4);
  expect_length_error("1 x 9223372036854775807 x 1 x 4", [&] { cache.reserve(most); });
  EXPECT_EQ(cache.capacity(), 4);
  EXPECT_EQ(refused, 11);
}

}  // namespace range_test
}  // namespace fovea_test
