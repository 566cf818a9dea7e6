// fovea/kernel/arch/neon64.hpp - NEON on AArch64: 32 registers of 16 bytes, with FMA.
#pragma once

#include <fovea/kernel/arch/generic.hpp>

#if XSIMD_WITH_NEON64

FOVEA_NAMESPACE_BEGIN
namespace kernel {

template <class Arch>
concept neon64 = std::is_base_of_v<xsimd::neon64, Arch>;

template <neon64 Arch>
struct geometry<Arch> : thirty_two_registers {
  static constexpr int few_rows = 2;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
#endif
