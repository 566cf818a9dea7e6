// fovea/kernel/tile/sigmoid.hpp - the logistic function of a register.
#pragma once

#include <fovea/kernel/arch.hpp>

#include <numbers>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// 1 / (1 + exp(-x)), of exp(-|x|) so that nothing overflows: relative error at most (2 |x| + 6) u, u = 2^-24
/// or 2^-53, of which 2 |x| is that of x log2(e); exactly 0 from x = -88.1 (double: -709.1) on down.
/// NaN stays NaN.
template <class Arch, class T>
FOVEA_INLINE vec<Arch, T> sigmoid(const vec<Arch, T>& x) noexcept {
  using V = vec<Arch, T>;
  constexpr T log2e = static_cast<T>(std::numbers::log2e);
  const V e = isa<Arch>::exp2(xsimd::abs(x) * V(-log2e));
  return isa<Arch>::quotient(xsimd::select(x < V(T(0)), e, V(T(1))), e + V(T(1)));
}

}  // namespace kernel
FOVEA_NAMESPACE_END
