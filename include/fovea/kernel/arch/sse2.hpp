// fovea/kernel/arch/sse2.hpp - SSE2 and its successors up to SSE4.2: 16 registers of 16 bytes, no FMA.
#pragma once

#include <fovea/kernel/arch/generic.hpp>
#include <fovea/kernel/arch/nibbles.hpp>

#if XSIMD_WITH_SSE2

#include <emmintrin.h>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

template <class Arch>
concept sse2 = std::is_base_of_v<xsimd::sse2, Arch> && !std::is_base_of_v<xsimd::avx, Arch>;

template <sse2 Arch>
struct geometry<Arch> : sixteen_registers {
  static constexpr int few_rows = 2;  // four lanes hold queries well from three rows on
};

/// Bytes are widened in registers: one by one, a call over int8 took 2.1 times as long with one query row a
/// head, 1.75 with four.
template <sse2 Arch>
struct isa<Arch> : generic_isa<Arch> {
  FOVEA_INLINE static vec<Arch, float> load_int8(const void* from) noexcept {
    int four;
    std::memcpy(&four, from, sizeof four);
    const __m128i none = _mm_setzero_si128(), bytes = _mm_cvtsi32_si128(four);
    const __m128i above = _mm_unpacklo_epi16(none, _mm_unpacklo_epi8(none, bytes));
    return vec<Arch, float>(_mm_cvtepi32_ps(_mm_srai_epi32(above, 24)));
  }
};

template <sse2 Arch>
struct nibble_lookup<Arch> : multiplied_nibbles<Arch> {
  using typename multiplied_nibbles<Arch>::table;
  FOVEA_INLINE static two_registers<Arch> load(const void* from, const table& low,
                                               const table& high) noexcept {
    int four;
    std::memcpy(&four, from, sizeof four);
    const __m128i none = _mm_setzero_si128(), bytes = _mm_cvtsi32_si128(four);
    const __m128i codes = _mm_unpacklo_epi16(_mm_unpacklo_epi8(bytes, none), none);
    using V = vec<Arch, float>;
    return {low.of(V(_mm_cvtepi32_ps(_mm_and_si128(codes, _mm_set1_epi32(15))))),
            high.of(V(_mm_cvtepi32_ps(_mm_srli_epi32(codes, 4))))};
  }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
#endif
