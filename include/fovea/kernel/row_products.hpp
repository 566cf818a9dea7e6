// fovea/kernel/row_products.hpp - the two products of a few query rows, dim in lanes: Q K^T and P V.
#pragma once

#include <fovea/kernel/pieces.hpp>
#include <fovea/kernel/tile.hpp>

#include <cstring>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// s(r, j) = sum over c of q(r, c) k(j, c), R rows: n / R keys at a time fill a register of sums. The rows of
/// q are R of Rows that lie together: see inner_sum.
///
/// Measured on a Zen 4 from L2, 4 rows, dim 128, of the FMA peak: float 87, 16 bits and int8 76 %; bfloat16
/// as even and odd elements, by shift and mask, 84 %; keys stored in lanes, 16 of them a register, with no
/// sums over lanes: float 81, others 87 to 90 %.
template <class Arch, int R, int Rows, class T, class E, class Stride>
FOVEA_INLINE void dot_rows(const T* q, const block_piece<E>& k, T* s, Stride s_stride) noexcept {
  using V = vec<Arch, T>;
  constexpr index n = lanes<Arch, T>;
  constexpr int C = static_cast<int>(n) / R;
  const auto sum_of = [&](auto wide, index j) FOVEA_INLINE_LAMBDA {
    constexpr int W = decltype(wide)::value;
    const rows_ahead ahead = k.ahead.from(j);
    return inner_sum<Arch, R, W, Rows>(q, k.rows.from(j).data, k.rows.stride, k.rows.dim,
                                       [&](index offset)
                                           FOVEA_INLINE_LAMBDA { ahead.template fetch<W>(offset); });
  };
  s += k.first;
  index j = 0;
  for (; j + C <= k.count; j += C) {
    auto sum = sum_of(std::integral_constant<int, C>{}, j);
    V flat[n];
    sum.each([&](auto r, auto e, V& x) FOVEA_INLINE_LAMBDA { flat[r * C + e] = x; });
    alignas(64) T dots[n];
    isa<Arch>::sums_of_lanes(flat).store_aligned(dots);
    unroll<R>([&](auto r)
                  FOVEA_INLINE_LAMBDA { std::memcpy(s + r * s_stride + j, dots + r * C, C * sizeof(T)); });
  }
  for (; j < k.count; ++j) {
    auto sum = sum_of(std::integral_constant<int, 1>{}, j);
    sum.each([&](auto r, auto, V& x)
                 FOVEA_INLINE_LAMBDA { s[r * s_stride + j] = sum_over_lanes<Arch, T>(x).get(0); });
  }
}

/// f(constant row, part, sum over j of p(row, j) v(j, columns of register `part`)), R rows. Meanwhile lines
/// are asked for.
template <class Arch, int R, class T, class E, class Stride, class F>
FOVEA_INLINE void sum_rows(const T* p, Stride p_stride, const block_pieces<E>& pieces, index width,
                           F&& f) noexcept {
  using V = vec<Arch, T>;
  using shape = geometry<Arch>;
  constexpr index n = lanes<Arch, T>, bytes = n * static_cast<index>(sizeof(E));
  constexpr int C = std::clamp(shape::tile_rows * shape::tile_vectors / R, 1, 4);
  const auto tile_of = [&](auto wide, index c) FOVEA_INLINE_LAMBDA {
    constexpr int W = decltype(wide)::value;
    tile<Arch, T, R, W> sum;
    sum.each([](auto, auto, V& x) FOVEA_INLINE_LAMBDA { x = V(T(0)); });
    for (const block_piece<E>& v : pieces)
      add_outer(sum, p + v.first, p_stride, unit{}, v.rows.data + start_of<Arch, T>(c / n, width),
                v.rows.stride, v.count, [&](index j) FOVEA_INLINE_LAMBDA {
                  const rows_ahead ahead = v.ahead.from(j);
                  for (index at = 0; at < W * bytes; at += rows_ahead::line)
                    ahead.template fetch<1>(c / n * bytes + at);
                });
    sum.each([&](auto r, auto w, V& x) FOVEA_INLINE_LAMBDA { f(r, c / n + w, x); });
  };
  index c = 0;
  for (; c + C * n <= width; c += C * n) tile_of(std::integral_constant<int, C>{}, c);
  for (; c < width; c += n) tile_of(std::integral_constant<int, 1>{}, c);
}

}  // namespace kernel
FOVEA_NAMESPACE_END
