// fovea/kernel/forward/row_half_products.hpp - Q K^T of 4, 6 or 8 query rows, two of which share a register:
// half as many channels of each, so that sums over lanes are half as many, and a step shorter.
#pragma once

#include <fovea/kernel/forward/row_panel.hpp>
#include <fovea/kernel/operand/pieces.hpp>

#include <cstring>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Q as panel.halves has it: half a register of channels of rows 2 p and 2 p + 1 beside each other, those of
/// all rows together. The last half overlaps the one before and has zeros there.
template <class Arch, class T>
FOVEA_NOINLINE void copy_halves(const row_panel<Arch, T>& panel) noexcept {
  constexpr index_type n = lanes<Arch, T>, half = n / 2;
  if (!panel.in_halves()) return;
  T* to = panel.halves;
  const index_type rows = panel.count(), dim = panel.dim;
  const T* q = panel.q;
  for (index_type c = 0; c < dim; c += half, q += c % n == 0 ? panel.max_rows * n : 0) {
    const index_type skipped = c - start_of<Arch, T>(c / n, dim), kept = n - skipped;
    const T* from = q + skipped;
    if (kept >= half)
      for (index_type r = 0; r < rows; ++r, from += n, to += half) std::copy_n(from, half, to);
    else
      for (index_type r = 0; r < rows; ++r, from += n, to += half)
        std::copy_n(from, kept, std::fill_n(to, half - kept, T(0)));
  }
}

/// sum over c of q(r, c) k(j, c), lane by lane, of 2 P rows as copy_halves leaves them and C keys. See
/// inner_sum.
template <class Arch, int P, int C, class T>
FOVEA_INLINE tile<Arch, T, P, C> inner_sum_of_halves(const T* FOVEA_RESTRICT q, const T* FOVEA_RESTRICT k,
                                                     index_type k_row, index_type width,
                                                     auto&& each_line) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>, half = n / 2, line = 64 / sizeof(T);
  tile<Arch, T, P, C> sum;
  sum.each([](auto, auto, V& s) { s = V(T(0)); });
  const auto step = [&](index_type from) FOVEA_INLINE_LAMBDA {
    V left[std::size_t{P}];
    FOVEA_UNROLL_ALL
    for (int p = 0; p < P; ++p) {
      left[p] = V::load_aligned(q + p * n);
      isa<Arch>::keep_in_register(left[p]);
    }
    FOVEA_UNROLL_ALL
    for (int i = 0; i < C; ++i) {
      V right = isa<Arch>::load_twice(k + i * k_row + from);
      isa<Arch>::keep_in_register(right);
      FOVEA_UNROLL_ALL
      for (int p = 0; p < P; ++p) sum.at[p][i] = isa<Arch>::fma(left[p], right, sum.at[p][i]);
    }
    q += P * n;
  };
  index_type c = 0;
  FOVEA_UNROLL(1)  // two steps at once gain a hundredth with g++; clang spills six rows' sums
  for (; c + half <= width; c += half) {
    if (c % line == 0) each_line(c * index_type(sizeof(T)));
    step(c);
  }
  if (c < width) each_line(c * index_type(sizeof(T))), step(width - half);
  return sum;
}

/// s(r, j) = q_r . k_j for 2 P rows of Q as copy_halves leaves them: C keys at a time, the last of which
/// overlap those before; fewer keys one by one.
///
/// A register of 16 floats for 8 rows of a key is summed by 4 operations in place of 11, and a line of K is
/// loaded twice. Time of the whole call over that of dot_rows, one key/value head, from L2 and from L3:
///   AVX-512, 8 rows, dim 64 and 128     .98 and 1.0, .93 and .96      6 rows     .98 and .99, .94 and .97
///   AVX2, 4 rows                        .97 and .97, .94 and .95
/// Rejected: 4 rows of AVX-512 (1.03 to 1.1: they are few enough that loads are what is waited for), two rows
/// (.9 to 1.1), 3, 5 and 7 with a row of zeros (1.1; 7 rows 1.2), four rows a register (1.0 to 1.15 of these:
/// twice as many loads), an address computed for each tile in place of one that is moved on (1.1 to 1.2: g++
/// keeps parts of it in vectors).
template <class Lines, class Arch, int P, class T, class Stride>
FOVEA_NOINLINE void dot_halves(const T* q, const block_piece<T>& k, T* s, Stride s_stride) noexcept {
  using V = vec<Arch, T>;
  constexpr int n = lanes<Arch, T>, half = n / 2, C = P <= 3 ? half : half / 2, sums = P * C / half;
  const Lines lines(k.next);
  s += k.first;
  const auto write = [&](const V* flat, index_type first, auto keys) FOVEA_INLINE_LAMBDA {
    alignas(64) T dots[std::size_t{sums * n}];
    FOVEA_UNROLL_ALL
    for (int i = 0; i < sums; ++i) isa<Arch>::sums_of_halves(flat + i * half).store_aligned(dots + i * n);
    FOVEA_UNROLL_ALL
    for (int r = 0; r < 2 * P; ++r)
      std::memcpy(s + r * s_stride + first, dots + (r / 2 * C / half * 2 + r % 2) * half + r / 2 * C % half,
                  keys() * sizeof(T));
  };
  const rows_of<T> keys = k.rows;
  const index_type count = k.count;
  if (count >= C) {
    const T* at = keys.data;
    for (index_type j = 0;;) {
      auto sum =
          inner_sum_of_halves<Arch, P, C>(q, at, keys.stride, keys.dim, lines.template beside_rows<C>(j));
      V flat[std::size_t{P * C}];
      sum.each([&](auto p, auto i, const V& x) { flat[p * C + i] = x; });
      write(flat, j, std::integral_constant<std::size_t, std::size_t{C}>());
      const index_type more = std::min<index_type>(C, count - C - j);
      if (more == 0) return;
      j += more, at += more * keys.stride;
    }
  }
  for (index_type j = 0; j < k.count; ++j) {
    auto sum = inner_sum_of_halves<Arch, P, 1>(q, k.rows.from(j).data, 0, k.rows.dim, no_prefetch{});
    V flat[std::size_t{P * C}];
    FOVEA_UNROLL_ALL
    for (int i = 0; i < P * C; ++i) flat[i] = sum.at[i / C][0];
    write(flat, j, std::integral_constant<std::size_t, 1>());
  }
}

/// S = Q K^T of a piece, for a panel that is in_halves.
template <class Arch, class T>
void dot_halves(const row_panel<Arch, T>& q, const block_piece<T>& k) noexcept {
  using panel = row_panel<Arch, T>;
  constexpr std::integral_constant<index_type, panel::block> row_stride{};
  constexpr int least = row_panels<Arch, T>::least_in_halves / 2, most = panel::max_rows / 2;
  const T* const from = q.halves;
  unroll<most - least + 1>([&](auto i) {
    constexpr int pairs = least + i;
    if (q.count() != 2 * pairs) return;
    k.next.any() ? dot_halves<lines_of_next, Arch, pairs>(from, k, q.s, row_stride)
                 : dot_halves<lines_of_none, Arch, pairs>(from, k, q.s, row_stride);
  });
}

}  // namespace kernel
FOVEA_NAMESPACE_END
