// fovea/element/fp8.hpp - 8-bit floating point E4M3 (4 bits of exponent, 3 of fraction; OCP's OFP8).
#pragma once

#include <fovea/element/fp16.hpp>

FOVEA_NAMESPACE_BEGIN

/// Storage only, and without a scale: 2^-9 to 448 with steps of a sixteenth at most; there is no infinity.
struct fp8 {
  std::uint8_t bits = 0;

  constexpr fp8() noexcept = default;
  /// Round to nearest, ties to even; what is above 448 becomes 448 (an infinity as well), a NaN stays one.
  constexpr explicit fp8(float x) noexcept : bits(round(x)) {}
  constexpr operator float() const noexcept {
    const std::uint32_t magnitude = bits & 0x7fu;
    // The same bits as a binary16 are 2^-8 of the number, subnormal ones included.
    const float value =
        static_cast<float>(std::bit_cast<fp16>(static_cast<std::uint16_t>(magnitude << 7))) * 256;
    const float number = magnitude == 0x7f ? std::numeric_limits<float>::quiet_NaN() : value;
    return (bits & 0x80u) != 0 ? -number : number;
  }

 private:
  static constexpr std::uint8_t round(float x) noexcept {
    const std::uint32_t all = std::bit_cast<std::uint32_t>(x), sign = (all >> 24) & 0x80u;
    const std::uint32_t magnitude = all & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return static_cast<std::uint8_t>(sign | 0x7fu);
    if (magnitude >= 0x43e00000u) return static_cast<std::uint8_t>(sign | 0x7eu);  // 448 and beyond
    if (magnitude < 0x3c800000u) {  // below 2^-6: multiples of 2^-9, which 2^14 leaves in the lowest bits
      const float shifted = std::bit_cast<float>(magnitude) + 16384.0f;
      return static_cast<std::uint8_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x46800000u));
    }
    const std::uint32_t odd = (magnitude >> 20) & 1u;
    const std::uint32_t rounded = ((magnitude + 0x7ffffu + odd) >> 20) - (120u << 3);
    return static_cast<std::uint8_t>(sign | std::min(rounded, 0x7eu));
  }
};

template <>
struct element_traits<fp8> {
  using compute = float;
  static float load(fp8 x) noexcept { return x; }
  static fp8 store(float x) noexcept { return fp8(x); }
  template <class Isa>
    requires requires(const fp8* from) { Isa::load_fp8(from); }
  static auto load_lanes(const fp8* from) noexcept {
    return Isa::load_fp8(from);
  }
};

FOVEA_NAMESPACE_END
