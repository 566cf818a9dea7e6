// fovea/kernel/arch/registers.hpp - the few words in which kernels speak of registers.
#pragma once

#include <fovea/index.hpp>
#include <fovea/kernel/arch/xsimd.hpp>

#include <bit>
#include <cstdint>
#include <utility>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// A register of T.
template <class Arch, class T>
using vec = xsimd::batch<T, Arch>;

/// How many T a register holds.
template <class Arch, class T>
inline constexpr int lanes = static_cast<int>(vec<Arch, T>::size);

/// Positions beside a vec<Arch, T>: integers of the same width, lane by lane.
template <class T>
using position_t = std::conditional_t<sizeof(T) == 8, std::int64_t, std::int32_t>;
template <class Arch, class T>
using positions = xsimd::batch<position_t<T>, Arch>;

/// Truth values of positions as truth values of T: the same bits.
template <class Arch, class T>
FOVEA_INLINE xsimd::batch_bool<T, Arch> as_truth_of(
    const xsimd::batch_bool<position_t<T>, Arch>& b) noexcept {
  using wanted = xsimd::batch_bool<T, Arch>;
  using given = xsimd::batch_bool<position_t<T>, Arch>;
  return wanted(std::bit_cast<typename wanted::register_type>(static_cast<typename given::register_type>(b)));
}

/// f(0), ..., f(N - 1), the argument a constant; where it need be none, FOVEA_UNROLL_ALL compiles faster.
template <int N, class F>
FOVEA_INLINE constexpr void unroll(F&& f) noexcept {
  [&]<int... I>(std::integer_sequence<int, I...>) FOVEA_INLINE_LAMBDA {
    (f(std::integral_constant<int, I>{}), ...);
  }(std::make_integer_sequence<int, N>{});
}

/// 0, 1, 2, ...
template <class Arch, class P>
FOVEA_INLINE xsimd::batch<P, Arch> counting_up() noexcept {
  constexpr int n = static_cast<int>(xsimd::batch<P, Arch>::size);
  alignas(64) P number[std::size_t{n}];
  FOVEA_UNROLL_ALL
  for (index_type i = 0; i < n; ++i) number[i] = static_cast<P>(i);
  return xsimd::batch<P, Arch>::load_aligned(number);
}

}  // namespace kernel
FOVEA_NAMESPACE_END
