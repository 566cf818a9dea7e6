// fovea/kernel/arch/xsimd.hpp - xsimd, right also where sums may be made in another order.
//
// Where an instruction set does not round to integers (SSE2), xsimd adds 2^23 and takes it away again; its exp,
// tanh and sin start so. It keeps the two apart only where __FAST_MATH__ is defined, which is not so for
// -ffast-math -fno-finite-math-only, nor for -fassociative-math alone.
#pragma once

#include <fovea/config.hpp>

#if FOVEA_SUMS_REORDER && !defined(__FAST_MATH__)
#if defined(XSIMD_HPP) && defined(__ASSOCIATIVE_MATH__) && !XSIMD_WITH_SSE4_1 && XSIMD_WITH_SSE2
#error \
    "fovea: with -fassociative-math xsimd's exp and tanh are wrong on SSE2 unless fovea includes xsimd: \
include a header of fovea before xsimd, or compile with -msse4.1 or -fno-associative-math."
#endif
#include <cmath>  // not to see the macro
#include <complex>
#define __FAST_MATH__ 1
#include <xsimd/xsimd.hpp>
#undef __FAST_MATH__
#else
#include <xsimd/xsimd.hpp>
#endif
