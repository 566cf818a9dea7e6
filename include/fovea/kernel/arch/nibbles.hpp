// fovea/kernel/arch/nibbles.hpp - numbers of 4 bits, two a byte, where an instruction looks them up.
//
// Each file of an instruction set that has such an instruction specialises nibble_lookup: AVX-512 does, whose
// registers hold a float for each of the 16 codes.
#pragma once

#include <fovea/kernel/arch/registers.hpp>

#include <array>
#include <cstdint>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Two numbers of a row of n: byte i holds number i in its low half and number i + n / 2 in its high one.
struct nibble_pair {
  std::uint8_t bits;
};

/// No such instruction. Where there is one:
///   available                       true
///   load(from, low, high)           two registers of float from as many bytes: of each byte's low half the
///                                   number of that place of the table `low`, of its high half that of `high`
template <class Arch>
struct nibble_lookup {
  static constexpr bool available = false;
};
template <class Arch>
struct two_registers {
  vec<Arch, float> low, high;
};

template <class Arch>
concept looks_up_nibbles = nibble_lookup<Arch>::available;

/// What the codes 0 to 15 stand for: themselves less 8, times a multiple from 0 to 16.
inline constexpr index_type nibble_codes = 16, most_nibble_multiple = 16;
struct alignas(64) nibble_tables {
  std::array<std::array<float, std::size_t{nibble_codes}>, std::size_t{most_nibble_multiple + 1}> of;
};
inline constexpr nibble_tables tables_of_nibbles = [] {
  nibble_tables all{};
  for (std::size_t multiple = 0; multiple < all.of.size(); ++multiple)
    for (std::size_t code = 0; code < all.of[0].size(); ++code)
      all.of[multiple][code] = (static_cast<float>(code) - 8) * static_cast<float>(multiple);
  return all;
}();

}  // namespace kernel
FOVEA_NAMESPACE_END
