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

/// The same for R rows: n / R keys at a time fill a register of sums, of whatever R; where that leaves some
/// over, the last tile reads keys again. The rows of q are R of Rows that lie together: see inner_sum.
///
/// Measured on a Zen 5 from L2, 512 keys, the whole call in GF/s of 270 (AVX-512) and 135 (AVX2), groups of
/// 1 to 8; before it tiles were of 4, 2 and 1 rows, each of which read K and V again, and asked for two lines
/// beside each that they read (one to three rows are dot_rows_in_order now):
///   AVX-512, dim 64     73 125 124 163 148 159 162 165      before   45  77  75 118 102 114 105 148
///   AVX-512, dim 128    90 142 183 198 185 195 201 198      before   47  83  74 135 103 118 100 182
///   AVX2, dim 64        54  77  77  86 (two panels)         before   37  63  57  78
/// On a Zen 4, 4 rows, dim 128, of the FMA peak: float 87, 16 bits and int8 76 %; bfloat16 as even and odd
/// elements, by shift and mask, 84 %; keys stored in lanes, 16 of them a register, with no sums over lanes:
/// float 81, others 87 to 90 %.
template <class Arch, int R, int Rows, class T, class E, class Stride, class Lines>
FOVEA_INLINE void dot_rows(const T* q, const block_piece<E>& k, T* s, Stride s_stride,
                           const Lines& lines) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  constexpr int C = static_cast<int>(n) / R;
  s += k.first;
  if (k.count < C) return dot_last_keys<Arch, Rows>(q, R, k, 0, s, s_stride);
  for (index_type end = C;; end = std::min(end + C, k.count)) {
    const index_type j = end - C;
    auto sum = inner_sum<Arch, R, C, Rows>(q, k.rows.from(j).data, k.rows.stride, k.rows.dim,
                                           lines.template beside_rows<C>(j));
    V flat[std::size_t{n}];
    sum.each([&](auto r, auto e, V& x) FOVEA_INLINE_LAMBDA { flat[r * C + e] = x; });
    FOVEA_UNROLL_ALL
    for (index_type i = R * C; i < n; ++i) flat[i] = flat[0];
    alignas(64) T dots[std::size_t{n}];
    isa<Arch>::sums_of_lanes(flat).store_aligned(dots);
    unroll<R>([&](auto r)
                  FOVEA_INLINE_LAMBDA { std::memcpy(s + r * s_stride + j, dots + r * C, C * sizeof(T)); });
    if (end == k.count) break;
  }
}

/// f(constant row, part, from(constant row, part) + sum over j of p(row, j) v(j, columns of register
/// `part`)), R rows. Meanwhile lines are asked for.
template <class Lines, class Arch, int R, class T, class Pieces, class Stride, class From, class F>
FOVEA_INLINE void sum_rows(const T* p, Stride p_stride, const Pieces& pieces, index_type width, From&& from,
                           F&& f) noexcept {
  using V = vec<Arch, T>;
  using shape = geometry<Arch>;
  using E = std::remove_cvref_t<decltype(*pieces.begin()->rows.data)>;
  constexpr index_type n = lanes<Arch, T>, bytes = n * static_cast<index_type>(sizeof(E));
  constexpr int registers = shape::tile_rows * (shape::tile_vectors + 1);  // of the machine
  constexpr int C = std::clamp((registers - 1) / (R + 1), 1, 4);
  const auto tile_of = [&](auto wide, index_type c) FOVEA_INLINE_LAMBDA {
    constexpr int W = decltype(wide)::value;
    tile<Arch, T, R, W> sum;
    sum.each([&](auto r, auto w, V& x) FOVEA_INLINE_LAMBDA { x = from(r, c / n + w); });
    for (const auto& v : pieces)
      add_outer(sum, p + v.first, p_stride, unit{}, v.rows.data + start_of<Arch, T>(c / n, width),
                v.rows.stride, v.count,
                Lines(v.next).template beside_columns<W * bytes>(v.count, c / n * bytes));
    sum.each([&](auto r, auto w, V& x) FOVEA_INLINE_LAMBDA { f(r, c / n + w, x); });
  };
  index_type c = 0;
  // Two and two in place of three and one. (Single ones at the end of 6 registers took 8 % of 4 rows' time.)
  const auto fits = [&](index_type parts) FOVEA_INLINE_LAMBDA { return c + parts * n <= width; };
  for (; fits(C) && (C != 3 || !fits(4) || fits(5)); c += C * n) tile_of(std::integral_constant<int, C>{}, c);
  for (; fits(2); c += 2 * n) tile_of(std::integral_constant<int, 2>{}, c);
  for (; c < width; c += n) tile_of(std::integral_constant<int, 1>{}, c);
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

/// Up to so many rows of a panel go key by key and all columns at once where nothing is asked for.
template <class Arch>
inline constexpr int rows_in_order = geometry<Arch>::few_rows >= 8 ? 3 : 1;

/// dot_rows, a few keys after another, so that memory is read in order: from L2 one row took 25 % more with
/// 16 keys beside each other than with 2, two rows 10 % more with 8 than with 4. (With 1 key one row took 3 %
/// less at dim 128 and 7 % more at 64: what is in flight then depends on how far ahead a core looks.)
template <class Arch, int R, int Rows, class T, class E, class Stride>
FOVEA_NOINLINE void dot_rows_in_order(const T* q, const block_piece<E>& k, T* s, Stride s_stride) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  constexpr int C = static_cast<int>(n) / R, together = C % (2 * R) == 0 ? 2 * R : C;
  s += k.first;
  if (k.count < C) return dot_last_keys<Arch, Rows>(q, R, k, 0, s, s_stride);
  for (index_type end = C;; end = std::min(end + C, k.count)) {
    const index_type j = end - C;
    V flat[std::size_t{n}];
    unroll<C / together>([&](auto i) FOVEA_INLINE_LAMBDA {
      auto sum = inner_sum<Arch, R, together, Rows>(q, k.rows.from(j + i * together).data, k.rows.stride,
                                                    k.rows.dim, no_prefetch{});
      sum.each([&](auto r, auto e, V& x) FOVEA_INLINE_LAMBDA { flat[r * C + i * together + e] = x; });
    });
    FOVEA_UNROLL_ALL
    for (index_type i = R * C; i < n; ++i) flat[i] = flat[0];
    alignas(64) T dots[std::size_t{n}];
    isa<Arch>::sums_of_lanes(flat).store_aligned(dots);
    unroll<R>([&](auto r)
                  FOVEA_INLINE_LAMBDA { std::memcpy(s + r * s_stride + j, dots + r * C, C * sizeof(T)); });
    if (end == k.count) break;
  }
}

/// O = O * shrink + P V for R rows, up to 8 registers of columns at once, weights first: from L2 one row of
/// float took 20 % more, two 10 % and three 8 % with 4 registers, in two passes over a block (Zen 5, dim
/// 128).
template <int R, class Arch, class T, class E>
FOVEA_NOINLINE void add_rows_in_order(const row_panel<Arch, T>& p, const block_pieces<E>& pieces,
                                      index_type width) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  index_type part = 0;
  const auto tile_of = [&](auto columns) FOVEA_INLINE_LAMBDA {
    constexpr int C = decltype(columns)::value;
    tile<Arch, T, R, C> sum;
    sum.each([](auto, auto, V& x) FOVEA_INLINE_LAMBDA { x = V(T(0)); });
    for (const block_piece<E>& v : pieces) {
      const E* values = v.rows.data + start_of<Arch, T>(part, width);
      FOVEA_UNROLL(2)
      for (index_type j = 0; j < v.count; ++j, values += v.rows.stride) {
        V weight[std::size_t{R}];
        unroll<R>([&](auto r) FOVEA_INLINE_LAMBDA {
          weight[r] = V(p.s[r * p.block + v.first + j]);
          isa<Arch>::keep_in_register(weight[r]);
        });
        unroll<C>([&](auto c) FOVEA_INLINE_LAMBDA {
          const V value = load_lanes<Arch, T>(values + c * n);
          unroll<R>([&](auto r) FOVEA_INLINE_LAMBDA {
            sum.at[r][c] = isa<Arch>::fma(value, weight[r], sum.at[r][c]);
          });
        });
      }
    }
    sum.each([&](auto r, auto c, V& x)
                 FOVEA_INLINE_LAMBDA { p.add(r, part + c, V::load_aligned(p.factor(r)), x); });
    part += C;
  };
  const auto fits = [&](index_type parts) FOVEA_INLINE_LAMBDA { return (part + parts) * n <= width; };
  while (fits(8)) tile_of(std::integral_constant<int, 8>{});
  if (fits(4)) tile_of(std::integral_constant<int, 4>{});
  if (fits(2)) tile_of(std::integral_constant<int, 2>{});
  while (part * n < width) tile_of(std::integral_constant<int, 1>{});
}

/// f(constant rows) where a panel has so few, and nothing is asked for.
template <class Arch, class T, class F>
FOVEA_INLINE bool in_order(const row_panel<Arch, T>& p, bool asks, F&& f) noexcept {
  if (asks || p.count() > rows_in_order<Arch>) return false;
  unroll<rows_in_order<Arch>>([&](auto i) {
    if (p.count() == i + 1) f(std::integral_constant<int, i + 1>{});
  });
  return true;
}

/// S = Q K^T for pieces of a block. The scales of K's channels become part of Q.
template <class Arch, class T, class E>
FOVEA_NOINLINE void dot_pieces(const row_panel<Arch, T>& q, const block_pieces<E>& pieces) noexcept {
  using panel = row_panel<Arch, T>;
  constexpr std::integral_constant<index_type, panel::block> row_stride{};
  for (const block_piece<E>& k : pieces) {
    const T* const scaled = k.scales == nullptr ? q.q : scale_queries(q, k.scales);
    if (in_order(q, k.next.any(), [&](auto rows) {
          dot_rows_in_order<Arch, rows(), panel::max_rows>(scaled, k, q.s, row_stride);
        }))
      continue;
    with_lines(k.next.any(), [&](auto lines) FOVEA_INLINE_LAMBDA {
      q.in_row_tiles([&](auto rows, index_type r) FOVEA_INLINE_LAMBDA {
        dot_rows<Arch, rows(), panel::max_rows>(scaled + r * panel::n, k, q.s + r * panel::block, row_stride,
                                                typename decltype(lines)::type(k.next));
      });
    });
  }
}

/// What was summed before a block shrinks with the first of its pieces that is added. (Held in registers,
/// ones for later pieces selected there, it made clang spill sums.)
template <class Arch, class T>
FOVEA_INLINE void have_shrunk(const row_panel<Arch, T>& p) noexcept {
  for (index_type r = 0; r < p.count(); ++r) vec<Arch, T>(T(1)).store_aligned(p.factor(r));
}

/// O = O * shrink + P V for R rows, as sum_rows, but all columns of some of a block's tokens before others:
/// until the last the sums are kept where Q times the scales of K lay.
template <int R, class Arch, class T, class E>
FOVEA_NOINLINE void add_rows_in_runs(const row_panel<Arch, T>& p, const block_pieces<E>& pieces,
                                     index_type width) noexcept {
  using V = vec<Arch, T>;
  constexpr std::integral_constant<index_type, row_panel<Arch, T>::block> row_stride{};
  const auto kept = [&](auto r, index_type part)
                        FOVEA_INLINE_LAMBDA { return p.scaled_q + (r * p.registers.sums + part) * p.n; };
  for (const block_piece<E>*at = pieces.begin(), *first = at; first != pieces.end(); first = at) {
    for (index_type tokens = 0; at != pieces.end() && tokens < pieces.ahead(); ++at) tokens += at->count;
    sum_rows<lines_of_next, Arch, R>(
        p.s, row_stride, run_of_pieces<E>{first, at}, width,
        [&](auto r, index_type part) FOVEA_INLINE_LAMBDA {
          return first == pieces.begin() ? V(T(0)) : V::load_aligned(kept(r, part));
        },
        [&](auto r, index_type part, V& x) FOVEA_INLINE_LAMBDA {
          if (at == pieces.end())
            p.add(r, part, V::load_aligned(p.factor(r)), x);
          else
            x.store_aligned(kept(r, part));
        });
  }
}

/// O = O * shrink + P V for pieces of a block of `width` columns. The scales of V's tokens become part of P.
template <class Arch, class T, class E>
FOVEA_NOINLINE void add_pieces(const row_panel<Arch, T>& p, const block_pieces<E>& pieces,
                               index_type width) noexcept {
  using panel = row_panel<Arch, T>;
  using V = vec<Arch, T>;
  constexpr std::integral_constant<index_type, panel::block> row_stride{};
  for (const block_piece<E>& v : pieces)
    if (v.scales != nullptr)
      for (index_type r = 0; r < p.count(); ++r)
        for (index_type j = 0; j < v.count; ++j) p.logits(r)[v.first + j] *= static_cast<T>(v.scales[j]);
  if (in_order(p, pieces.asks(), [&](auto rows) { add_rows_in_order<rows()>(p, pieces, width); }))
    return have_shrunk(p);
  if constexpr (asks_near<E>(4) && panel::max_rows >= 4)
    if (pieces.ahead() > 0 && pieces.asks() && p.registers.sums <= registers_of<Arch, T>(p.dim))
      return add_rows_in_runs<4>(p, pieces, width), have_shrunk(p);
  with_lines(pieces.asks(), [&](auto lines) FOVEA_INLINE_LAMBDA {
    p.in_row_tiles([&](auto rows, index_type r) FOVEA_INLINE_LAMBDA {
      sum_rows<typename decltype(lines)::type, Arch, rows()>(
          p.s + r * panel::block, row_stride, pieces, width,
          [](auto, index_type) FOVEA_INLINE_LAMBDA { return V(T(0)); },
          [&](auto i, index_type part, V& x)
              FOVEA_INLINE_LAMBDA { p.add(r + i, part, V::load_aligned(p.factor(r + i)), x); });
    });
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
