// fovea/kernel/row_products.hpp - the two products of a few query rows, dim in lanes: Q K^T and P V.
#pragma once

#include <fovea/kernel/lines_ahead.hpp>
#include <fovea/kernel/tile.hpp>

#include <cstring>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// s(r, j) = sum over c of q(r, c) k(j, c), R rows: n / R keys at a time fill a register of sums. Meanwhile
/// lines are asked for.
template <class Arch, int R, class T, class E, class Stride>
FOVEA_INLINE void dot_rows(const T* q, index q_stride, const rows_of<E>& k, index keys, T* s, Stride s_stride,
                           const rows_ahead& ahead) noexcept {
  using V = vec<Arch, T>;
  constexpr index n = lanes<Arch, T>, bytes = n * static_cast<index>(sizeof(E));
  constexpr int C = static_cast<int>(n) / R;
  const auto sum_of = [&](auto wide, index j) FOVEA_INLINE_LAMBDA {
    constexpr int W = decltype(wide)::value;
    return inner_sum<Arch, R, W>(
        q, q_stride, k.data + j * k.stride, k.stride, k.dim, [&](index i) FOVEA_INLINE_LAMBDA {
          if (i * bytes % rows_ahead::line == 0)
            unroll<W>([&](auto e) FOVEA_INLINE_LAMBDA { ahead.fetch(j + e, i * bytes); });
        });
  };
  index j = 0;
  for (; j + C <= keys; j += C) {
    auto sum = sum_of(std::integral_constant<int, C>{}, j);
    V flat[n];
    sum.each([&](auto r, auto e, V& x) FOVEA_INLINE_LAMBDA { flat[r * C + e] = x; });
    alignas(64) T dots[n];
    sums_of_lanes<Arch, T>(flat).store_aligned(dots);
    unroll<R>([&](auto r)
                  FOVEA_INLINE_LAMBDA { std::memcpy(s + r * s_stride + j, dots + r * C, C * sizeof(T)); });
  }
  for (; j < keys; ++j) {
    auto sum = sum_of(std::integral_constant<int, 1>{}, j);
    sum.each([&](auto r, auto, V& x)
                 FOVEA_INLINE_LAMBDA { s[r * s_stride + j] = sum_over_lanes<Arch, T>(x).get(0); });
  }
}

/// f(constant row, part, sum over j of p(row, j) v(j, columns of register `part`)), R rows. Meanwhile lines
/// are asked for.
template <class Arch, int R, class T, class E, class Stride, class F>
FOVEA_INLINE void sum_rows(const T* p, Stride p_stride, const rows_of<E>& v, index keys,
                           const rows_ahead& ahead, F&& f) noexcept {
  using V = vec<Arch, T>;
  using shape = geometry<Arch>;
  constexpr index n = lanes<Arch, T>, bytes = n * static_cast<index>(sizeof(E));
  constexpr int C = std::clamp(shape::tile_rows * shape::tile_vectors / R, 1, 4);
  const auto tile_of = [&](auto wide, index c) FOVEA_INLINE_LAMBDA {
    constexpr int W = decltype(wide)::value;
    auto sum = outer_sum<Arch, R, W>(p, p_stride, unit{}, v.data + start_of<Arch, T>(c / n, v.dim), v.stride,
                                     keys, [&](index j) FOVEA_INLINE_LAMBDA {
                                       for (index at = 0; at < W * bytes; at += rows_ahead::line)
                                         ahead.fetch(j, c / n * bytes + at);
                                     });
    sum.each([&](auto r, auto w, V& x) FOVEA_INLINE_LAMBDA { f(r, c / n + w, x); });
  };
  index c = 0;
  for (; c + C * n <= v.dim; c += C * n) tile_of(std::integral_constant<int, C>{}, c);
  for (; c < v.dim; c += n) tile_of(std::integral_constant<int, 1>{}, c);
}

}  // namespace kernel
FOVEA_NAMESPACE_END
