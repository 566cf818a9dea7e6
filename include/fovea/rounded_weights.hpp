// fovea/rounded_weights.hpp - weights rounded to what V is stored as, for speed.
//
//   attend.into(o, q, k, v, fovea::causal, fovea::rounded_weights);     // q, k, v: bf16
#pragma once

#include <fovea/kernel/operand/paired.hpp>
#include <fovea/plan/modifiers.hpp>

FOVEA_NAMESPACE_BEGIN

struct rounded_weights_like {
  using is_rounded_weights = void;
};

/// Among what follows q, k, v in attend(...), into, with_lse and with_lse_into: weights exp(s - m) may be
/// rounded to V's storage type, to nearest, before they are multiplied by V; sums of weights and of
/// products stay float. Where q, k and v are bf16, queries go in lanes (more than a few a head), and the
/// instruction set has dot products of bf16 (AVX512_BF16), P V is made by these. Elsewhere nothing is to be
/// gained by it, and the call is the same as without.
///
///   |error| <= (2^-8 + 3 u (4 + A)) (P |V|) + 2^-126 (1 + sum_j |V_j|)     u and A as in attention.hpp
///
/// One rounding more than without: bf16 have 8 bits, so a weight moves by at most 2^-9 of the power of two
/// above it, which is 2^-8 of itself; the sum that it is divided by does not move. Terms of 2^-126 are for
/// what is subnormal, weights and values, which the instruction takes for 0. The LSE is the same bits as
/// without; backward takes it and O as ever, and rounds nothing where the modifier is among its own. O is
/// the same bits for any executor and batch.
///
/// Time on a Zen 5, one thread, g++ 12, where float's is 1: 1 x 8 x 1024 x 64 0.80 without and 0.57 with
/// it, x 128 0.78 and 0.54; causal x 64 0.79 and 0.57; 8 x 12 x 512 x 64 0.80 and 0.59; 8 x 12 x 128 x 64
/// 0.80 and 0.59. (P in the type of V: Dao, "FlashAttention-2", arXiv:2307.08691.)
inline constexpr rounded_weights_like rounded_weights = {};

/// The call `p`, which rounds weights if one of `mods` says that it may, and if that is faster.
template <class Arch, class Problem, class... Mods>
decltype(auto) with_rounded_weights(const Problem& p, const Mods&...) noexcept {
  using values = decltype(p.v.head(0, 0));
  if constexpr ((rounding_like<Mods> || ...) &&
                kernel::pairs_tokens<Arch, typename Problem::compute, values> &&
                kernel::pairs_channels_of<Arch, typename Problem::read>)
    return kernel::with_rounded_weights<Problem>{p};
  else
    return (p);
}

FOVEA_NAMESPACE_END
