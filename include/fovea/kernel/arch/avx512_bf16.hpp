// fovea/kernel/arch/avx512_bf16.hpp - AVX512_BF16: vdpbf16ps (Cooper Lake, Sapphire Rapids and later; Zen 4
// and later).
#pragma once

#include <fovea/kernel/arch/avx512.hpp>
#include <fovea/kernel/arch/pair_products.hpp>

#if XSIMD_WITH_AVX512F && defined(__AVX512BF16__)

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Subnormal bf16 count as 0 in vdpbf16ps, and so do subnormal sums, whatever MXCSR says.
template <avx512 Arch>
struct pair_products<Arch> {
  static constexpr bool available = true;
  using registers = registers_of_pairs<Arch>;

  FOVEA_INLINE static vec<Arch, float> add(const vec<Arch, float>& sum, const registers& a,
                                           const registers& b) noexcept {
#if defined(__clang__)  // clang 16 crashes where it optimises vectors of its type for bf16
    __m512 result = sum;
    const __m512i left = a, right = b;
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(result) : "v"(left), "v"(right));
    return vec<Arch, float>(result);
#else
    return vec<Arch, float>(_mm512_dpbf16_ps(sum, std::bit_cast<__m512bh>(static_cast<__m512i>(a)),
                                             std::bit_cast<__m512bh>(static_cast<__m512i>(b))));
#endif
  }

  FOVEA_INLINE static registers rounded(const vec<Arch, float>& low, const vec<Arch, float>& high) noexcept {
#if defined(__clang__)
    const __m512 of_low = low, of_high = high;
    __m512i halves;
    __asm__("vcvtne2ps2bf16 %2, %1, %0" : "=v"(halves) : "v"(of_high), "v"(of_low));
#else
    const auto halves = std::bit_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
#endif
    const __m512i turns = _mm512_or_si512(_mm512_set1_epi32(0x00100000), counting());
    return registers(_mm512_permutexvar_epi16(turns, halves));
  }

 private:
  /// i and i in the halves of lane i.
  static __m512i counting() noexcept {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_or_si512(lane, _mm512_slli_epi32(lane, 16));
  }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
#endif
