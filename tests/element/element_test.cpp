// bf16 and fp16 against their definition (support/element.hpp) and the compiler's _Float16.
#include "../support/element.hpp"
#include "../support/random.hpp"

#include <fovea/element.hpp>

#include <gtest/gtest.h>
#include <Eigen/Core>

#include <bit>
#include <vector>

namespace {

using fovea_test::element_kind;
using fovea_test::from_16_bits;
using fovea_test::to_16_bits;

static_assert(sizeof(fovea::bf16) == 2 && sizeof(fovea::fp16) == 2);
static_assert(fovea::bf16(1.0f).bits == 0x3f80 && fovea::fp16(1.0f).bits == 0x3c00,
              "conversions are constant expressions");
static_assert(static_cast<float>(fovea::fp16(-2.5f)) == -2.5f &&
              static_cast<float>(fovea::bf16(-2.5f)) == -2.5f);
static_assert(!std::is_convertible_v<float, fovea::bf16> && !std::is_convertible_v<float, fovea::fp16>);
static_assert(std::is_convertible_v<fovea::bf16, float> && std::is_convertible_v<fovea::fp16, float>);

static_assert(fovea::element<float> && fovea::element<double> && fovea::element<const fovea::bf16>);
static_assert(fovea::element<Eigen::half> && fovea::element<Eigen::bfloat16>);
static_assert(!fovea::element<int> && !fovea::element<std::uint16_t> && !fovea::element<bool>);
static_assert(std::is_same_v<fovea::compute_t<fovea::fp16>, float> &&
              std::is_same_v<fovea::compute_t<double>, double>);
static_assert(std::is_same_v<fovea::common_compute_t<float, fovea::bf16>, float>);
static_assert(std::is_same_v<fovea::common_compute_t<fovea::bf16, double, float>, double>);
static_assert(fovea::same_format<fovea::fp16, Eigen::half> &&
              fovea::same_format<Eigen::bfloat16, fovea::bf16>);
static_assert(!fovea::same_format<fovea::fp16, fovea::bf16> && !fovea::same_format<float, double>);

template <class E>
constexpr element_kind kind_of = std::is_same_v<E, fovea::bf16> ? element_kind::bf16 : element_kind::f16;

template <class E>
E from_bits(std::uint16_t bits) {
  return std::bit_cast<E>(bits);
}

template <class E>
struct sixteen_bits : testing::Test {};
using formats = testing::Types<fovea::bf16, fovea::fp16>;
TYPED_TEST_SUITE(sixteen_bits, formats, );

TYPED_TEST(sixteen_bits, every_value_is_read_by_definition) {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const auto b = static_cast<std::uint16_t>(bits);
    const float x = from_bits<TypeParam>(b);
    const double exact = from_16_bits(kind_of<TypeParam>, b);
    if (std::isnan(exact))
      ASSERT_TRUE(std::isnan(x)) << bits;
    else
      ASSERT_EQ(std::bit_cast<std::uint32_t>(x), std::bit_cast<std::uint32_t>(static_cast<float>(exact)))
          << bits;
  }
}

TYPED_TEST(sixteen_bits, every_value_round_trips) {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const float x = from_bits<TypeParam>(static_cast<std::uint16_t>(bits));
    const TypeParam back(x);
    if (std::isnan(x))
      ASSERT_TRUE(std::isnan(static_cast<float>(back))) << bits;
    else
      ASSERT_EQ(back.bits, bits);
  }
}

template <class E>
void expect_rounded(float x) {
  const E got(x);
  if (std::isnan(x))
    ASSERT_TRUE(std::isnan(static_cast<float>(got))) << std::hex << std::bit_cast<std::uint32_t>(x);
  else
    ASSERT_EQ(got.bits, to_16_bits(kind_of<E>, static_cast<double>(x))) << std::hexfloat << x;
}

// Halfway between neighbours, ties included, and one float to either side: also from the largest number to
// infinity, and between subnormal numbers and 0.
TYPED_TEST(sixteen_bits, rounds_to_nearest_even) {
  const unsigned infinite = to_16_bits(kind_of<TypeParam>, std::numeric_limits<double>::infinity());
  for (const unsigned sign : {0u, 0x8000u})
    for (unsigned bits = 0; bits < infinite; ++bits) {
      const double low = from_16_bits(kind_of<TypeParam>, static_cast<std::uint16_t>(bits));
      const double step = fovea_test::spacing(kind_of<TypeParam>, low);
      const float middle = static_cast<float>(low + step / 2) * (sign ? -1.0f : 1.0f);
      for (const float x : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 2 * middle)})
        ASSERT_NO_FATAL_FAILURE(expect_rounded<TypeParam>(x));
    }
}

TYPED_TEST(sixteen_bits, rounds_any_float) {
  fovea_test::random_source random(1);
  for (int i = 0; i < 1000000; ++i)
    ASSERT_NO_FATAL_FAILURE(
        expect_rounded<TypeParam>(std::bit_cast<float>(static_cast<std::uint32_t>(random.bits()))));
}

TYPED_TEST(sixteen_bits, nan_of_any_payload_stays_nan) {
  for (std::uint32_t payload = 1; payload < 0x00800000; payload = payload * 2 + 1)
    for (const std::uint32_t nan :
         {0x7f800000u | payload, 0xff800000u | payload, 0x7f800000u | (payload & -payload)})
      ASSERT_NO_FATAL_FAILURE(expect_rounded<TypeParam>(std::bit_cast<float>(nan))) << std::hex << nan;
}

TYPED_TEST(sixteen_bits, extremes) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float x : {0.0f, -0.0f, infinity, -infinity, std::numeric_limits<float>::max(),
                        std::numeric_limits<float>::lowest(), std::numeric_limits<float>::min(),
                        std::numeric_limits<float>::denorm_min(), 65504.0f, 65519.996f, 65520.0f, 0x1p-24f,
                        0x1p-25f, 0x1.000002p-25f, 0x1p-133f, 0x1p-134f})
    ASSERT_NO_FATAL_FAILURE(expect_rounded<TypeParam>(x));
}

TYPED_TEST(sixteen_bits, strided_conversion) {
  std::vector<TypeParam> from;
  for (int i = 0; i < 99; ++i) from.push_back(TypeParam(0.25f * static_cast<float>(i) - 3));
  for (const fovea::index_type stride : {1, 2, 3}) {
    std::vector<float> wide(33, -1);
    fovea::load_elements(from.data(), stride, 33, wide.data());
    std::vector<TypeParam> back(99);
    fovea::store_elements(wide.data(), 33, back.data(), stride);
    for (std::size_t i = 0; i < 33; ++i) {
      const std::size_t at = i * static_cast<std::size_t>(stride);
      ASSERT_EQ(wide[i], static_cast<float>(from[at]));
      ASSERT_EQ(back[at].bits, from[at].bits);
    }
  }
}

#if defined(__FLT16_MANT_DIG__)
TEST(fp16, agrees_with_the_compilers_float16) {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const float ours = from_bits<fovea::fp16>(static_cast<std::uint16_t>(bits));
    const float theirs = static_cast<float>(std::bit_cast<_Float16>(static_cast<std::uint16_t>(bits)));
    ASSERT_TRUE(ours == theirs || (std::isnan(ours) && std::isnan(theirs))) << bits;
  }
  fovea_test::random_source random(2);
  for (int i = 0; i < 1000000; ++i) {
    const float x =
        static_cast<float>(std::ldexp(random.uniform(-1, 1), static_cast<int>(random.integer(-28, 18))));
    ASSERT_EQ(fovea::fp16(x).bits, std::bit_cast<std::uint16_t>(static_cast<_Float16>(x)))
        << std::hexfloat << x;
  }
}
#endif

TEST(elements, eigens_sixteen_bit_types_are_read_as_ours) {
  EXPECT_EQ(fovea::load_element<float>(Eigen::half(1.5f)), 1.5f);
  EXPECT_EQ(fovea::load_element<double>(Eigen::bfloat16(-3.0f)), -3.0);
  EXPECT_EQ(static_cast<float>(fovea::store_element<Eigen::half>(0.1f)),
            static_cast<float>(fovea::fp16(0.1f)));
  EXPECT_EQ(static_cast<float>(fovea::store_element<Eigen::bfloat16>(0.1)),
            static_cast<float>(fovea::bf16(0.1f)));
}

}  // namespace
