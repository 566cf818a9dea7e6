// fovea/kernel/forward/row_products.hpp - the two products of a few query rows, dim in lanes: Q K^T and P
// V. Each is compiled once an element type and ISA.
#pragma once

#include <fovea/kernel/forward/row_panel.hpp>
#include <fovea/kernel/operand/pieces.hpp>

#include <cstring>

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

/// The same for R rows: n / R keys fill a register of sums, of whatever R; where that leaves some over, the
/// last tile reads keys again. The rows of q are R of Rows that lie together: see inner_sum.
/// Few rows take a few of these keys after another, so that memory is read in order: from L2 one row took 25
/// % more with 16 keys beside each other than with 2, two rows 10 % more with 8 than with 4. (With 1 key one
/// row took 3 % less at dim 128 and 7 % more at 64: what is in flight then depends on how far ahead a core
/// looks.)
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
template <class Lines, class Arch, int R, int Rows, class T, class E, class Stride>
FOVEA_NOINLINE void dot_rows(const T* q, const block_piece<E>& k, T* s, Stride s_stride) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  constexpr int C = static_cast<int>(n) / R;
  constexpr int together = !Lines::any && R <= rows_in_order<Arch> && C % (2 * R) == 0 ? 2 * R : C;
  const Lines lines(k.next);
  s += k.first;
  if (k.count < C) return dot_last_keys<Arch, Rows>(q, R, k, 0, s, s_stride);
  for (index_type end = C;; end = std::min(end + C, k.count)) {
    V flat[std::size_t{n}];
    unroll<C / together>([&](auto i) FOVEA_INLINE_LAMBDA {
      const index_type j = end - C + i * together;
      auto sum = inner_sum<Arch, R, together, Rows>(q, k.rows.from(j).data, k.rows.stride, k.rows.dim,
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
    if (end == k.count) break;
  }
}

/// sum += P V for R rows, weights first: from L2 one row of float took 20 % more, two 10 % and three 8 % with
/// 4 registers, in two passes over a block, or with values first (Zen 5, dim 128).
template <class Arch, int R, int C, class T, class E, class Stride>
FOVEA_INLINE void add_in_order(tile<Arch, T, R, C>& sum, const T* p, Stride p_stride, const E* values,
                               index_type stride, index_type count) noexcept {
  using V = vec<Arch, T>;
  FOVEA_UNROLL(2)
  for (index_type j = 0; j < count; ++j, values += stride) {
    V weight[std::size_t{R}];
    unroll<R>([&](auto r) FOVEA_INLINE_LAMBDA {
      weight[r] = V(p[r * p_stride + j]);
      isa<Arch>::keep_in_register(weight[r]);
    });
    unroll<C>([&](auto c) FOVEA_INLINE_LAMBDA {
      const V value = load_lanes<Arch, T>(values + c * lanes<Arch, T>);
      unroll<R>([&](auto r)
                    FOVEA_INLINE_LAMBDA { sum.at[r][c] = isa<Arch>::fma(value, weight[r], sum.at[r][c]); });
    });
  }
}

/// O = O * shrink + P V for up to R rows of a panel from row `first` on, with a run of a block's tokens.
/// Until the last run the sums are kept where Q times the scales of K lay.
template <class Lines, class Arch, int R, class T, class E>
FOVEA_NOINLINE void add_rows(const row_panel<Arch, T>& p, index_type first, const run_of_pieces<E>& run,
                             index_type width) noexcept {
  using V = vec<Arch, T>;
  using shape = geometry<Arch>;
  constexpr std::integral_constant<index_type, row_panel<Arch, T>::block> p_stride{};
  constexpr index_type n = lanes<Arch, T>;
  constexpr bool ordered = !Lines::any && R <= rows_in_order<Arch>;
  constexpr bool in_runs = Lines::any && asks_near<E>(R);
  constexpr int registers = shape::tile_rows * (shape::tile_vectors + 1);  // of the machine
  constexpr int C = ordered ? 8 : std::clamp((registers - 1) / (R + 1), 1, 4);
  const T* const weights = p.logits(first);
  index_type part = 0;  // register of columns
  const auto tile_of = [&](auto columns) FOVEA_INLINE_LAMBDA {
    constexpr int W = decltype(columns)::value;
    constexpr index_type bytes = n * static_cast<index_type>(sizeof(E));
    tile<Arch, T, R, W> sum;
    sum.each([](auto, auto, V& x) FOVEA_INLINE_LAMBDA { x = V(T(0)); });
    if (in_runs && !run.opens)
      sum.each([&](auto r, auto c, V& x)
                   FOVEA_INLINE_LAMBDA { x = V::load_aligned(p.kept(first + r, part + c)); });
    for (const block_piece<E>& v : run) {
      const E* const values = v.rows.data + start_of<Arch, T>(part, width);
      if constexpr (ordered)
        add_in_order(sum, weights + v.first, p_stride, values, v.rows.stride, v.count);
      else
        add_outer(sum, weights + v.first, p_stride, unit{}, values, v.rows.stride, v.count,
                  Lines(v.next).template beside_columns<W * bytes>(v.count, part * bytes));
    }
    sum.each([&](auto r, auto c, V& x) FOVEA_INLINE_LAMBDA {
      if (in_runs && !run.closes)
        x.store_aligned(p.kept(first + r, part + c));
      else if (!Lines::any || first + r < p.count())
        p.add(first + r, part + c, V::load_aligned(p.factor(first + r)), x);
    });
    part += W;
  };
  const index_type whole = width / n;
  // Three registers at once, but two and two in place of three and one. (Single ones at the end of 6
  // registers took 8 % of 4 rows' time.)
  while (whole - part >= C && (C != 3 || whole - part != 4)) tile_of(std::integral_constant<int, C>{});
  if constexpr (C > 4)
    if (whole - part >= 4) tile_of(std::integral_constant<int, 4>{});
  if constexpr (C > 2)
    while (whole - part >= 2) tile_of(std::integral_constant<int, 2>{});
  while (part * n < width) tile_of(std::integral_constant<int, 1>{});
}

/// n of `count` scales; those beyond are 0.
template <class Arch, class T>
FOVEA_INLINE vec<Arch, T> load_scales(const float* scales, index_type count) noexcept {
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

/// S = Q K^T for pieces of a block. The scales of K's channels become part of Q.
template <class Arch, class T, class E>
FOVEA_NOINLINE void dot_pieces(const row_panel<Arch, T>& q, const block_pieces<E>& pieces) noexcept {
  using panel = row_panel<Arch, T>;
  constexpr std::integral_constant<index_type, panel::block> row_stride{};
  for (const block_piece<E>& k : pieces) {
    const T* const scaled = k.scales == nullptr ? q.q : scale_queries(q, k.scales);
    q.in_row_tiles(k.next.any(), [&](auto lines, auto rows, index_type r) {
      dot_rows<typename decltype(lines)::type, Arch, rows(), panel::max_rows>(
          scaled + r * panel::n, k, q.s + r * panel::block, row_stride);
    });
  }
}

/// P times the scale of each token of V.
template <class Arch, class T, class E>
void scale_weights(const row_panel<Arch, T>& p, const block_piece<E>& v) noexcept {
  if (v.scales != nullptr)
    for (index_type r = 0; r < p.count(); ++r)
      for (index_type j = 0; j < v.count; ++j) p.logits(r)[v.first + j] *= static_cast<T>(v.scales[j]);
}

/// What was summed before a block shrinks with the first of its pieces that is added. (Held in registers,
/// ones for later pieces selected there, it made clang spill sums.)
template <class Arch, class T>
FOVEA_INLINE void have_shrunk(const row_panel<Arch, T>& p) noexcept {
  for (index_type r = 0; r < p.count(); ++r) vec<Arch, T>(T(1)).store_aligned(p.factor(r));
}

/// The same for four rows, all columns of some of a block's tokens before others.
template <class Arch, class T, class E>
void add_rows_in_runs(const row_panel<Arch, T>& p, const block_pieces<E>& pieces, index_type width) noexcept {
  for (const block_piece<E>* first = pieces.begin(); first != pieces.end();) {
    const block_piece<E>* last = first;
    for (index_type tokens = 0; last != pieces.end() && tokens < pieces.ahead(); ++last)
      tokens += last->count;
    const run_of_pieces<E> run{first, last, first == pieces.begin(), last == pieces.end()};
    add_rows<lines_of_next, Arch, 4>(p, 0, run, width);
    first = last;
  }
}

/// O = O * shrink + P V for pieces of a block of `width` columns. The scales of V's tokens become part of P.
template <class Arch, class T, class E>
FOVEA_NOINLINE void add_pieces(const row_panel<Arch, T>& p, const block_pieces<E>& pieces,
                               index_type width) noexcept {
  using panel = row_panel<Arch, T>;
  for (const block_piece<E>& v : pieces) scale_weights(p, v);
  if constexpr (asks_near<E>(4) && panel::max_rows >= 4)
    if (pieces.ahead() > 0 && pieces.asks() && p.registers.sums <= registers_of<Arch, T>(p.dim))
      return add_rows_in_runs(p, pieces, width), have_shrunk(p);
  const run_of_pieces<E> all{pieces.begin(), pieces.end()};
  p.in_row_tiles(pieces.asks(), [&](auto lines, auto rows, index_type first) {
    add_rows<typename decltype(lines)::type, Arch, rows()>(p, first, all, width);
  });
  have_shrunk(p);
}

/// The same where V holds NaN or infinities: what a row does not see is left out, not multiplied by 0.
template <class Arch, class T, class E>
FOVEA_NOINLINE void add_seen_pieces(const row_panel<Arch, T>& p, const block_pieces<E>& pieces,
                                    index_type width) noexcept {
  using V = vec<Arch, T>;
  for (index_type r = 0; r < p.count(); ++r)
    for (index_type i = 0; i * p.n < width; ++i) {
      V sum(T(0));
      for (const block_piece<E>& v : pieces)
        for (index_type j = 0; j < v.count; ++j)
          if (const T weight = p.logits(r)[v.first + j]; weight != T(0))
            sum = isa<Arch>::fma(load_lanes<Arch, T>(v.rows.from(j).data + start_of<Arch, T>(i, width)),
                                 V(v.scales == nullptr ? weight : weight * static_cast<T>(v.scales[j])), sum);
      p.add(r, i, V::load_aligned(p.factor(r)), sum);
    }
  have_shrunk(p);
}

}  // namespace kernel
FOVEA_NAMESPACE_END
