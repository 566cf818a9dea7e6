// fovea/kernel/forward/row_pair_products.hpp - Q K^T of a few query rows by dot products of bf16, dim in
// lanes: see arch/pair_products.hpp.
#pragma once

#include <fovea/kernel/forward/row_products.hpp>
#include <fovea/kernel/operand/paired.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Channels of a register of pairs. Rows of fewer are multiplied in float.
template <class Arch>
inline constexpr index_type paired_channels = 2 * lanes<Arch, float>;

/// Row of Q as it is, register by register of pairs, max_rows registers apart, with zeros where the last
/// overlaps the one before.
template <class Arch, class T, bf16_element E>
void copy_row_of_pairs(const row_panel<Arch, T>& to, index_type r, const E* from,
                       index_type stride) noexcept {
  constexpr index_type channels = paired_channels<Arch>;
  auto* q = reinterpret_cast<std::uint16_t*>(to.q + r * to.n);
  for (index_type c = 0; c < to.channels; c += channels, q += 2 * to.max_rows * to.n) {
    const index_type first = std::min(c, to.channels - channels);
    for (index_type i = 0; i < channels; ++i)
      q[i] = first + i < c ? std::uint16_t(0) : std::bit_cast<std::uint16_t>(from[(first + i) * stride]);
  }
}

/// inner_sum of R rows of pairs, and of C rows of keys of `width` channels.
template <class Arch, int R, int C, int Rows, class E>
FOVEA_INLINE tile<Arch, float, R, C> inner_sum_of_pairs(const bf16_pair* q, const E* k, index_type k_row,
                                                        index_type width, auto&& each_line) noexcept {
  using pairs = registers_of_pairs<Arch>;
  constexpr index_type n = lanes<Arch, float>, channels = paired_channels<Arch>;
  tile<Arch, float, R, C> sum;
  sum.each([](auto, auto, vec<Arch, float>& s) FOVEA_INLINE_LAMBDA { s = vec<Arch, float>(0.f); });
  for (index_type c = 0; c < width; c += channels, q += Rows * n) {
    const index_type first = std::min(c, width - channels);
    each_line(c * index_type(sizeof(E)));
    pairs right[std::size_t{C}];
    unroll<C>([&](auto i) FOVEA_INLINE_LAMBDA {
      right[i] = load_pairs<Arch>(reinterpret_cast<const bf16_pair*>(k + first + i * k_row));
    });
    unroll<R>([&](auto r) FOVEA_INLINE_LAMBDA {
      const pairs left = load_pairs<Arch>(q + r * n);
      unroll<C>([&](auto i) FOVEA_INLINE_LAMBDA {
        sum.at[r][i] = pair_products<Arch>::add(sum.at[r][i], left, right[i]);
      });
    });
  }
  return sum;
}

/// s(r, j) = scale * q_r . k_j for R rows: n / R keys at a time, the last of which overlap those before;
/// fewer keys one by one. See dot_rows. (Copied by std::copy_n and std::fill, where n / R leaves some sums
/// over these went through memory: groups of 3, 5, 6 and 7 took 1.2 to 1.7 times as long, 1 and 2 up to a
/// tenth; Zen 5, g++ 12, 512 and 4,096 keys of 64 to 128.)
template <class Arch, int R, int Rows, class E, class Stride, class Lines>
FOVEA_NOINLINE void dot_rows_of_pairs(const bf16_pair* q, const block_piece<E>& k, float* s, Stride s_stride,
                                      float scale, const Lines& lines) noexcept {
  using V = vec<Arch, float>;
  constexpr index_type n = lanes<Arch, float>;
  constexpr int C = static_cast<int>(n) / R;
  s += k.first;
  for (index_type next = 0; C <= k.count && next < k.count; next += C) {
    const index_type j = std::min(next, k.count - C);
    auto sum = inner_sum_of_pairs<Arch, R, C, Rows>(q, k.rows.from(j).data, k.rows.stride, k.rows.dim,
                                                    lines.template beside_rows<C>(j));
    V flat[std::size_t{n}];
    sum.each([&](auto r, auto i, V& x) FOVEA_INLINE_LAMBDA { flat[r * C + i] = x; });
    FOVEA_UNROLL_ALL
    for (index_type i = R * C; i < n; ++i) flat[i] = flat[0];
    alignas(64) float dots[std::size_t{n}];
    (isa<Arch>::sums_of_lanes(flat) * V(scale)).store_aligned(dots);
    unroll<R>([&](auto r) FOVEA_INLINE_LAMBDA {
      std::memcpy(s + r * s_stride + j, dots + r * C, C * sizeof(float));
    });
  }
  for (index_type j = 0; C > k.count && j < k.count; ++j) {
    auto sum = inner_sum_of_pairs<Arch, R, 1, Rows>(q, k.rows.from(j).data, 0, k.rows.dim, no_prefetch{});
    sum.each([&](auto r, auto, V& x) {
      s[r * s_stride + j] = (sum_over_lanes<Arch, float>(x) * V(scale)).get(0);
    });
  }
}

/// S = scale * Q K^T for pieces of a block.
template <class Arch, class E>
void dot_pieces_of_pairs(const row_panel<Arch, float>& q, const block_pieces<E>& pieces,
                         float scale) noexcept {
  using panel = row_panel<Arch, float>;
  constexpr std::integral_constant<index_type, panel::block> row_stride{};
  for (const block_piece<E>& k : pieces)
    q.in_row_tiles(k.next.any(), [&](auto lines, auto rows, index_type r) {
      dot_rows_of_pairs<Arch, rows(), panel::max_rows>(reinterpret_cast<const bf16_pair*>(q.q + r * panel::n),
                                                       k, q.s + r * panel::block, row_stride, scale,
                                                       typename decltype(lines)::type(k.next));
    });
}

}  // namespace kernel
FOVEA_NAMESPACE_END
