// fovea/kernel/arch/avx2.hpp - AVX, AVX2 and FMA3: 16 registers of 32 bytes.
#pragma once

#include <fovea/kernel/arch/generic.hpp>
#include <fovea/kernel/arch/nibbles.hpp>

#if XSIMD_WITH_AVX

#include <immintrin.h>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

template <class Arch>
concept avx = std::is_base_of_v<xsimd::avx, Arch>;

template <avx Arch>
struct geometry<Arch> : sixteen_registers {};

/// xsimd 8 zips within 128-bit lanes. What AVX alone lacks, the compiler writes.
template <avx Arch>
struct isa<Arch> : generic_isa<Arch> {
#ifdef __AVX2__
  FOVEA_INLINE static vec<Arch, float> load_bf16(const void* from) noexcept {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from)));
    return vec<Arch, float>(_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
  }
  static void store_upper_halves(const positions<Arch, float>& x, void* to) noexcept {
    const __m256i halves = _mm256_srli_epi32(x, 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(halves, halves), 0x08);
    _mm_storeu_si128(static_cast<__m128i*>(to), _mm256_castsi256_si128(packed));
  }
  FOVEA_INLINE static vec<Arch, float> load_int8(const void* from) noexcept {
    return vec<Arch, float>(
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(from)))));
  }
#endif
#ifdef __F16C__
  /// E4M3: as fp16 the same bits are 2^-8 of it; the largest magnitude is a NaN.
  FOVEA_INLINE static vec<Arch, float> load_fp8(const void* from) noexcept {
    const __m128i wide = _mm_cvtepi8_epi16(_mm_loadl_epi64(static_cast<const __m128i*>(from)));
    const __m128i half = _mm_and_si128(_mm_slli_epi16(wide, 7), _mm_set1_epi16(static_cast<short>(0xbf80)));
    const __m128i most = _mm_set1_epi16(0x3f80), nan = _mm_cmpeq_epi16(_mm_and_si128(half, most), most);
    const __m128i all = _mm_or_si128(half, _mm_and_si128(nan, _mm_set1_epi16(0x4000)));
    return vec<Arch, float>(_mm256_mul_ps(_mm256_cvtph_ps(all), _mm256_set1_ps(256.0f)));
  }
  FOVEA_INLINE static vec<Arch, float> load_fp16(const void* from) noexcept {
    return vec<Arch, float>(_mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(from))));
  }
  static void store_fp16(const vec<Arch, float>& x, void* to) noexcept {
    _mm_storeu_si128(static_cast<__m128i*>(to), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }
#endif

  template <class T>
  FOVEA_INLINE static vec<Arch, T> zip_lo(const vec<Arch, T>& a, const vec<Arch, T>& b) noexcept {
    return zip<T, 0x20>(a, b);
  }
  template <class T>
  FOVEA_INLINE static vec<Arch, T> zip_hi(const vec<Arch, T>& a, const vec<Arch, T>& b) noexcept {
    return zip<T, 0x31>(a, b);
  }

  /// Halves of registers, then within 128-bit lanes.
  template <class T>
  FOVEA_INLINE static vec<Arch, T> sums_of_lanes(vec<Arch, T>* v) noexcept {
    constexpr int inner = lanes<Arch, T> / 2;  // in a 128-bit lane
    FOVEA_UNROLL_ALL
    for (int i = 0; i < inner; ++i)
      v[i] = halves<0x20>(v[i], v[i + inner]) + halves<0x31>(v[i], v[i + inner]);
    return sums_of_halves<T>(v);
  }

  static constexpr bool has_halves = true;
  /// Half a register of elements, in both halves.
  template <class T>
  static vec<Arch, T> load_twice(const T* from) noexcept {
    if constexpr (sizeof(T) == 4)
      return vec<Arch, T>(_mm256_broadcast_ps(reinterpret_cast<const __m128*>(from)));
    else
      return vec<Arch, T>(_mm256_broadcast_pd(reinterpret_cast<const __m128d*>(from)));
  }
  /// Of as many registers as a half has lanes: lane i of each half is the sum over that half of v[i].
  template <class T>
  FOVEA_INLINE static vec<Arch, T> sums_of_halves(const vec<Arch, T>* v) noexcept {
    if constexpr (sizeof(T) == 4) {
      const auto folded = [](__m256 a, __m256 b) FOVEA_INLINE_LAMBDA {
        return vec<Arch, T>(_mm256_shuffle_ps(a, b, 0x44)) + vec<Arch, T>(_mm256_shuffle_ps(a, b, 0xee));
      };
      const vec<Arch, T> even = folded(v[0], v[1]), odd = folded(v[2], v[3]);
      return vec<Arch, T>(_mm256_shuffle_ps(even, odd, 0x88)) +
             vec<Arch, T>(_mm256_shuffle_ps(even, odd, 0xdd));
    } else {
      return vec<Arch, T>(_mm256_unpacklo_pd(v[0], v[1])) + vec<Arch, T>(_mm256_unpackhi_pd(v[0], v[1]));
    }
  }

  /// Within 128-bit lanes first, then of those lanes.
  template <class T>
  FOVEA_INLINE static void transpose(vec<Arch, T>* v) noexcept {
    constexpr int n = lanes<Arch, T>, inner = n / 2;
    vec<Arch, T> w[std::size_t{n}];
    if constexpr (sizeof(T) == 4) {
      FOVEA_UNROLL_ALL
      for (int g = 0; g < 2; ++g) {
        const __m256 a = v[4 * g], b = v[4 * g + 1], c = v[4 * g + 2], d = v[4 * g + 3];
        const __m256 ab = _mm256_unpacklo_ps(a, b), cd = _mm256_unpacklo_ps(c, d);
        const __m256 AB = _mm256_unpackhi_ps(a, b), CD = _mm256_unpackhi_ps(c, d);
        w[4 * g] = vec<Arch, T>(_mm256_shuffle_ps(ab, cd, 0x44));
        w[4 * g + 1] = vec<Arch, T>(_mm256_shuffle_ps(ab, cd, 0xee));
        w[4 * g + 2] = vec<Arch, T>(_mm256_shuffle_ps(AB, CD, 0x44));
        w[4 * g + 3] = vec<Arch, T>(_mm256_shuffle_ps(AB, CD, 0xee));
      }
    } else {
      FOVEA_UNROLL_ALL
      for (int g = 0; g < 2; ++g) {
        w[2 * g] = vec<Arch, T>(_mm256_unpacklo_pd(v[2 * g], v[2 * g + 1]));
        w[2 * g + 1] = vec<Arch, T>(_mm256_unpackhi_pd(v[2 * g], v[2 * g + 1]));
      }
    }
    FOVEA_UNROLL_ALL
    for (int k = 0; k < inner; ++k) {
      v[k] = halves<0x20>(w[k], w[inner + k]);
      v[inner + k] = halves<0x31>(w[k], w[inner + k]);
    }
  }

 private:
  template <int Halves, class T>
  FOVEA_INLINE static xsimd::batch<T, Arch> halves(const xsimd::batch<T, Arch>& a,
                                                   const xsimd::batch<T, Arch>& b) noexcept {
    if constexpr (sizeof(T) == 4)
      return vec<Arch, T>(_mm256_permute2f128_ps(a, b, Halves));
    else
      return vec<Arch, T>(_mm256_permute2f128_pd(a, b, Halves));
  }
  template <class T, int Halves>
  FOVEA_INLINE static vec<Arch, T> zip(const vec<Arch, T>& a, const vec<Arch, T>& b) noexcept {
    if constexpr (sizeof(T) == 4)
      return halves<Halves>(vec<Arch, T>(_mm256_unpacklo_ps(a, b)), vec<Arch, T>(_mm256_unpackhi_ps(a, b)));
    else
      return halves<Halves>(vec<Arch, T>(_mm256_unpacklo_pd(a, b)), vec<Arch, T>(_mm256_unpackhi_pd(a, b)));
  }
};

#ifdef __AVX2__
template <avx Arch>
struct nibble_lookup<Arch> : multiplied_nibbles<Arch> {
  using typename multiplied_nibbles<Arch>::table;
  FOVEA_INLINE static two_registers<Arch> load(const void* from, const table& low,
                                               const table& high) noexcept {
    const __m256i codes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(from)));
    using V = vec<Arch, float>;
    return {low.of(V(_mm256_cvtepi32_ps(_mm256_and_si256(codes, _mm256_set1_epi32(15))))),
            high.of(V(_mm256_cvtepi32_ps(_mm256_srli_epi32(codes, 4))))};
  }
};
#endif

}  // namespace kernel
FOVEA_NAMESPACE_END
#endif
