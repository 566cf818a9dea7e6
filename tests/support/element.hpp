// tests/support/element.hpp - storage formats by their definition: slow, plain, and independent of the
// library.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

namespace fovea_test {

using index_type = std::ptrdiff_t;

enum class element_kind { f32, f64, bf16, f16 };

/// A binary floating-point format: significant bits (the hidden one counts), smallest and largest exponent of
/// a normal number 1.x * 2^e.
struct format {
  int bytes, digits, least_exponent, largest_exponent;
};

constexpr format format_of(element_kind kind) noexcept {
  switch (kind) {
    case element_kind::f32:
      return {4, 24, -126, 127};
    case element_kind::f64:
      return {8, 53, -1022, 1023};
    case element_kind::bf16:
      return {2, 8, -126, 127};
    case element_kind::f16:
      return {2, 11, -14, 15};
  }
  return {};
}

constexpr const char* name_of(element_kind kind) noexcept {
  constexpr const char* names[] = {"f32", "f64", "bf16", "f16"};
  return names[static_cast<int>(kind)];
}

/// 2^e, as std::ldexp(1.0, e), which took a fifth of the properties' time.
constexpr double power_of_2(int e) noexcept {
  return e >= -1022 ? std::bit_cast<double>(static_cast<std::uint64_t>(1023 + e) << 52)
                    : std::bit_cast<double>(std::uint64_t{1} << (e + 1074));
}
/// As std::ilogb, of a finite number; -1023 below the smallest normal one, 0 included.
constexpr int exponent_of(double x) noexcept {
  return static_cast<int>(std::bit_cast<std::uint64_t>(x) << 1 >> 53) - 1023;
}

/// Distance between neighbours around |x|.
inline double spacing(element_kind kind, double x) noexcept {
  const format f = format_of(kind);
  const int exponent = std::isfinite(x) ? std::max(f.least_exponent, exponent_of(x)) : f.least_exponent;
  return power_of_2(exponent - f.digits + 1);
}

/// x rounded to the nearest number of the format, ties to even.
inline double rounded(element_kind kind, double x) noexcept {
  if (kind == element_kind::f64 || x == 0 || !std::isfinite(x)) return x;
  const double step = spacing(kind, x), nearest = std::nearbyint(x / step) * step;
  const format f = format_of(kind);
  const double largest = (2.0 - power_of_2(1 - f.digits)) * power_of_2(f.largest_exponent);
  return std::abs(nearest) > largest ? std::copysign(std::numeric_limits<double>::infinity(), x) : nearest;
}

/// The number that 16 bits with so many fraction bits stand for.
inline double from_16_bits(element_kind kind, std::uint16_t bits) noexcept {
  const format f = format_of(kind);
  const int fraction_bits = f.digits - 1, exponent_mask = (1 << (15 - fraction_bits)) - 1;
  const int fraction = bits & ((1 << fraction_bits) - 1), exponent = (bits >> fraction_bits) & exponent_mask;
  const double sign = bits & 0x8000 ? -1.0 : 1.0;
  if (exponent == exponent_mask)
    return fraction ? std::numeric_limits<double>::quiet_NaN()
                    : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * fraction * power_of_2(f.least_exponent - fraction_bits);
  return sign * ((1 << fraction_bits) + fraction) *
         power_of_2(exponent - 1 + f.least_exponent - fraction_bits);
}

inline std::uint16_t to_16_bits(element_kind kind, double x) noexcept {
  const format f = format_of(kind);
  const int fraction_bits = f.digits - 1;
  const unsigned infinite = 0x7fffu >> fraction_bits << fraction_bits, sign = std::signbit(x) ? 0x8000u : 0u;
  if (std::isnan(x)) return static_cast<std::uint16_t>(sign | infinite | (1u << (fraction_bits - 1)));
  const double magnitude = std::abs(rounded(kind, x));
  if (std::isinf(magnitude)) return static_cast<std::uint16_t>(sign | infinite);
  const double steps = magnitude / spacing(kind, magnitude);
  const int exponent = std::max(exponent_of(magnitude), f.least_exponent);
  // A normal number's hidden bit carries into the exponent field; a subnormal has none to carry.
  return static_cast<std::uint16_t>(
      sign |
      (static_cast<unsigned>(steps) + (static_cast<unsigned>(exponent - f.least_exponent) << fraction_bits)));
}

inline double decode(element_kind kind, const void* from) noexcept {
  if (kind == element_kind::f64) {
    double x;
    std::memcpy(&x, from, sizeof x);
    return x;
  }
  if (kind == element_kind::f32) {
    float x;
    std::memcpy(&x, from, sizeof x);
    return static_cast<double>(x);
  }
  std::uint16_t bits;
  std::memcpy(&bits, from, sizeof bits);
  return from_16_bits(kind, bits);
}

inline void encode(element_kind kind, double x, void* to) noexcept {
  if (kind == element_kind::f64) {
    std::memcpy(to, &x, sizeof x);
  } else if (kind == element_kind::f32) {
    const float y = static_cast<float>(x);
    std::memcpy(to, &y, sizeof y);
  } else {
    const std::uint16_t bits = to_16_bits(kind, x);
    std::memcpy(to, &bits, sizeof bits);
  }
}

}  // namespace fovea_test
