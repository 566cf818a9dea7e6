// fovea/kernel/arch/nibbles.hpp - numbers of 4 bits, two a byte, as registers of float: looked up in a
// table, or, where a register holds fewer floats, widened and multiplied.
//
// Each file of an instruction set that widens bytes in a few instructions specialises nibble_lookup.
#pragma once

#include <fovea/kernel/arch/generic.hpp>

#include <array>
#include <cstdint>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Two numbers of a row of n: byte i holds number i in its low half and number i + n / 2 in its high one.
struct nibble_pair {
  std::uint8_t bits;
};

/// Asks for the rows that come `Ahead` bytes later, into a cache of such locality: no pointer tells a walk
/// where rows of nibbles lie.
template <index_type Ahead, int Locality>
void ask_ahead(const void* row, index_type bytes) noexcept {
  constexpr index_type line = 64;
  for (index_type i = 0; i < bytes; i += line)
    FOVEA_PREFETCH(static_cast<const char*>(row) + Ahead + i, 0, Locality);
}

/// No such instructions. Where there are:
///   available                       true
///   table, table_of(multiple)       what codes stand for: themselves less 8, times a multiple from 0 to 16
///   load(from, low, high)           two registers of float from as many bytes: what each byte's low half
///                                   stands for in the table `low`, and its high half in `high`
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

/// Values: so many channels share a multiple, 1 to 16, of their token's scale.
inline constexpr index_type nibble_channels = 32;
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

/// Where a register holds fewer floats: code * multiple - 8 * multiple.
template <class Arch>
struct multiplied_nibbles {
  static constexpr bool available = true;
  struct table {
    vec<Arch, float> multiple, middle;
    FOVEA_INLINE vec<Arch, float> of(const vec<Arch, float>& codes) const noexcept {
      return isa<Arch>::fma(codes, multiple, middle);  // exact
    }
  };
  static table table_of(index_type multiple) noexcept {
    const auto& numbers = tables_of_nibbles.of[static_cast<std::size_t>(multiple)];
    return {vec<Arch, float>(numbers[9]), vec<Arch, float>(numbers[0])};
  }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
