// fovea/kernel/arch/pair_products.hpp - sums of products of pairs of bf16, where an instruction makes them.
//
// Each file of an instruction set that has such an instruction specialises pair_products: AVX512_BF16 does
// (avx512_bf16.hpp); AMX, AVX-VNNI's kin and ARM's BFMMLA would.
#pragma once

#include <fovea/kernel/arch/registers.hpp>

#include <cstdint>
#include <cstring>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Two bf16 side by side: of a row two channels; of two tokens one column, or the weights of one query.
struct bf16_pair {
  std::uint16_t low, high;
};

/// Says of queries that they are packed as pairs of channels, without a scale.
struct as_bf16_pairs {};

/// No such instruction. Where there is one:
///   available                      true
///   registers                      how a register of pairs is kept: 32 bits a lane
///   add(sum, a, b)                 sum + a.low b.low + a.high b.high in each lane of a register of float.
///                                  Products are exact, or lie below the smallest normal float
///   rounded(low, high)             a register of pairs from two of float, to nearest, ties to even
template <class Arch>
struct pair_products {
  static constexpr bool available = false;
};

template <class Arch>
concept multiplies_pairs = pair_products<Arch>::available;

template <class Arch>
using registers_of_pairs = positions<Arch, float>;

/// A register of pairs, and one of a single pair; they lie as bf16 do, not as numbers of 32 bits.
template <class Arch>
registers_of_pairs<Arch> load_pairs(const bf16_pair* from) noexcept {
  return registers_of_pairs<Arch>::load_unaligned(reinterpret_cast<const std::int32_t*>(from));
}
template <class Arch>
registers_of_pairs<Arch> broadcast_pair(const bf16_pair* from) noexcept {
  std::int32_t pair;
  std::memcpy(&pair, from, sizeof pair);
  return registers_of_pairs<Arch>(pair);
}
template <class Arch>
void store_pairs(const registers_of_pairs<Arch>& x, bf16_pair* to) noexcept {
  x.store_unaligned(reinterpret_cast<std::int32_t*>(to));
}

}  // namespace kernel
FOVEA_NAMESPACE_END
