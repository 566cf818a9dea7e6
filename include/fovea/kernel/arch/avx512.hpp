// fovea/kernel/arch/avx512.hpp - AVX-512: 32 registers of 64 bytes.
#pragma once

#include <fovea/kernel/arch/generic.hpp>
#include <fovea/kernel/arch/nibbles.hpp>

#if XSIMD_WITH_AVX512F

#include <immintrin.h>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

template <class Arch>
concept avx512 = std::is_base_of_v<xsimd::avx512f, Arch>;

template <avx512 Arch>
struct geometry<Arch> : thirty_two_registers {};

/// xsimd 8 multiplies and adds here and zips within 128-bit lanes; both are stated again.
template <avx512 Arch>
struct isa<Arch> : generic_isa<Arch> {
  template <class T>
  FOVEA_INLINE static vec<Arch, T> fma(const vec<Arch, T>& a, const vec<Arch, T>& b,
                                       const vec<Arch, T>& c) noexcept {
    if constexpr (sizeof(T) == 4)
      return vec<Arch, T>(_mm512_fmadd_ps(a, b, c));
    else
      return vec<Arch, T>(_mm512_fmadd_pd(a, b, c));
  }

  /// a / b for normal b within a unit in the last place, by 14 bits of 1 / b and a step of Newton's: 3
  /// operations, where an Intel divides for 16 cycles.
  template <class T>
  FOVEA_INLINE static vec<Arch, T> quotient(const vec<Arch, T>& a, const vec<Arch, T>& b) noexcept {
    if constexpr (sizeof(T) == 4) {
      const __m512 reciprocal = _mm512_rcp14_ps(b), first = _mm512_mul_ps(a, reciprocal);
      return vec<Arch, T>(_mm512_fmadd_ps(_mm512_fnmadd_ps(b, first, a), reciprocal, first));
    } else {
      return a / b;
    }
  }

  FOVEA_INLINE static vec<Arch, float> load_bf16(const void* from) noexcept {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(from)));
    return vec<Arch, float>(_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
  }
  static void store_upper_halves(const positions<Arch, float>& x, void* to) noexcept {
    const __m256i halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32(x, 16));
    _mm256_storeu_si256(static_cast<__m256i*>(to), halves);
  }
  static void store_fp16(const vec<Arch, float>& x, void* to) noexcept {
    constexpr __mmask16 all = 0xffff;  // g++'s macro without a mask, unoptimised, has one of -1
    const __m256i halves = _mm512_maskz_cvtps_ph(all, x, _MM_FROUND_TO_NEAREST_INT);
    _mm256_storeu_si256(static_cast<__m256i*>(to), halves);
  }
  FOVEA_INLINE static vec<Arch, float> load_fp16(const void* from) noexcept {
    return vec<Arch, float>(_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(from))));
  }
  /// E4M3: as fp16 the same bits are 2^-8 of it; the largest magnitude is a NaN.
  FOVEA_INLINE static vec<Arch, float> load_fp8(const void* from) noexcept {
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(static_cast<const __m128i*>(from)));
    const __m256i half =
        _mm256_and_si256(_mm256_slli_epi16(wide, 7), _mm256_set1_epi16(static_cast<short>(0xbf80)));
    const __m256i most = _mm256_set1_epi16(0x3f80);
    const __m256i nan = _mm256_cmpeq_epi16(_mm256_and_si256(half, most), most);
    const __m256i all = _mm256_or_si256(half, _mm256_and_si256(nan, _mm256_set1_epi16(0x4000)));
    return vec<Arch, float>(_mm512_mul_ps(_mm512_cvtph_ps(all), _mm512_set1_ps(256.0f)));
  }
  FOVEA_INLINE static vec<Arch, float> load_int8(const void* from) noexcept {
    return vec<Arch, float>(
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from)))));
  }

  template <class T>
  FOVEA_INLINE static vec<Arch, T> zip_lo(const vec<Arch, T>& a, const vec<Arch, T>& b) noexcept {
    return zip<T, 0>(a, b);
  }
  template <class T>
  FOVEA_INLINE static vec<Arch, T> zip_hi(const vec<Arch, T>& a, const vec<Arch, T>& b) noexcept {
    return zip<T, lanes<Arch, T> / 2>(a, b);
  }

  /// Lanes come together in the same order as by zips, by one shuffle a step in place of two.
  template <class T, class Op>
  FOVEA_INLINE static vec<Arch, T> over_lanes(vec<Arch, T> v, const Op& op) noexcept {
    v = op(v, pair<0x4e>(v, v));
    v = op(v, pair<0xb1>(v, v));
    if constexpr (sizeof(T) == 4) {
      v = op(v, vec<Arch, T>(_mm512_permute_ps(v, 0x4e)));
      return op(v, vec<Arch, T>(_mm512_permute_ps(v, 0xb1)));
    } else {
      return op(v, vec<Arch, T>(_mm512_permute_pd(v, 0x55)));
    }
  }

  /// g++ takes a value that is read once and used four times from memory each time; a Zen 4 loads 64 bytes a
  /// cycle, no more than it multiplies: Q K^T of 4 rows ran at 74 % of the peak from L2, and at 91 % with
  /// this.
  template <class T>
  FOVEA_INLINE static void keep_in_register(vec<Arch, T>& x) noexcept {
    typename vec<Arch, T>::register_type in_register = x;
    __asm__("" : "+v"(in_register));
    x = vec<Arch, T>(in_register);
  }

  /// Halves of registers, then quarters, then within 128-bit lanes. (By zips across lanes, of two operations
  /// each, Q K^T of 4 rows ran at 79 % of the peak in place of 91 %.)
  template <class T>
  FOVEA_INLINE static vec<Arch, T> sums_of_lanes(vec<Arch, T>* v) noexcept {
    constexpr int inner = lanes<Arch, T> / 4;  // in a 128-bit lane
    FOVEA_UNROLL_ALL
    for (int i = 0; i < 2 * inner; ++i) {
      vec<Arch, T>& low = v[i % inner + i / inner * 2 * inner];
      const vec<Arch, T> high = v[i % inner + i / inner * 2 * inner + inner];
      low = pair<0x44>(low, high) + pair<0xee>(low, high);
    }
    FOVEA_UNROLL_ALL
    for (int i = 0; i < inner; ++i)
      v[i] = pair<0x88>(v[i], v[i + 2 * inner]) + pair<0xdd>(v[i], v[i + 2 * inner]);
    return sums_within_lanes<T>(v);
  }

  static constexpr bool has_halves = true;
  /// Half a register of elements, in both halves.
  template <class T>
  static vec<Arch, T> load_twice(const T* from) noexcept {
    if constexpr (sizeof(T) == 4)
      return vec<Arch, T>(_mm512_broadcast_f32x8(_mm256_loadu_ps(from)));
    else
      return vec<Arch, T>(_mm512_broadcast_f64x4(_mm256_loadu_pd(from)));
  }
  /// Of as many registers as a half has lanes: lane i of each half is the sum over that half of v[i].
  template <class T>
  FOVEA_INLINE static vec<Arch, T> sums_of_halves(const vec<Arch, T>* v) noexcept {
    constexpr int inner = lanes<Arch, T> / 4;
    vec<Arch, T> w[std::size_t{inner}];  // 128-bit lanes: of v[i] and of v[i + inner], the halves of each
    FOVEA_UNROLL_ALL
    for (int i = 0; i < inner; ++i) w[i] = pair<0x88>(v[i], v[i + inner]) + pair<0xdd>(v[i], v[i + inner]);
    const vec<Arch, T> sums = sums_within_lanes<T>(w);
    return pair<0xd8>(sums, sums);
  }

  /// Within 128-bit lanes first, then of those lanes: 64 single-cycle shuffles for 16 x 16 floats. (With zips
  /// across lanes packing and unpacking took 21 % of the time at 128 tokens.)
  template <class T>
  FOVEA_INLINE static void transpose(vec<Arch, T>* v) noexcept {
    constexpr int n = lanes<Arch, T>, inner = n / 4;
    vec<Arch, T> w[std::size_t{n}];
    if constexpr (sizeof(T) == 4) {
      FOVEA_UNROLL_ALL
      for (int g = 0; g < 4; ++g) {
        const __m512 a = v[4 * g], b = v[4 * g + 1], c = v[4 * g + 2], d = v[4 * g + 3];
        const auto pd = [](__m512 x) FOVEA_INLINE_LAMBDA { return _mm512_castps_pd(x); };
        const __m512d ab = pd(_mm512_unpacklo_ps(a, b)), cd = pd(_mm512_unpacklo_ps(c, d));
        const __m512d AB = pd(_mm512_unpackhi_ps(a, b)), CD = pd(_mm512_unpackhi_ps(c, d));
        w[4 * g] = vec<Arch, T>(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)));
        w[4 * g + 1] = vec<Arch, T>(_mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
        w[4 * g + 2] = vec<Arch, T>(_mm512_castpd_ps(_mm512_unpacklo_pd(AB, CD)));
        w[4 * g + 3] = vec<Arch, T>(_mm512_castpd_ps(_mm512_unpackhi_pd(AB, CD)));
      }
    } else {
      FOVEA_UNROLL_ALL
      for (int g = 0; g < 4; ++g) {
        w[2 * g] = vec<Arch, T>(_mm512_unpacklo_pd(v[2 * g], v[2 * g + 1]));
        w[2 * g + 1] = vec<Arch, T>(_mm512_unpackhi_pd(v[2 * g], v[2 * g + 1]));
      }
    }
    // Lane L of w[inner * g + k] is column inner * L + k of the rows of group g.
    FOVEA_UNROLL_ALL
    for (int k = 0; k < inner; ++k) {
      const auto a = w[k], b = w[inner + k], c = w[2 * inner + k], d = w[3 * inner + k];
      const auto low = pair<0x44>(a, b), high = pair<0xee>(a, b), low2 = pair<0x44>(c, d),
                 high2 = pair<0xee>(c, d);
      v[k] = pair<0x88>(low, low2);
      v[inner + k] = pair<0xdd>(low, low2);
      v[2 * inner + k] = pair<0x88>(high, high2);
      v[3 * inner + k] = pair<0xdd>(high, high2);
    }
  }

  using generic_isa<Arch>::exp2;
  template <class T>
  FOVEA_INLINE static vec<Arch, T> exp2(const vec<Arch, T>& x, const vec<Arch, T>& least) noexcept {
    return generic_isa<Arch>::template exp2_with<isa>(x, least);
  }
  template <class T>
  FOVEA_INLINE static vec<Arch, T> exp2_or_zero(const vec<Arch, T>& x, const vec<Arch, T>& least) noexcept {
    return generic_isa<Arch>::template exp2_with<isa, T, false>(x, least);
  }

  /// By the foundation's instructions: unoptimised, those that xsimd 8 takes of AVX-512BW do not compile.
  template <class T>
  FOVEA_INLINE static vec<Arch, T> log(const vec<Arch, T>& x) noexcept {
    using foundation = vec<xsimd::avx512f, T>;
    using stored = typename foundation::register_type;
    return vec<Arch, T>(static_cast<stored>(xsimd::log(foundation(static_cast<stored>(x)))));
  }

 private:
  /// Of each 128-bit lane of v[0], v[1] and so on, in that order.
  template <class T>
  FOVEA_INLINE static vec<Arch, T> sums_within_lanes(const vec<Arch, T>* v) noexcept {
    if constexpr (sizeof(T) == 4) {
      const auto folded = [](__m512 a, __m512 b) FOVEA_INLINE_LAMBDA {
        return vec<Arch, T>(_mm512_shuffle_ps(a, b, 0x44)) + vec<Arch, T>(_mm512_shuffle_ps(a, b, 0xee));
      };
      const vec<Arch, T> even = folded(v[0], v[1]), odd = folded(v[2], v[3]);
      return vec<Arch, T>(_mm512_shuffle_ps(even, odd, 0x88)) +
             vec<Arch, T>(_mm512_shuffle_ps(even, odd, 0xdd));
    } else {
      return vec<Arch, T>(_mm512_unpacklo_pd(v[0], v[1])) + vec<Arch, T>(_mm512_unpackhi_pd(v[0], v[1]));
    }
  }

  /// Two 128-bit lanes of a and two of b.
  template <int Lanes, class T>
  FOVEA_INLINE static xsimd::batch<T, Arch> pair(const xsimd::batch<T, Arch>& a,
                                                 const xsimd::batch<T, Arch>& b) noexcept {
    if constexpr (sizeof(T) == 4)
      return vec<Arch, T>(_mm512_shuffle_f32x4(a, b, Lanes));
    else
      return vec<Arch, T>(_mm512_shuffle_f64x2(a, b, Lanes));
  }

  template <class T, int First>
  FOVEA_INLINE static vec<Arch, T> zip(const vec<Arch, T>& a, const vec<Arch, T>& b) noexcept {
    constexpr int F = First;
    if constexpr (sizeof(T) == 4)
      return vec<Arch, T>(_mm512_permutex2var_ps(
          a,
          _mm512_setr_epi32(F, F + 16, F + 1, F + 17, F + 2, F + 18, F + 3, F + 19, F + 4, F + 20, F + 5,
                            F + 21, F + 6, F + 22, F + 7, F + 23),
          b));
    else
      return vec<Arch, T>(_mm512_permutex2var_pd(
          a, _mm512_setr_epi64(F, F + 8, F + 1, F + 9, F + 2, F + 10, F + 3, F + 11), b));
  }
};

/// A register holds a float for each code.
template <avx512 Arch>
struct nibble_lookup<Arch> {
  static constexpr bool available = true;
  using table = vec<Arch, float>;
  static table table_of(index_type multiple) noexcept {
    return table::load_aligned(tables_of_nibbles.of[static_cast<std::size_t>(multiple)].data());
  }
  FOVEA_INLINE static two_registers<Arch> load(const void* from, const table& low,
                                               const table& high) noexcept {
    const __m512i codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from)));
    return {table(_mm512_permutexvar_ps(codes, low)),  // by the lowest 4 bits of each lane
            table(_mm512_permutexvar_ps(_mm512_srli_epi32(codes, 4), high))};
  }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
#endif
