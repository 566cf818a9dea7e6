// fovea/kernel/arch/sse2.hpp - SSE2 and its successors up to SSE4.2: 16 registers of 16 bytes, no FMA.
#pragma once

#include <fovea/kernel/arch/generic.hpp>

#if XSIMD_WITH_SSE2

FOVEA_NAMESPACE_BEGIN
namespace kernel {

template <class Arch>
concept sse2 = std::is_base_of_v<xsimd::sse2, Arch> && !std::is_base_of_v<xsimd::avx, Arch>;

template <sse2 Arch>
struct geometry<Arch> : sixteen_registers {
  static constexpr int few_rows = 2;  // four lanes hold queries well from three rows on
};

}  // namespace kernel
FOVEA_NAMESPACE_END
#endif
