// fovea/kernel/arch/xsimd.hpp - xsimd, right also where sums may be made in another order.
//
// Where an instruction set does not round to integers (SSE2), xsimd adds 2^23 and takes it away again; its
// exp, tanh and sin start so. g++ keeps the two apart where xsimd sees __FAST_MATH__, which is not defined
// for -ffast-math -fno-finite-math-only, nor for -fassociative-math alone; clang where it is told to.
#pragma once

#include <fovea/config.hpp>

#if defined(__clang__)
#pragma float_control(precise, on, push)
#include <xsimd/xsimd.hpp>
#pragma float_control(pop)
#elif FOVEA_SUMS_REORDER && !defined(__FAST_MATH__)
#if defined(XSIMD_HPP) && XSIMD_WITH_SSE2 && !XSIMD_WITH_SSE4_1
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
