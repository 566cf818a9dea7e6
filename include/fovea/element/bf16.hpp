// fovea/element/bf16.hpp - bfloat16: the upper half of a float (8 bits of exponent, 7 of fraction).
#pragma once

#include <fovea/element/concept.hpp>

#include <bit>
#include <cstdint>

FOVEA_NAMESPACE_BEGIN

/// Storage only: arithmetic happens in float.
struct bf16 {
  std::uint16_t bits = 0;

  constexpr bf16() noexcept = default;
  /// Round to nearest, ties to even; a NaN stays a (quiet) NaN, what is too large becomes infinite.
  constexpr explicit bf16(float x) noexcept : bits(round(std::bit_cast<std::uint32_t>(x))) {}
  constexpr operator float() const noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }

 private:
  static constexpr std::uint16_t round(std::uint32_t x) noexcept {
    const std::uint32_t nearest = x + 0x7fffu + ((x >> 16) & 1u), quiet = x | 0x00400000u;
    return static_cast<std::uint16_t>(((x & 0x7fffffffu) > 0x7f800000u ? quiet : nearest) >> 16);
  }
};

/// Any 16-bit floating-point type with 8 significant bits is bfloat16 (ours, Eigen's, the compiler's).
template <class E>
concept bfloat16_bits = sizeof(E) == 2 && (std::is_same_v<E, bf16> || std::numeric_limits<E>::digits == 8) &&
                        !std::is_integral_v<E>;

template <bfloat16_bits E>
struct element_traits<E> {
  using compute = float;
  static constexpr bool is_bf16 = true;
  static float load(const E& x) noexcept { return std::bit_cast<bf16>(x); }
  static E store(float x) noexcept { return std::bit_cast<E>(bf16(x)); }
  template <class Isa>
  static auto load_lanes(const E* from) noexcept {
    return Isa::load_bf16(from);
  }
  template <class Isa>
  FOVEA_INLINE static void store_lanes(const auto& x, E* to) noexcept {
    Isa::store_bf16(x, to);
  }
};

FOVEA_NAMESPACE_END
