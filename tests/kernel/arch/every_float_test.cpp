// exp2 of the kernels for all 2^32 floats, on each instruction set that the compiler may use; conversions between float and
// the elements of 8 and 16 bits for all of either side.
#include "../../support/worse.hpp"

#include <fovea/element.hpp>
#include <fovea/kernel/arch.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace {

using fovea::kernel::isa;
using fovea::kernel::vec;

/// What attention.hpp states of exp2, in units of the last place of the result.
constexpr double ulp_with_fma = 2.04, ulp_without_fma = 2.3;

float float_of(std::uint32_t bits) { return std::bit_cast<float>(bits); }

/// f(first) for the bits of floats, `block` after one another from each `first`, by two threads.
constexpr std::uint32_t block = 4096;
template <class F>
void each_block(std::uint64_t begin, std::uint64_t end, const F& f) {
  std::atomic<std::uint64_t> next{begin};
  const auto work = [&] {
    for (std::uint64_t first; (first = next.fetch_add(block)) < end;) f(static_cast<std::uint32_t>(first));
  };
  std::thread other(work);
  work();
  other.join();
}

void raise(std::atomic<double>& most, double x) {
  for (double old = most; old < x && !most.compare_exchange_weak(old, x);) {
  }
}

/// Blocks of numbers.
struct alignas(64) numbers {
  float x[block], y[block];
  double exact[block];
};

template <class Arch, bool Subnormal = true, class T>
void exponentiate(const T* x, T* y, T least) {
  using V = vec<Arch, T>;
  for (std::uint32_t i = 0; i < block; i += V::size)
    (Subnormal ? isa<Arch>::exp2(V::load_aligned(x + i), V(least))
               : isa<Arch>::exp2_or_zero(V::load_aligned(x + i), V(least)))
        .store_aligned(y + i);
}

/// 2^x in double, to 2 units of its last place: see exp2_in_double.
void exact_powers(numbers& n) {
  alignas(64) double x[block];
  for (std::uint32_t i = 0; i < block; ++i) x[i] = static_cast<double>(n.x[i]);
  exponentiate<xsimd::default_arch>(x, n.exact, fovea::kernel::exp2_limits<double>::zero);
}

/// The largest error of n.y, in units of the last place of a float.
double largest_error(const numbers& n) {
  double most = 0;
  for (std::uint32_t i = 0; i < block; ++i) {
    const std::uint64_t power = std::bit_cast<std::uint64_t>(n.exact[i]) & 0x7ff0000000000000u;
    const double place = std::bit_cast<double>(power) * 0x1p-23;
    const double error = std::abs(static_cast<double>(n.y[i]) - n.exact[i]) / place;
    most = error > most ? error : most;
  }
  return most;
}

/// How many of n.y are not what every(y, x, exact) says.
template <class F>
std::uint32_t misses(const numbers& n, const F& right) {
  std::uint32_t count = 0;
  for (std::uint32_t i = 0; i < block; ++i) count += !right(n.y[i], n.x[i], n.exact[i]);
  return count;
}

bool is_nan(float x) { return (std::bit_cast<std::uint32_t>(x) & 0x7fffffffu) > 0x7f800000u; }

template <class Arch>
struct every_float : testing::Test {};

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__)
using instruction_sets = testing::Types<xsimd::default_arch, xsimd::fma3<xsimd::avx2>, xsimd::sse2>;
#elif defined(__AVX2__) && defined(__FMA__)
using instruction_sets = testing::Types<xsimd::default_arch, xsimd::sse2>;
#else
using instruction_sets = testing::Types<xsimd::default_arch>;
#endif
TYPED_TEST_SUITE(every_float, instruction_sets);

TEST(every_number, exp2_in_double) {
  // Sampled: what the floats are compared with.
  constexpr int samples = 1 << 20;
  double most = 0;
  auto x = std::make_unique<std::array<double, block>>(), y = std::make_unique<std::array<double, block>>();
  using V = vec<xsimd::default_arch, double>;
  for (int first = 0; first < samples; first += int(block)) {
    for (std::uint32_t i = 0; i < block; ++i) (*x)[i] = -127.0 + 254.0 * (first + int(i) + 0.37) / samples;
    for (std::uint32_t i = 0; i < block; i += V::size)
      isa<xsimd::default_arch>::exp2(V::load_unaligned(x->data() + i)).store_unaligned(y->data() + i);
    for (std::uint32_t i = 0; i < block; ++i)
      most = fovea_test::worse(most, std::abs((*y)[i] / std::exp2((*x)[i]) - 1));
  }
  EXPECT_LT(most, 2 * 0x1p-52);
}

TYPED_TEST(every_float, exp2) {
  constexpr bool fused = !std::is_same_v<TypeParam, xsimd::sse2>;
  constexpr float zero = fovea::kernel::exp2_limits<float>::zero, smallest = zero + 1;
  std::atomic<double> most{0};
  std::atomic<std::uint64_t> wrong{0}, seen{0};
  const auto check = [&](std::uint32_t first) {
    thread_local numbers n;
    for (std::uint32_t i = 0; i < block; ++i) n.x[i] = float_of(first + i);
    // The numbers of a block have one sign and, where they are large, one exponent.
    const float low = std::min(n.x[0], n.x[block - 1]), high = std::max(n.x[0], n.x[block - 1]);
    seen += block;
    exponentiate<TypeParam>(n.x, n.y, zero);
    if (is_nan(n.x[block - 1])) {  // the first of the lowest block is an infinity
      wrong += misses(n, [](float y, float x, double) { return is_nan(x) == is_nan(y) || x > 0; });
    } else if (high <= -126.5f) {
      wrong += misses(n, [](float y, float, double) { return y == 0; });
    } else if (low < smallest && high < 0) {
      exact_powers(n);
      wrong += misses(n, [](float y, float x, double exact) {
        if (x <= -126.5f) return y == 0;
        return std::abs(double(y) - exact) <= 0x1p-149 + 0x1p-23 * exact;
      });
    } else if (high <= 127) {
      exact_powers(n);
      raise(most, largest_error(n));
      wrong += misses(n, [](float y, float, double) { return !is_nan(y); });
    }
    if (high <= smallest) {
      exponentiate<TypeParam>(n.x, n.y, smallest);
      wrong += misses(n, [](float y, float x, double) { return is_nan(x) ? is_nan(y) : y == 0x1p-126f; });
    }
  };
  each_block(0, std::uint64_t(1) << 32, check);
  EXPECT_EQ(seen, std::uint64_t(1) << 32);
  EXPECT_EQ(wrong, 0u);
  EXPECT_LE(most, fused ? ulp_with_fma : ulp_without_fma);
  EXPECT_GE(most, 0.5) << "nothing was rounded";
  std::printf("largest error: %.4f units of the last place\n", most.load());
}

/// exp2_or_zero is exp2 but where that is subnormal: 0 there, or the smallest normal number.
TYPED_TEST(every_float, exp2_or_zero) {
  constexpr float zero = fovea::kernel::exp2_limits<float>::zero, smallest = zero + 1;
  std::atomic<std::uint64_t> wrong{0}, zeros{0};
  const auto check = [&](std::uint32_t first) {
    thread_local numbers n;
    alignas(64) thread_local float plain[block];
    for (std::uint32_t i = 0; i < block; ++i) n.x[i] = float_of(first + i);
    for (const float least : {zero, smallest}) {
      exponentiate<TypeParam>(n.x, plain, least);
      exponentiate<TypeParam, false>(n.x, n.y, least);
      std::uint32_t i = 0;
      wrong += misses(n, [&](float y, float x, double) {
        const float same = plain[i++];
        if (x >= -127 && x < -126) zeros += y == 0;
        if (x < -126) return y == (least == zero ? 0.f : 0x1p-126f);
        return std::bit_cast<std::uint32_t>(y) == std::bit_cast<std::uint32_t>(same) ||
               (is_nan(y) && is_nan(same));
      });
    }
  };
  each_block(0xc2f00000u, 0xc3100000u, check);             // -120 to -144
  each_block(0xff000000u, std::uint64_t(1) << 32, check);  // from there on to -inf, and NaN
  each_block(0x3f000000u, 0x42000000u, check);
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(zeros, 131072u);  // the floats of [-127, -126)
}

/// What a 16-bit float with so many bits of fraction stands for: in double, from its definition.
double value_of(std::uint32_t bits, int fraction_bits) {
  const int exponent_bits = 15 - fraction_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>((bits & 0x7fffu) >> fraction_bits);
  const double fraction = static_cast<double>(bits & ((1u << fraction_bits) - 1)) / (1 << fraction_bits);
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
  return bits & 0x8000u ? -magnitude : magnitude;
}

template <class E>
constexpr int fraction_bits_of = std::is_same_v<E, fovea::bf16> ? 7 : 10;

/// Whether x is what 16 bits stand for; the sign and the fraction of a NaN among it.
template <class E>
bool is_value_of(float x, std::uint32_t bits) {
  constexpr int fraction_bits = fraction_bits_of<E>;
  const std::uint32_t got = std::bit_cast<std::uint32_t>(x), sign = (bits & 0x8000u) << 16;
  const std::uint32_t largest = (0x7fffu >> fraction_bits) << fraction_bits;
  if ((bits & 0x7fffu) < largest)
    return (got & 0x80000000u) == sign && static_cast<double>(x) == value_of(bits, fraction_bits);
  const std::uint32_t fraction = (bits & ((1u << fraction_bits) - 1)) << (23 - fraction_bits);
  const std::uint32_t quiet = fraction != 0 ? 0x00400000u : 0;  // a signalling NaN may become a quiet one
  return (got | quiet) == (sign | 0x7f800000u | fraction | quiet);
}

template <class E, class Arch, class Load>
void expect_all_loaded(const Load& load) {
  constexpr std::uint32_t n = vec<Arch, float>::size;
  for (std::uint32_t first = 0; first < 0x10000u; first += n) {
    E from[n];
    alignas(64) float to[n];
    for (std::uint32_t i = 0; i < n; ++i) from[i] = std::bit_cast<E>(static_cast<std::uint16_t>(first + i));
    load(from).store_aligned(to);
    for (std::uint32_t i = 0; i < n; ++i) {
      ASSERT_TRUE(is_value_of<E>(to[i], first + i)) << std::hex << first + i;
      ASSERT_TRUE(is_value_of<E>(float(from[i]), first + i)) << std::hex << first + i;
    }
  }
}

TYPED_TEST(every_float, of_16_bits) {
  expect_all_loaded<fovea::bf16, TypeParam>(
      [](const fovea::bf16* x) { return isa<TypeParam>::load_bf16(x); });
  expect_all_loaded<fovea::fp16, TypeParam>(
      [](const fovea::fp16* x) { return isa<TypeParam>::load_fp16(x); });
}

TYPED_TEST(every_float, of_8_bits) {
  constexpr int n = int(vec<TypeParam, float>::size);
  for (int first = -128; first < 128; first += n) {
    std::int8_t from[n];
    alignas(64) float to[n];
    for (int i = 0; i < n; ++i) from[i] = static_cast<std::int8_t>(first + i);
    isa<TypeParam>::load_int8(from).store_aligned(to);
    for (int i = 0; i < n; ++i) {
      ASSERT_EQ(to[i], float(first + i));
      ASSERT_EQ(fovea::load_element<float>(from[i]), float(first + i));
    }
  }
}

/// Every float rounds to the nearest E, ties to even: the floats that round to one are a run that ends half way to the next.
template <class E>
void expect_all_rounded() {
  constexpr int fraction_bits = fraction_bits_of<E>;
  constexpr std::uint32_t infinite = (0x7fffu >> fraction_bits) << fraction_bits;
  // ends[h]: the first float that rounds to more than h; half way to it and h even, the next one.
  std::vector<std::uint32_t> ends(infinite + 1);
  for (std::uint32_t h = 0; h < infinite; ++h) {
    // Beyond the largest number the next one would be the power of two.
    const double half_way = (value_of(h, fraction_bits) + value_of(h + 1, fraction_bits)) / 2;
    ends[h] = std::bit_cast<std::uint32_t>(static_cast<float>(half_way)) + (h % 2 == 0);
    ASSERT_EQ(static_cast<double>(static_cast<float>(half_way)), half_way);
  }
  ends[infinite] = 0x7f800001u;
  std::atomic<std::uint64_t> wrong{0}, seen{0};
  each_block(0, std::uint64_t(1) << 31, [&](std::uint32_t first) {
    thread_local std::uint16_t plus[block], minus[block], want[block];
    for (std::uint32_t i = 0; i < block; ++i) {
      plus[i] = E(float_of(first + i)).bits;
      minus[i] = E(float_of(0x80000000u + first + i)).bits;
    }
    std::uint32_t count = 0;
    if (first + block - 1 > 0x7f800000u) {
      for (std::uint32_t i = first == 0x7f800000u; i < block; ++i)
        count += !(plus[i] > infinite && plus[i] < 0x8000u && (plus[i] >> (fraction_bits - 1) & 1u) == 1 &&
                   minus[i] == (plus[i] | 0x8000u));
    } else {
      auto h = static_cast<std::uint32_t>(std::upper_bound(ends.begin(), ends.end(), first) - ends.begin());
      for (std::uint32_t i = 0; i < block;) {
        const std::uint32_t end = std::min(block, ends[h] - first);
        std::fill(want + i, want + end, static_cast<std::uint16_t>(h));
        i = end, ++h;
      }
      for (std::uint32_t i = 0; i < block; ++i)
        count += plus[i] != want[i] || minus[i] != (want[i] | 0x8000u);
    }
    wrong += count, seen += 2 * block;
  });
  EXPECT_EQ(seen, std::uint64_t(1) << 32);
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(E(float_of(0x7f800000u)).bits, infinite);
  EXPECT_EQ(E(float_of(0xff800000u)).bits, infinite | 0x8000u);
}

TEST(every_number, to_bf16) { expect_all_rounded<fovea::bf16>(); }
TEST(every_number, to_fp16) { expect_all_rounded<fovea::fp16>(); }

}  // namespace
