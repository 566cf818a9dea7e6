// fovea/kernel/tile.hpp - tiles of registers as values: the only unrolled loops.
#pragma once

#include <fovea/kernel/arch.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// A stride of one element, known when compiling.
using unit = std::integral_constant<index, 1>;

/// R x C registers.
template <class Arch, class T, int R, int C>
struct tile {
  using V = vec<Arch, T>;
  V at[R][C];

  /// f(row, column, register) for each, unrolled; row and column are constants.
  template <class F>
  FOVEA_INLINE void each(F&& f) noexcept {
    unroll<R * C>([&](auto i) FOVEA_INLINE_LAMBDA {
      f(std::integral_constant<int, i / C>{}, std::integral_constant<int, i % C>{}, at[i / C][i % C]);
    });
  }
};

/// sum over t < depth of  broadcast a(r, t)  *  b(t, c..):  R scalars times C registers a step.
/// a(r, t) = a[r * row + t * step]; b's row t is C registers at b + t * ld. It serves both products:
///   S^T = K Q^T    a = K (rows: keys, steps: dim),      b = Q^T  (steps: dim, lanes: queries)
///   O^T = V^T P^T  a = V^T (rows: columns, steps: keys), b = P^T (steps: keys, lanes: queries)
/// and O = P V with columns in lanes. Of row and step one is a constant 1, so that addresses stay cheap.
/// `each_step` is called beside each step, for prefetches.
template <class Arch, int R, int C, class T, class Row, class Step, class Ld>
FOVEA_INLINE tile<Arch, T, R, C> outer_sum(const T* FOVEA_RESTRICT a, Row row, Step step,
                                           const T* FOVEA_RESTRICT b, Ld ld, index depth,
                                           auto&& each_step) noexcept {
  using V = vec<Arch, T>;
  tile<Arch, T, R, C> sum;
  sum.each([](auto, auto, V& s) FOVEA_INLINE_LAMBDA { s = V(T(0)); });
  FOVEA_UNROLL(4)
  for (index t = 0; t < depth; ++t) {
    each_step();
    V lane[C];
    unroll<C>([&](auto c) FOVEA_INLINE_LAMBDA { lane[c] = V::load_unaligned(b + t * ld + c * V::size); });
    unroll<R>([&](auto r) FOVEA_INLINE_LAMBDA {
      const V factor(a[r * row + t * step]);
      unroll<C>([&](auto c)
                    FOVEA_INLINE_LAMBDA { sum.at[r][c] = isa<Arch>::fma(lane[c], factor, sum.at[r][c]); });
    });
  }
  return sum;
}

template <class Arch, int R, int C, class T, class Row, class Step, class Ld>
FOVEA_INLINE tile<Arch, T, R, C> outer_sum(const T* a, Row row, Step step, const T* b, Ld ld,
                                           index depth) noexcept {
  return outer_sum<Arch, R, C>(a, row, step, b, ld, depth, []() FOVEA_INLINE_LAMBDA {});
}

/// sum over t < depth (a multiple of the lanes) of a(r, t) * b(c, t), lane by lane; rows of both are
/// contiguous.
template <class Arch, int R, int C, class T>
FOVEA_INLINE tile<Arch, T, R, C> inner_sum(const T* FOVEA_RESTRICT a, index a_row, const T* FOVEA_RESTRICT b,
                                           index b_row, index depth) noexcept {
  using V = vec<Arch, T>;
  tile<Arch, T, R, C> sum;
  sum.each([](auto, auto, V& s) FOVEA_INLINE_LAMBDA { s = V(T(0)); });
  for (index t = 0; t < depth; t += static_cast<index>(V::size)) {
    V right[C];
    unroll<C>([&](auto c) FOVEA_INLINE_LAMBDA { right[c] = V::load_unaligned(b + c * b_row + t); });
    unroll<R>([&](auto r) FOVEA_INLINE_LAMBDA {
      const V left = V::load_unaligned(a + r * a_row + t);
      unroll<C>([&](auto c)
                    FOVEA_INLINE_LAMBDA { sum.at[r][c] = isa<Arch>::fma(left, right[c], sum.at[r][c]); });
    });
  }
  return sum;
}

/// Lane i of the result is the sum over the lanes of v[i]: a tree of zips, instead of a horizontal sum for
/// each.
template <class Arch, class T>
FOVEA_INLINE vec<Arch, T> sums_of_lanes(vec<Arch, T>* v) noexcept {
  constexpr int n = lanes<Arch, T>;
  const auto halve = [&](auto half) FOVEA_INLINE_LAMBDA {
    unroll<decltype(half)::value>([&](auto i) FOVEA_INLINE_LAMBDA {
      v[i] = isa<Arch>::zip_lo(v[i], v[i + half]) + isa<Arch>::zip_hi(v[i], v[i + half]);
    });
  };
  if constexpr (n >= 16) halve(std::integral_constant<int, 8>{});
  if constexpr (n >= 8) halve(std::integral_constant<int, 4>{});
  if constexpr (n >= 4) halve(std::integral_constant<int, 2>{});
  if constexpr (n >= 2) halve(std::integral_constant<int, 1>{});
  return v[0];
}

}  // namespace kernel
FOVEA_NAMESPACE_END
