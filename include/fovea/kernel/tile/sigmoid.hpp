// fovea/kernel/tile/sigmoid.hpp - the logistic function of a register.
#pragma once

#include <fovea/kernel/arch.hpp>

#include <numbers>
#include <utility>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// {p, 1 - p} of p = 1 / (1 + 2^-x), each of 2^-|x|, so that nothing overflows or cancels: relative errors
/// of at most 6 u, u = 2^-24 or 2^-53, beside that of x. `least`: of -|x|, see exp2_limits. NaN stays NaN.
template <class Arch, class T>
FOVEA_INLINE std::pair<vec<Arch, T>, vec<Arch, T>> logistic(const vec<Arch, T>& x,
                                                            const vec<Arch, T>& least) noexcept {
  using V = vec<Arch, T>;
  const V one(T(1)), e = isa<Arch>::exp2(V(T(0)) - xsimd::abs(x), least), whole = e + one;
  const auto negative = x < V(T(0));
  return {isa<Arch>::quotient(xsimd::select(negative, e, one), whole),
          isa<Arch>::quotient(xsimd::select(negative, one, e), whole)};
}

/// 1 / (1 + exp(-x)): relative error at most (2 |x| + 6) u, of which 2 |x| is that of x log2(e); exactly 0
/// from x = -88.1 (double: -709.1) on down.
template <class Arch, class T>
FOVEA_INLINE vec<Arch, T> sigmoid(const vec<Arch, T>& x) noexcept {
  using V = vec<Arch, T>;
  return logistic<Arch, T>(x * V(static_cast<T>(std::numbers::log2e)), V(exp2_limits<T>::zero)).first;
}

}  // namespace kernel
FOVEA_NAMESPACE_END
