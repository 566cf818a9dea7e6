// fovea/kernel/forward/row_nibble_products.hpp - the two products of a few query rows where K and V are in 4
// bits, dim in lanes, by codes looked up in tables or widened and multiplied: see arch/nibbles.hpp.
#pragma once

#include <fovea/kernel/forward/row_value_products.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// How far ahead of a row is asked. (Beyond caches, 8 key/value heads x 65,536 x 128 on a Zen 5, four rows
/// took 6 % less than with 4 or 8 KB or nothing; one and two rows took the same with each.)
inline constexpr index_type nibble_bytes_ahead = 2048;

/// s(r, j) = q_r . k_j for R rows and C keys from k on, of `half` bytes a key.
template <class Arch, int R, int C, int Rows>
FOVEA_INLINE tile<Arch, float, R, C> inner_sum_of_nibbles(const float* q, const nibble_pair* k,
                                                          index_type k_row, index_type half) noexcept {
  using V = vec<Arch, float>;
  constexpr index_type n = lanes<Arch, float>;
  const auto table = nibble_lookup<Arch>::table_of(1);
  tile<Arch, float, R, C> sum;
  FOVEA_UNROLL_ALL
  for (int e = 0; e < R * C; ++e) sum.at[e / C][e % C] = V(0.f);
  for (index_type c = 0; c < half; c += n, q += Rows * n) {
    two_registers<Arch> right[std::size_t{C}];
    FOVEA_UNROLL_ALL
    for (int i = 0; i < C; ++i) right[i] = nibble_lookup<Arch>::load(k + i * k_row + c, table, table);
    FOVEA_UNROLL_ALL
    for (int r = 0; r < R; ++r) {
      V low = V::load_aligned(q + r * n), high = V::load_aligned(q + half * Rows + r * n);
      isa<Arch>::keep_in_register(low), isa<Arch>::keep_in_register(high);
      FOVEA_UNROLL_ALL
      for (int i = 0; i < C; ++i)
        sum.at[r][i] = isa<Arch>::fma(high, right[i].high, isa<Arch>::fma(low, right[i].low, sum.at[r][i]));
    }
  }
  return sum;
}

/// S = Q K^T for R rows: n / R keys at a time, the last of which overlap those before; fewer keys one by one.
/// See dot_rows.
template <class Arch, int R, int Rows, class Stride>
FOVEA_NOINLINE void dot_rows_of_nibbles(const float* q, const block_piece<nibble_pair>& k, float* s,
                                        Stride s_stride) noexcept {
  using V = vec<Arch, float>;
  constexpr index_type n = lanes<Arch, float>;
  constexpr int C = static_cast<int>(n) / R;
  constexpr int together = R <= rows_in_order<Arch> && C % (2 * R) == 0 ? 2 * R : C;
  const index_type half = k.rows.dim / 2;
  s += k.first;
  for (index_type next = 0; C <= k.count && next < k.count; next += C) {
    const index_type j = std::min(next, k.count - C);
    V flat[std::size_t{n}];
    FOVEA_UNROLL_ALL
    for (int i = 0; i < C; i += together) {
      const auto sum =
          inner_sum_of_nibbles<Arch, R, together, Rows>(q, k.rows.from(j + i).data, k.rows.stride, half);
      FOVEA_UNROLL_ALL
      for (int e = 0; e < R * together; ++e)
        flat[e / together * C + i + e % together] = sum.at[e / together][e % together];
    }
    for (index_type i = 0; i < C; ++i) ask_ahead<nibble_bytes_ahead, 3>(k.rows.from(j + i).data, half);
    FOVEA_UNROLL_ALL
    for (index_type i = R * C; i < n; ++i) flat[i] = flat[0];
    alignas(64) float dots[std::size_t{n}];
    isa<Arch>::sums_of_lanes(flat).store_aligned(dots);
    FOVEA_UNROLL_ALL
    for (int r = 0; r < R; ++r) std::memcpy(s + r * s_stride + j, dots + r * C, C * sizeof(float));
  }
  for (index_type j = 0; C > k.count && j < k.count; ++j) {
    const auto sum = inner_sum_of_nibbles<Arch, R, 1, Rows>(q, k.rows.from(j).data, 0, half);
    for (int r = 0; r < R; ++r) s[r * s_stride + j] = sum_over_lanes<Arch, float>(sum.at[r][0]).get(0);
  }
}

/// S = Q K^T for pieces of a block.
template <class Arch>
FOVEA_NOINLINE void dot_pieces(const row_panel<Arch, float>& q,
                               const block_pieces<nibble_pair>& pieces) noexcept {
  using panel = row_panel<Arch, float>;
  constexpr std::integral_constant<index_type, panel::block> row_stride{};
  for (const block_piece<nibble_pair>& k : pieces) {
    const float* const scaled = k.scales == nullptr ? q.q : scale_queries(q, k.scales);
    q.in_row_tiles(false, [&](auto, auto rows, index_type r) {
      dot_rows_of_nibbles<Arch, rows(), panel::max_rows>(scaled + r * panel::n, k, q.s + r * panel::block,
                                                         row_stride);
    });
  }
}

/// O = O * shrink + P V for R rows of a panel from row `first` on and the columns of G registers of bytes,
/// from byte `column` on: numbers column + i and half + column + i.
template <class Arch, int R, int G>
FOVEA_NOINLINE void add_columns_of_nibbles(const row_panel<Arch, float>& p, index_type first,
                                           const block_piece<nibble_pair>& v, index_type column) noexcept {
  using V = vec<Arch, float>;
  using lookup = nibble_lookup<Arch>;
  constexpr index_type n = lanes<Arch, float>, channels = nibble_channels;
  constexpr std::integral_constant<index_type, row_panel<Arch, float>::block> p_stride{};
  const index_type half = v.rows.dim / 2;
  const float* weights = p.logits(first) + v.first;
  const nibble_pair* row = v.rows.data;
  V sum[std::size_t{R}][2 * std::size_t{G}];
  FOVEA_UNROLL_ALL
  for (int e = 0; e < R * 2 * G; ++e) sum[e / (2 * G)][e % (2 * G)] = V(0.f);
  for (index_type j = 0; j < v.count; ++j, row += v.rows.stride, ++weights) {
    if (column == 0) ask_ahead<nibble_bytes_ahead, 3>(row, half);
    const nibble_pair* const multiples = row + half;
    two_registers<Arch> value[std::size_t{G}];
    FOVEA_UNROLL_ALL
    for (int g = 0; g < G; ++g) {
      const index_type c = column + g * n;
      value[g] = lookup::load(row + c, lookup::table_of(multiples[c / channels].bits),
                              lookup::table_of(multiples[(half + c) / channels].bits));
    }
    FOVEA_UNROLL_ALL
    for (int r = 0; r < R; ++r) {
      const V weight(weights[r * p_stride]);
      FOVEA_UNROLL_ALL
      for (int g = 0; g < G; ++g) {
        sum[r][g] = isa<Arch>::fma(value[g].low, weight, sum[r][g]);
        sum[r][G + g] = isa<Arch>::fma(value[g].high, weight, sum[r][G + g]);
      }
    }
  }
  FOVEA_UNROLL_ALL
  for (int r = 0; r < R; ++r) {
    FOVEA_UNROLL_ALL
    for (int g = 0; g < 2 * G; ++g)
      p.add(first + r, (column + g % G * n + (g < G ? 0 : half)) / n, V::load_aligned(p.factor(first + r)),
            sum[r][g]);
  }
}

template <class Arch, int R>
void add_rows_of_nibbles(const row_panel<Arch, float>& p, index_type first,
                         const block_piece<nibble_pair>& v) noexcept {
  constexpr int most = std::clamp(geometry<Arch>::few_rows / R, 1, 4);
  constexpr index_type n = lanes<Arch, float>;
  const index_type half = v.rows.dim / 2;
  index_type c = 0;
  for (; c + most * n <= half; c += most * n) add_columns_of_nibbles<Arch, R, most>(p, first, v, c);
  if constexpr (most > 2)
    for (; c + 2 * n <= half; c += 2 * n) add_columns_of_nibbles<Arch, R, 2>(p, first, v, c);
  if constexpr (most > 1)
    for (; c < half; c += n) add_columns_of_nibbles<Arch, R, 1>(p, first, v, c);
}

/// O = O * shrink + P V for pieces of a block. The scales of V's tokens become part of P.
template <class Arch>
FOVEA_NOINLINE void add_pieces(const row_panel<Arch, float>& p, const block_pieces<nibble_pair>& pieces,
                               index_type) noexcept {
  for (const block_piece<nibble_pair>& v : pieces) {
    scale_weights(p, v);
    p.in_row_tiles(
        false, [&](auto, auto rows, index_type first) { add_rows_of_nibbles<Arch, rows()>(p, first, v); });
    have_shrunk(p);
  }
}

}  // namespace kernel
FOVEA_NAMESPACE_END
