// fovea/config.hpp - every macro of the library, its version and its inline namespace.
#pragma once

#define FOVEA_VERSION_MAJOR 0
#define FOVEA_VERSION_MINOR 1
#define FOVEA_VERSION_PATCH 0

// The inline namespace changes with every release whose types differ in layout, so that two of them can be
// linked into one program.
#define FOVEA_NAMESPACE_BEGIN \
  namespace fovea {           \
  inline namespace v0_1 {
#define FOVEA_NAMESPACE_END \
  }                         \
  }

// Small functions are always inlined: they leave no symbol behind that a linker could merge with the same
// function compiled for another instruction set, and tiles of registers stay in registers. FOVEA_FLATTEN:
// what is called inside, the user's functions and xsimd's among it, is inlined as well, however large the
// program around is.
#if defined(__GNUC__) || defined(__clang__)
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
#define FOVEA_FLATTEN
#define FOVEA_RESTRICT __restrict
#endif

// FOVEA_PREFETCH(address, write, locality): a hint, nothing more; locality is 3 for L1, 2 for L2.
#if defined(__GNUC__) || defined(__clang__)
#define FOVEA_PREFETCH(address, write, locality) __builtin_prefetch(address, write, locality)
#else
#define FOVEA_PREFETCH(address, write, locality) static_cast<void>(address)
#endif

// FOVEA_UNROLL(4) before a loop: the compiler's own unrolling, for loops whose trip count is known at run
// time only.
#define FOVEA_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define FOVEA_UNROLL(n) FOVEA_PRAGMA(clang loop unroll_count(n))
#elif defined(__GNUC__)
#define FOVEA_UNROLL(n) FOVEA_PRAGMA(GCC unroll n)
#else
#define FOVEA_UNROLL(n)
#endif

// FOVEA_EXCEPTIONS: 1, or 0 where the compiler has exceptions turned off (-fno-exceptions). Errors are then no
// exceptions: their text goes to FOVEA_ERROR_HANDLER, a function that does not return. It is the user's,
// declared and named before the first header of the library, in the same way in every file of the program:
//
//   [[noreturn]] void print_and_exit(const char* text);
//   #define FOVEA_ERROR_HANDLER print_and_exit
//
// Without it the program ends by std::abort(), as the standard library does there for what it would throw, an
// allocation that fails among it.
#if defined(__cpp_exceptions) || defined(__EXCEPTIONS) || defined(_CPPUNWIND)
#define FOVEA_EXCEPTIONS 1
#else
#define FOVEA_EXCEPTIONS 0
#ifndef FOVEA_ERROR_HANDLER
#include <cstdlib>
#define FOVEA_ERROR_HANDLER(text) (static_cast<void>(text), std::abort())
#endif
#endif
