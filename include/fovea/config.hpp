// fovea/config.hpp - every macro of the library, its version and its inline namespace.
#pragma once

#define FOVEA_VERSION_MAJOR 0
#define FOVEA_VERSION_MINOR 2
#define FOVEA_VERSION_PATCH 0

#if (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) || defined(_M_FP_FAST)
#error \
    "fovea: -ffast-math and -Ofast let the compiler assume that NaN and -inf do not occur: masks would leak, \
a NaN be accepted or lost, the exponential be wrong; compile what includes fovea without them, or add \
-fno-finite-math-only after them (linking with them also flushes subnormal numbers to 0 in the whole \
process)."
#endif

// Whether sums may be made in another order than they are written in (what is left of -ffast-math): then what
// is added only to be rounded is kept apart by FOVEA_AS_ROUNDED(constraint, x), which is no instruction; the
// constraint says where x is: in memory, or in a FOVEA_VECTOR_REGISTER. clang has no macro that tells.
#if defined(__ASSOCIATIVE_MATH__) || defined(__clang__)
#define FOVEA_SUMS_REORDER 1
#define FOVEA_AS_ROUNDED(constraint, x) __asm__("" : constraint(x))
#else
#define FOVEA_SUMS_REORDER 0
#define FOVEA_AS_ROUNDED(constraint, x) static_cast<void>(x)
#endif
#if defined(__x86_64__) || defined(__i386__)
#define FOVEA_VECTOR_REGISTER "+v"
#elif defined(__aarch64__)
#define FOVEA_VECTOR_REGISTER "+w"
#else
#define FOVEA_VECTOR_REGISTER "+m"
#endif

// FOVEA_PASTE(a, b, ...): up to twelve pieces, expanded, as one name; an empty piece adds nothing.
#define FOVEA_PASTE(...) FOVEA_PASTE_PIECES(__VA_ARGS__, , , , , , , , , , , , )
#define FOVEA_PASTE_PIECES(a, b, c, d, e, f, g, h, i, j, k, l, ...) a##b##c##d##e##f##g##h##i##j##k##l

// FOVEA_IF(M, piece): the piece where the macro M stands for 1, else nothing.
#define FOVEA_IF(macro, piece) FOVEA_IF_VALUE(macro, piece)
#define FOVEA_IF_VALUE(value, piece) FOVEA_SECOND_OF(FOVEA_IS_##value piece, , )
#define FOVEA_IS_1 ~,
#define FOVEA_SECOND_OF(...) FOVEA_SECOND(__VA_ARGS__)
#define FOVEA_SECOND(first, second, ...) second

// The inline namespace is named for the version and for all that changes the code of an inline function or
// the layout of a type, as far as a compiler tells it by a macro: fovea::v0_2_x86_64_v3_xsimd8. Of
// functions of one name a linker keeps the first that it meets; files compiled with other flags must
// therefore share none, or one of them runs instructions that its processor lacks, or arithmetic that was
// not asked of it. (So a type of the library can not be handed from one such file to another: a link error.
// Plain data can.)
//
// Not in it, since programs mix them: the level of optimisation, NDEBUG, sanitizers, tuning, the C++
// standard. No macro tells -ffp-contract, nor, in clang, what -ffast-math means beside __NO_MATH_ERRNO__.
// Files that differ in these share functions that keep the contract either way; the last bits of a result
// may depend on which of them the linker kept.

// x86-64: the level of the psABI that the target contains, and what it has beyond.
#if defined(__x86_64__) || defined(_M_X64)
#define FOVEA_ISA_EXTRA                                                                          \
  FOVEA_PASTE(FOVEA_IF(__SSE4A__, _sse4a), FOVEA_IF(__FMA4__, _fma4), FOVEA_IF(__XOP__, _xop),   \
              FOVEA_IF(__TBM__, _tbm), FOVEA_IF(__GFNI__, _gfni), FOVEA_IF(__PRFCHW__, _prfchw), \
              FOVEA_IF(__AVXVNNI__, _avxvnni), FOVEA_IF(__AVXVNNIINT8__, _avxvnniint8),          \
              FOVEA_IF(__AVXVNNIINT16__, _avxvnniint16), FOVEA_IF(__AVXIFMA__, _avxifma),        \
              FOVEA_IF(__AVXNECONVERT__, _avxneconvert), FOVEA_IF(__APX_F__, _apx))
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__) && defined(__AVX512VBMI2__) && \
    defined(__AVX512IFMA__) && defined(__AVX512BITALG__) && defined(__AVX512VPOPCNTDQ__)
#define FOVEA_ISA_AVX512_ICELAKE _icelake
#else
#define FOVEA_ISA_AVX512_ICELAKE                                                  \
  FOVEA_PASTE(FOVEA_IF(__AVX512VNNI__, _vnni), FOVEA_IF(__AVX512VBMI__, _vbmi),   \
              FOVEA_IF(__AVX512VBMI2__, _vbmi2), FOVEA_IF(__AVX512IFMA__, _ifma), \
              FOVEA_IF(__AVX512BITALG__, _bitalg), FOVEA_IF(__AVX512VPOPCNTDQ__, _vpopcntdq))
#endif
#define FOVEA_ISA_AVX512_EXTRA                                                                            \
  FOVEA_PASTE(FOVEA_ISA_AVX512_ICELAKE, FOVEA_IF(__AVX512BF16__, _bf16), FOVEA_IF(__AVX512FP16__, _fp16), \
              FOVEA_IF(__AVX512ER__, _er), FOVEA_IF(__AVX512PF__, _pf), FOVEA_IF(__AVX10_1__, _avx10_1),  \
              FOVEA_IF(__AVX10_2__, _avx10_2))
#define FOVEA_ISA_V4                                                                \
  FOVEA_PASTE(FOVEA_IF(__AVX512F__, _avx512f), FOVEA_IF(__AVX512BW__, _avx512bw),   \
              FOVEA_IF(__AVX512CD__, _avx512cd), FOVEA_IF(__AVX512DQ__, _avx512dq), \
              FOVEA_IF(__AVX512VL__, _avx512vl))
#define FOVEA_ISA_V3                                                                         \
  FOVEA_PASTE(FOVEA_IF(__AVX__, _avx), FOVEA_IF(__AVX2__, _avx2), FOVEA_IF(__FMA__, _fma),   \
              FOVEA_IF(__F16C__, _f16c), FOVEA_IF(__BMI__, _bmi), FOVEA_IF(__BMI2__, _bmi2), \
              FOVEA_IF(__LZCNT__, _lzcnt), FOVEA_IF(__MOVBE__, _movbe))
#define FOVEA_ISA_V2                                                                                 \
  FOVEA_PASTE(FOVEA_IF(__SSE3__, _sse3), FOVEA_IF(__SSSE3__, _ssse3), FOVEA_IF(__SSE4_1__, _sse4_1), \
              FOVEA_IF(__SSE4_2__, _sse4_2), FOVEA_IF(__POPCNT__, _popcnt))
#if defined(__SSE3__) && defined(__SSSE3__) && defined(__SSE4_1__) && defined(__SSE4_2__) && \
    defined(__POPCNT__)
#if defined(__AVX__) && defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && defined(__BMI__) && \
    defined(__BMI2__) && defined(__LZCNT__) && defined(__MOVBE__)
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && \
    defined(__AVX512VL__)
#define FOVEA_ISA FOVEA_PASTE(_x86_64_v4, FOVEA_ISA_AVX512_EXTRA, FOVEA_ISA_EXTRA)
#else
#define FOVEA_ISA FOVEA_PASTE(_x86_64_v3, FOVEA_ISA_V4, FOVEA_ISA_AVX512_EXTRA, FOVEA_ISA_EXTRA)
#endif
#else
#define FOVEA_ISA FOVEA_PASTE(_x86_64_v2, FOVEA_ISA_V3, FOVEA_ISA_V4, FOVEA_ISA_AVX512_EXTRA, FOVEA_ISA_EXTRA)
#endif
#else
#define FOVEA_ISA \
  FOVEA_PASTE(_x86_64, FOVEA_ISA_V2, FOVEA_ISA_V3, FOVEA_ISA_V4, FOVEA_ISA_AVX512_EXTRA, FOVEA_ISA_EXTRA)
#endif

// ARM: scalable registers with the length that was fixed, and what is beyond ARMv8.0 with NEON.
#elif defined(__aarch64__) || defined(_M_ARM64)
#if defined(__ARM_FEATURE_SVE_BITS) && __ARM_FEATURE_SVE_BITS > 0
#define FOVEA_ISA_SVE FOVEA_PASTE(_sve, __ARM_FEATURE_SVE_BITS)
#else
#define FOVEA_ISA_SVE FOVEA_IF(__ARM_FEATURE_SVE, _sve)
#endif
#define FOVEA_ISA                                                                                         \
  FOVEA_PASTE(_aarch64, FOVEA_IF(__ARM_NEON, _neon), FOVEA_ISA_SVE, FOVEA_IF(__ARM_FEATURE_SVE2, _sve2),  \
              FOVEA_IF(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC, _fp16), FOVEA_IF(__ARM_FEATURE_BF16, _bf16), \
              FOVEA_IF(__ARM_FEATURE_DOTPROD, _dotprod), FOVEA_IF(__ARM_FEATURE_MATMUL_INT8, _i8mm),      \
              FOVEA_IF(__ARM_FEATURE_ATOMICS, _lse), FOVEA_IF(__ARM_FEATURE_SME, _sme))

// Others: the widest registers of theirs that xsimd knows.
#else
#define FOVEA_ISA                                                                                    \
  FOVEA_PASTE(FOVEA_IF(__SSE2__, _sse2), FOVEA_IF(__AVX__, _avx), FOVEA_IF(__AVX2__, _avx2),         \
              FOVEA_IF(__FMA__, _fma), FOVEA_IF(__AVX512F__, _avx512f), FOVEA_IF(__ARM_NEON, _neon), \
              FOVEA_IF(__ARM_FEATURE_FMA, _fma), FOVEA_IF(__wasm_simd128__, _simd128),               \
              FOVEA_IF(__VSX__, _vsx))
#endif

// Arithmetic: the parts of -ffast-math; intermediates that are wider than their type.
#if defined(__ASSOCIATIVE_MATH__) && defined(__RECIPROCAL_MATH__) && defined(__NO_SIGNED_ZEROS__) && \
    defined(__NO_TRAPPING_MATH__)
#define FOVEA_UNSAFE_MATH _unsafe_math
#else
#define FOVEA_UNSAFE_MATH                                                                               \
  FOVEA_PASTE(FOVEA_IF(__ASSOCIATIVE_MATH__, _associative), FOVEA_IF(__RECIPROCAL_MATH__, _reciprocal), \
              FOVEA_IF(__NO_SIGNED_ZEROS__, _unsigned_zeros), FOVEA_IF(__NO_TRAPPING_MATH__, _no_trapping))
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0
#define FOVEA_WIDE_EVALUATION _wide_evaluation
#else
#define FOVEA_WIDE_EVALUATION
#endif
#define FOVEA_ARITHMETIC                                                 \
  FOVEA_PASTE(FOVEA_UNSAFE_MATH, FOVEA_IF(__NO_MATH_ERRNO__, _no_errno), \
              FOVEA_IF(__ROUNDING_MATH__, _rounding), FOVEA_WIDE_EVALUATION)

// What the standard library, Eigen and xsimd are, as far as it changes types: their version, debug
// containers, old strings, an index of Eigen's that is int, row-major by default. (Eigen's other settings
// change its own functions only.)
#include <version>

#if __has_include(<xsimd/config/xsimd_config.hpp>)  // compiled.hpp is used without it
#include <xsimd/config/xsimd_config.hpp>
#endif

#ifdef _GLIBCXX_DEBUG
#define FOVEA_STANDARD_LIBRARY _glibcxx_debug
#elif defined(_GLIBCXX_USE_CXX11_ABI) && !_GLIBCXX_USE_CXX11_ABI
#define FOVEA_STANDARD_LIBRARY _old_strings
#elif defined(_LIBCPP_VERSION)
#define FOVEA_STANDARD_LIBRARY _libcpp
#else
#define FOVEA_STANDARD_LIBRARY
#endif
#ifdef EIGEN_DEFAULT_TO_ROW_MAJOR
#define FOVEA_EIGEN_ORDER _row_major
#else
#define FOVEA_EIGEN_ORDER
#endif
#define FOVEA_IS_int ~,
#define FOVEA_IS_int32_t ~,
#define FOVEA_NAMED_EXCEPTIONS_0 _no_exceptions
#define FOVEA_NAMED_EXCEPTIONS_1
#define FOVEA_LIBRARIES                                                                          \
  FOVEA_PASTE(_xsimd, XSIMD_VERSION_MAJOR, FOVEA_IF(EIGEN_DEFAULT_DENSE_INDEX_TYPE, _int_index), \
              FOVEA_EIGEN_ORDER, FOVEA_STANDARD_LIBRARY,                                         \
              FOVEA_PASTE(FOVEA_NAMED_EXCEPTIONS_, FOVEA_EXCEPTIONS))

#define FOVEA_INLINE_NAMESPACE \
  FOVEA_PASTE(v, FOVEA_VERSION_MAJOR, _, FOVEA_VERSION_MINOR, FOVEA_ISA, FOVEA_ARITHMETIC, FOVEA_LIBRARIES)
#define FOVEA_NAMESPACE_BEGIN \
  namespace fovea {           \
  inline namespace FOVEA_INLINE_NAMESPACE {
#define FOVEA_NAMESPACE_END \
  }                         \
  }

// Small functions are always inlined, so that tiles of registers stay in registers. FOVEA_FLATTEN: what is
// called inside, the user's functions and xsimd's among it, is inlined as well, however large the program
// around is. Not so without optimisation, where every variable of what is inlined takes stack of its own (a
// call took 225 KB of it), nor under a sanitizer, which then took minutes to compile a call: there nothing is
// inlined at all, which halves the time once more. (Of GCC's undefined alone no macro tells.)
#ifndef __OPTIMIZE__
#define FOVEA_FORCE_INLINE 0
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FOVEA_FORCE_INLINE 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer) || __has_feature(undefined_behavior_sanitizer)
#define FOVEA_FORCE_INLINE 0
#endif
#endif
#ifndef FOVEA_FORCE_INLINE
#define FOVEA_FORCE_INLINE 1
#endif

#if (defined(__GNUC__) || defined(__clang__)) && !FOVEA_FORCE_INLINE
#define FOVEA_INLINE inline __attribute__((noinline))
#define FOVEA_INLINE_LAMBDA __attribute__((noinline))
#define FOVEA_NOINLINE __attribute__((noinline))
#define FOVEA_COLD __attribute__((noinline, cold))
#define FOVEA_FLATTEN
#define FOVEA_RESTRICT __restrict__
#elif defined(__GNUC__) || defined(__clang__)
#define FOVEA_INLINE inline __attribute__((always_inline))
#define FOVEA_INLINE_LAMBDA __attribute__((always_inline))
#define FOVEA_NOINLINE __attribute__((noinline))
#define FOVEA_COLD __attribute__((noinline, cold))
#define FOVEA_FLATTEN __attribute__((flatten))
#define FOVEA_RESTRICT __restrict__
#else
#define FOVEA_INLINE __forceinline
#define FOVEA_INLINE_LAMBDA
#define FOVEA_NOINLINE __declspec(noinline)
#define FOVEA_COLD __declspec(noinline)
#define FOVEA_FLATTEN
#define FOVEA_RESTRICT __restrict
#endif

// FOVEA_EXTERN_KERNELS: kernels are compiled in one file of the program, which defines FOVEA_DEFINE_KERNELS,
// and not in each; see kernels.hpp.
#ifdef FOVEA_DEFINE_KERNELS
#define FOVEA_EXTERN_KERNELS 1
#define FOVEA_KERNEL template
#else
#define FOVEA_KERNEL extern template
#endif

// FOVEA_PREFETCH(address, write, locality): a hint, nothing more; locality is 3 for L1, 2 for L2.
#if defined(__GNUC__) || defined(__clang__)
#define FOVEA_PREFETCH(address, write, locality) __builtin_prefetch(address, write, locality)
#else
#define FOVEA_PREFETCH(address, write, locality) static_cast<void>(address)
#endif

// FOVEA_UNROLL(4) before a loop: so many steps at a time, where their number is known at run time only.
// FOVEA_UNROLL_ALL: all steps of a loop with a constant number of them, so that arrays become registers.
#define FOVEA_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define FOVEA_UNROLL(n) FOVEA_PRAGMA(clang loop unroll_count(n))
#define FOVEA_UNROLL_ALL FOVEA_PRAGMA(clang loop unroll(full))
#elif defined(__GNUC__)
#define FOVEA_UNROLL(n) FOVEA_PRAGMA(GCC unroll n)
#define FOVEA_UNROLL_ALL FOVEA_PRAGMA(GCC unroll 64)
#else
#define FOVEA_UNROLL(n)
#define FOVEA_UNROLL_ALL
#endif

// FOVEA_EXCEPTIONS: 1, or 0 where the compiler has exceptions turned off (-fno-exceptions). Errors are then
// no exceptions: their text goes to FOVEA_ERROR_HANDLER, a function that does not return. It is the user's,
// declared and named before the first header of the library, in the same way in every file of the program:
//
//   [[noreturn]] void print_and_exit(const char* text);
//   #define FOVEA_ERROR_HANDLER print_and_exit
//
// Without it the program ends by std::abort(), as the standard library does there for what it would throw,
// an allocation that fails among it.
#if defined(__cpp_exceptions) || defined(__EXCEPTIONS) || defined(_CPPUNWIND)
#define FOVEA_EXCEPTIONS 1
#else
#define FOVEA_EXCEPTIONS 0
#ifndef FOVEA_ERROR_HANDLER
#include <cstdlib>
#define FOVEA_ERROR_HANDLER(text) (static_cast<void>(text), std::abort())
#endif
#endif
