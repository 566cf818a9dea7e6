// fovea/kv_cache/nibble_rows.hpp - rows of 4-bit numbers: written one by one, read many rows at a time.
//
// A row of n numbers is ceil(n / 2) bytes: byte i has number i in its low half and number i + ceil(n / 2) in
// its high one, so that registers of bytes become registers of numbers without a shuffle. Each stands for
// itself less 8, times a scale.
#pragma once

#include <fovea/kernel/arch/nibbles.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <type_traits>

FOVEA_NAMESPACE_BEGIN
namespace caching {

inline constexpr index_type nibble_block = kernel::nibble_channels;

/// The bytes of so many numbers, to be written where these can be.
template <class N>
auto bytes_of_numbers(N* first, index_type count) noexcept {
  const std::span<N> numbers(first, static_cast<std::size_t>(count));
  if constexpr (std::is_const_v<N>)
    return std::as_bytes(numbers);
  else
    return std::as_writable_bytes(numbers);
}

inline index_type nibble_bytes(index_type n) noexcept { return (n + 1) / 2; }
inline float nibble_scale(float largest) noexcept {
  return largest >= 7 * std::numeric_limits<float>::min() ? largest / 7 : 0.f;
}
inline std::uint8_t nibble_of(float x, float scale) noexcept {
  return static_cast<std::uint8_t>(
      8 + (scale > 0 ? static_cast<int>(std::clamp(std::nearbyint(x / scale), -7.f, 7.f)) : 0));
}
inline void put_nibble(std::uint8_t* row, index_type n, index_type c, std::uint8_t code) noexcept {
  const index_type half = nibble_bytes(n);
  std::uint8_t& byte = row[c < half ? c : c - half];
  byte = static_cast<std::uint8_t>(c < half ? (byte & 0xf0) | code : (byte & 0x0f) | code << 4);
}

/// 32 numbers of the low halves of bytes, or of the high ones: to[i] = (code - 8) * multiple, which is 1 to
/// 16. Codes are multiplied two bytes at a time, neither of which overflows: 15 * 16 is 240.
inline void read_block(const std::uint8_t* from, bool high, unsigned multiple, std::int8_t* to) noexcept {
  std::uint16_t pairs[nibble_block / 2];
  std::uint8_t bytes[nibble_block];
  std::memcpy(pairs, from, sizeof pairs);
  for (std::uint16_t& x : pairs)
    x = static_cast<std::uint16_t>(((high ? x >> 4 : x) & 0x0f0f) * static_cast<int>(multiple));
  std::memcpy(bytes, pairs, sizeof bytes);
  const auto middle = static_cast<std::uint8_t>(8 * multiple);
  for (index_type i = 0; i < nibble_block; ++i)
    to[i] = static_cast<std::int8_t>(static_cast<std::uint8_t>(bytes[i] - middle));
}

/// 32 numbers of the low halves of bytes, and 32 of the high ones, each less 8.
inline void read_both(const std::uint8_t* from, std::int8_t* low, std::int8_t* high) noexcept {
  std::uint8_t bytes[nibble_block];
  std::memcpy(bytes, from, sizeof bytes);
  for (index_type i = 0; i < nibble_block; ++i) low[i] = static_cast<std::int8_t>((bytes[i] & 15) - 8);
  for (index_type i = 0; i < nibble_block; ++i) high[i] = static_cast<std::int8_t>((bytes[i] >> 4) - 8);
}

/// The first `cols` of rows of n numbers, `bytes` apart, to rows `width` apart, 0 beyond them: to[c] = (the
/// code of number c less 8) * multiple[c / 32], the multiples behind a row's codes, or, without Multiples,
/// once.
template <bool Multiples>
void read_nibbles(const std::uint8_t* row, index_type bytes, index_type rows, index_type n, index_type cols,
                  std::int8_t* to, index_type width) noexcept {
  const index_type half = nibble_bytes(n);
  const bool whole = cols == n && n % (2 * nibble_block) == 0;
  for (; rows > 0; --rows, row += bytes, to += width) {
    kernel::ask_ahead<4096, 2>(row, bytes);
    const std::uint8_t* const multiples = row + half;
    for (index_type c = 0; whole && c < half; c += nibble_block)
      if constexpr (Multiples) {
        read_block(row + c, false, multiples[c / nibble_block], to + c);
        read_block(row + c, true, multiples[(half + c) / nibble_block], to + half + c);
      } else {
        read_both(row + c, to + c, to + half + c);
      }
    for (index_type c = 0; !whole && c < cols; ++c) {
      const int code = (c < half ? row[c] & 15 : row[c - half] >> 4) - 8;
      to[c] = static_cast<std::int8_t>(Multiples ? code * multiples[c / nibble_block] : code);
    }
    for (index_type c = cols; c < width; ++c) to[c] = 0;
  }
}

}  // namespace caching
FOVEA_NAMESPACE_END
