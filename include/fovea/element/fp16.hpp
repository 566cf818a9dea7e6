// fovea/element/fp16.hpp - IEEE 754 binary16 (5 bits of exponent, 10 of fraction).
#pragma once

#include <fovea/element/concept.hpp>

#include <bit>
#include <cstdint>

FOVEA_NAMESPACE_BEGIN

/// Storage only: arithmetic happens in float.
struct fp16 {
  std::uint16_t bits = 0;

  constexpr fp16() noexcept = default;
  /// Round to nearest, ties to even; a NaN stays a (quiet) NaN, what is above 65,504 by half a step becomes
  /// infinite.
  constexpr explicit fp16(float x) noexcept : bits(round(std::bit_cast<std::uint32_t>(x))) {}
  constexpr operator float() const noexcept { return widen(bits); }

 private:
  // Both directions are free of branches, so that loops over elements vectorise. A float with the exponent
  // moved by a multiplication handles normal and subnormal numbers alike.
  static constexpr float widen(std::uint32_t h) noexcept {
    const std::uint32_t magnitude = (h & 0x7fffu) << 13, sign = (h & 0x8000u) << 16;
    const std::uint32_t normal = magnitude + (112u << 23), special = magnitude | 0x7f800000u;
    // A subnormal is fraction * 2^-24: put the fraction under 0.5 * 2^-13 and take that away again.
    const float subnormal = std::bit_cast<float>(magnitude + (113u << 23)) - std::bit_cast<float>(113u << 23);
    const std::uint32_t small = std::bit_cast<std::uint32_t>(subnormal);
    const std::uint32_t finite = magnitude < (1u << 23) ? small : normal;
    return std::bit_cast<float>((magnitude >= (31u << 23) ? special : finite) | sign);
  }

  static constexpr std::uint16_t round(std::uint32_t x) noexcept {
    const std::uint32_t sign = (x >> 16) & 0x8000u, magnitude = x & 0x7fffffffu;
    const std::uint32_t odd = (magnitude >> 13) & 1u;
    const std::uint32_t normal = (magnitude - (112u << 23) + 0xfffu + odd) >> 13;
    // Below 2^-14: adding 0.5 leaves the rounded multiple of 2^-24 in the lowest bits.
    const float shifted = std::bit_cast<float>(magnitude < (113u << 23) ? magnitude : 0u) + 0.5f;
    const std::uint32_t subnormal =
        std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(0.5f);
    const std::uint32_t finite = magnitude < (113u << 23) ? subnormal : normal;
    const std::uint32_t large = magnitude > 0x7f800000u ? 0x7e00u | ((magnitude >> 13) & 0x3ffu) : 0x7c00u;
    return static_cast<std::uint16_t>((magnitude >= 0x477ff000u ? large : finite) | sign);
  }
};

/// Any 16-bit floating-point type with 11 significant bits is binary16 (ours, Eigen's, the compiler's).
template <class E>
concept binary16_bits = sizeof(E) == 2 && (std::is_same_v<E, fp16> || std::numeric_limits<E>::digits == 11) &&
                        !std::is_integral_v<E>;

template <binary16_bits E>
struct element_traits<E> {
  using compute = float;
  static float load(const E& x) noexcept { return std::bit_cast<fp16>(x); }
  static E store(float x) noexcept { return std::bit_cast<E>(fp16(x)); }
  template <class Isa>
  static auto load_lanes(const E* from) noexcept {
    return Isa::load_fp16(from);
  }
  template <class Isa, class V>
    requires requires(const V& x, void* to) { Isa::store_fp16(x, to); }
  static void store_lanes(const V& x, E* to) noexcept {
    Isa::store_fp16(x, to);
  }
};

FOVEA_NAMESPACE_END
