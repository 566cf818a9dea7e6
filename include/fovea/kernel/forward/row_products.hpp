// fovea/kernel/forward/row_products.hpp - Q K^T of a few query rows, dim in lanes. Compiled once an element
// type and ISA, as P V is (row_value_products.hpp).
#pragma once

#include <fovea/kernel/forward/row_half_products.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// s(r, j) = sum over c of q(r, c) k(j, c) one by one, for the last keys of a piece, from `first` on.
template <class Arch, int Rows, class T, class E>
FOVEA_NOINLINE void dot_last_keys(const T* q, index_type rows, const block_piece<E>& k, index_type first,
                                  T* s, index_type s_stride) noexcept {
  for (index_type j = first; j < k.count; ++j)
    for (index_type r = 0; r < rows; ++r) {
      auto sum = inner_sum<Arch, 1, 1, Rows>(q + r * lanes<Arch, T>, k.rows.from(j).data, 0, k.rows.dim,
                                             no_prefetch{});
      s[r * s_stride + j] = sum_over_lanes<Arch, T>(sum.at[0][0]).get(0);
    }
}

/// Up to so many rows of a panel go key by key and all columns at once.
template <class Arch>
inline constexpr int rows_in_order = geometry<Arch>::few_rows >= 8 ? 3 : 1;

/// Queries that tiles of known width hold in registers: up to so many. (One row of 16 leaves too few for sums
/// of 16 keys, which go by way of memory, and still takes .83 to .92 of the time from L2 and L3, .76 from
/// memory: 8 heads of 512, 1,024 and 4,096 keys of 256, Zen 5.)
template <class Arch, int R>
inline constexpr int most_held = rows_in_order<Arch> <= 1 ? 0
                                 : R == 1                 ? 16
                                                          : 12;

/// The products of R held queries, W registers each, and of one key.
template <class Arch, int R, int W, class T, class E>
FOVEA_INLINE tile<Arch, T, R, 1> inner_sum_of_held(const vec<Arch, T>* q, const E* key,
                                                   auto&& each_line) noexcept {
  constexpr index_type bytes = lanes<Arch, T> * static_cast<index_type>(sizeof(E));
  tile<Arch, T, R, 1> sum;
  unroll<W>([&](auto t) FOVEA_INLINE_LAMBDA {
    if constexpr (t * bytes % 64 == 0) each_line(t * bytes);
    vec<Arch, T> right = load_lanes<Arch, T>(key + t * lanes<Arch, T>);
    if constexpr (R > 1) isa<Arch>::keep_in_register(right);
    unroll<R>([&](auto r) FOVEA_INLINE_LAMBDA {
      auto& of_row = sum.at[r][0];
      of_row = t == 0 ? q[r] * right : isa<Arch>::fma(q[t * R + r], right, of_row);
    });
  });
  return sum;
}

/// The same for R rows: n / R keys fill a register of sums, of whatever R; where that leaves some over, the
/// last tile reads keys again. The rows of q are R of Rows that lie together: see inner_sum.
/// Few rows take a few of these keys after another, so that memory is read in order: from L2 one row took 25
/// % more with 16 keys beside each other than with 2, two rows 10 % more with 8 than with 4. (With 1 key one
/// row took 3 % less at dim 128 and 7 % more at 64: what is in flight then depends on how far ahead a core
/// looks.) Where a row is W registers, 4, 6, 8 or 16, and these of all rows are few, they are held and keys
/// go one by one, without a loop over channels: loads, products and their sums alone, on any machine. (Q K^T
/// from L1 and L2, dim 64, 1, 2, 3 rows: 117, 149, 164 and 127, 208, 192 GF/s in place of 102, 149, 154 and
/// 91, 149, 162; 4 rows of 64, which would fill the registers, gained 2 %.)
///
/// Measured on a Zen 5 from L2, 512 keys, the whole call in GF/s of 270 (AVX-512) and 135 (AVX2), groups of
/// 1 to 8; before it tiles were of 4, 2 and 1 rows, each of which read K and V again, and asked for two lines
/// beside each that they read (before one to three rows went in order):
///   AVX-512, dim 64     73 125 124 163 148 159 162 165      before   45  77  75 118 102 114 105 148
///   AVX-512, dim 128    90 142 183 198 185 195 201 198      before   47  83  74 135 103 118 100 182
///   AVX2, dim 64        54  77  77  86 (two panels)         before   37  63  57  78
/// On a Zen 4, 4 rows, dim 128, of the FMA peak: float 87, 16 bits and int8 76 %; bfloat16 as even and odd
/// elements, by shift and mask, 84 %; keys stored in lanes, 16 of them a register, with no sums over lanes:
/// float 81, others 87 to 90 %. Each number of rows is a function: inlined into one, all tiles took twice
/// as long to compile (12 s in place of 8, one float call, g++ 12).
template <class Lines, class Arch, int R, int Rows, int W = 0, class T, class E, class Stride>
FOVEA_NOINLINE void dot_rows(const T* q, const block_piece<E>& k, T* s, Stride s_stride) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  constexpr int C = static_cast<int>(n) / R;
  constexpr bool ordered = (R == 1 || Lines::in_order) && R <= rows_in_order<Arch> && C % (2 * R) == 0;
  constexpr int together = W > 0 ? 1 : ordered ? 2 * R : C;
  V held[std::size_t{std::max(R * W, 1)}];
  FOVEA_UNROLL_ALL
  for (int i = 0; i < R * W; ++i) held[i] = V::load_aligned(q + (i / R * Rows + i % R) * n);
  const Lines lines(k.next);
  using known = std::conditional_t<C <= 4 && !Lines::any, const rows_of<E>, const rows_of<E>&>;
  known keys = k.rows;  // in registers where addresses of a few rows leave some
  const index_type count = k.count;
  s += k.first;
  if (count < C) return dot_last_keys<Arch, Rows>(q, R, k, 0, s, s_stride);
  for (index_type end = C;; end = std::min(end + C, count)) {
    V flat[std::size_t{n}];
    unroll<C / together>([&](auto i) FOVEA_INLINE_LAMBDA {
      const index_type j = end - C + i * together;
      tile<Arch, T, R, together> sum;
      if constexpr (W > 0)
        sum = inner_sum_of_held<Arch, R, W>(held, keys.from(j).data, lines.template beside_rows<1>(j));
      else
        sum = inner_sum<Arch, R, together, Rows>(q, keys.from(j).data, keys.stride, keys.dim,
                                                 lines.template beside_rows<together>(j));
      sum.each([&](auto r, auto e, V& x) FOVEA_INLINE_LAMBDA { flat[r * C + i * together + e] = x; });
    });
    FOVEA_UNROLL_ALL
    for (index_type i = R * C; i < n; ++i) flat[i] = flat[0];
    alignas(64) T dots[std::size_t{n}];
    isa<Arch>::sums_of_lanes(flat).store_aligned(dots);
    unroll<R>([&](auto r) FOVEA_INLINE_LAMBDA {
      std::memcpy(s + r * s_stride + end - C, dots + r * C, C * sizeof(T));
    });
    if (end == count) break;
  }
}

/// n of `count` scales; those beyond are 0.
template <class Arch, class T>
vec<Arch, T> load_scales(const float* scales, index_type count) noexcept {
  constexpr index_type n = lanes<Arch, T>;
  if (count >= n) return load_lanes<Arch, T>(scales);
  alignas(64) T part[std::size_t{n}] = {};
  load_elements(scales, index_type(1), count, part);
  return vec<Arch, T>::load_aligned(part);
}

/// Q times the scale of each channel of K.
template <class Arch, class T>
FOVEA_NOINLINE const T* scale_queries(const row_panel<Arch, T>& q, const float* scales) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  for (index_type i = 0; i * n < q.dim; ++i) {
    const index_type c = start_of<Arch, T>(i, q.dim);
    const V scale = load_scales<Arch, T>(scales + c, q.channels - c);
    for (index_type r = 0; r < q.count(); ++r) {
      const index_type at = (i * q.max_rows + r) * n;
      (V::load_aligned(q.q + at) * scale).store_aligned(q.scaled_q + at);
    }
  }
  return q.scaled_q;
}

/// Whether 6 or 8 rows that do not share registers (row_half_products.hpp) go as 4 and the rest, elements of
/// K that stay in L1 meanwhile being read twice: each tile then loads fewer registers a product, and fills
/// its register of sums. (512 and 1,024 keys, float before registers were shared, the whole call: .95 to .98
/// of the time at dim 64 to 128, 1.05 at 256; 7 rows, as 4 and 3, 1.0 to 1.1; Zen 5.)
template <class Arch, class T>
bool reads_keys_again(const row_panel<Arch, T>& q) noexcept {
  return q.max_rows >= 8 && (q.count() == 6 || q.count() == 8) && q.dim <= 8 * q.n;
}
inline constexpr index_type bytes_read_again = 24576;

/// dot_rows, by the tile that holds queries where there is one.
template <class Lines, class Arch, int R, int Rows, class T, class E, class Stride>
void dot_rows_of_width(const T* q, const block_piece<E>& k, T* s, Stride s_stride) noexcept {
  const auto by = [&](auto w) {
    constexpr int W = decltype(w)::value;
    if (W != 0 && k.rows.dim != W * index_type(lanes<Arch, T>)) return false;
    if constexpr (R * W <= most_held<Arch, R>)
      return dot_rows<Lines, Arch, R, Rows, W>(q, k, s, s_stride), true;
    return false;
  };
  static_cast<void>(by(std::integral_constant<int, 4>()) || by(std::integral_constant<int, 6>()) ||
                    by(std::integral_constant<int, 8>()) || by(std::integral_constant<int, 16>()) ||
                    by(std::integral_constant<int, 0>()));
}

/// S = Q K^T for pieces of a block. The scales of K's channels become part of Q.
template <class Arch, class T, class E>
FOVEA_NOINLINE void dot_pieces(const row_panel<Arch, T>& q, const block_pieces<E>& pieces) noexcept {
  using panel = row_panel<Arch, T>;
  constexpr std::integral_constant<index_type, panel::block> row_stride{};
  for (const block_piece<E>& k : pieces) {
    if constexpr (std::is_same_v<E, T> && isa<Arch>::has_halves)
      if (q.in_halves() && k.scales == nullptr) {
        dot_halves(q, k);
        continue;
      }
    const T* const scaled = k.scales == nullptr ? q.q : scale_queries(q, k.scales);
    const bool asks = k.next.any(), again = !asks && reads_keys_again(q);
    const index_type visited =
        bytes_read_again / index_type(sizeof(T)) / std::max<index_type>(q.dim, 1) / panel::n * panel::n;
    for (index_type first = 0, count; first < k.count; first += count) {
      count = again ? std::min(k.count - first, visited) : k.count;
      const auto dot = [&](auto lines, auto rows, index_type r) {
        constexpr int R = rows();
        const T* const from = scaled + r * panel::n;
        T* const to = q.s + r * panel::block;
        if constexpr (decltype(lines)::type::any)
          dot_rows<lines_of_next, Arch, R, panel::max_rows>(from, k, to, row_stride);
        else if (again)  // (a part in any case: 2 to 4 % more of two and three rows' time)
          dot_rows_of_width<lines_of_none, Arch, R, panel::max_rows>(from, k.part({first, first + count}), to,
                                                                     row_stride);
        else
          dot_rows_of_width<lines_of_none, Arch, R, panel::max_rows>(from, k, to, row_stride);
      };
      again ? q.template in_row_tiles<4>(false, dot) : q.in_row_tiles(asks, dot);
    }
  }
}

}  // namespace kernel
FOVEA_NAMESPACE_END
