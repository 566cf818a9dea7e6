// fovea/score/threefry.hpp - random numbers by position: a counter-based generator.
//
// Threefry-2x32 with 20 rounds: Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3",
// SC11 (doi 10.1145/2063384.2063405).
#pragma once

#include <fovea/config.hpp>

#include <cstdint>
#include <utility>

FOVEA_NAMESPACE_BEGIN

/// Two random words for a key and a counter. I: 32-bit integers in registers, which wrap; or 64-bit ones, of
/// which the low half is used. Only additions, shifts and bits: every instruction set has them.
template <class I>
std::pair<I, I> threefry(std::uint32_t key0, std::uint32_t key1, I x0, I x1) noexcept {
  constexpr bool wide = [] {
    if constexpr (requires { typename I::value_type; })
      return sizeof(typename I::value_type) == 8;
    else
      return sizeof(I) == 8;
  }();
  const auto number = [](std::uint32_t x) {
    if constexpr (wide)
      return I(static_cast<std::int64_t>(x));
    else
      return I(static_cast<std::int32_t>(x));
  };
  const auto word = [&](const I& x) {
    if constexpr (wide)
      return x & number(0xffffffffu);
    else
      return x;
  };
  // A right shift may be arithmetic: what it brings in is cut off.
  const auto rotate = [&](const I& x, int by) {
    return word((x << by) | ((x >> (32 - by)) & number((std::uint32_t(1) << by) - 1)));
  };
  constexpr int rotations[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
  const std::uint32_t key[3] = {key0, key1, 0x1bd11bdau ^ key0 ^ key1};
  x0 = word(x0 + number(key[0])), x1 = word(x1 + number(key[1]));
  for (std::uint32_t four = 0; four < 5; ++four) {
    for (const int by : rotations[four % 2]) {
      x0 = word(x0 + x1);
      x1 = rotate(x1, by) ^ x0;
    }
    x0 = word(x0 + number(key[(four + 1) % 3]));
    x1 = word(x1 + number(key[(four + 2) % 3] + four + 1));
  }
  return {x0, x1};
}

FOVEA_NAMESPACE_END
