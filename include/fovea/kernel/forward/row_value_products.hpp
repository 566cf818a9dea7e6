// fovea/kernel/forward/row_value_products.hpp - P V of a few query rows, dim in lanes.
#pragma once

#include <fovea/kernel/forward/row_products.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// sum += P V for R rows, weights first: from L2 one row of float took 20 % more, two 10 % and three 8 % with
/// 4 registers, in two passes over a block, or with values first (Zen 5, dim 128). `each_row(j)` is called
/// beside row j of V.
template <class Arch, int R, int C, class T, class E, class Stride, class Lines>
FOVEA_INLINE void add_in_order(tile<Arch, T, R, C>& sum, const T* p, Stride p_stride, const E* values,
                               index_type stride, index_type count, const Lines& each_row) noexcept {
  using V = vec<Arch, T>;
  const auto add = [&](index_type j) FOVEA_INLINE_LAMBDA {
    each_row(j);
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
    values += stride;
  };
  if constexpr (std::is_same_v<Lines, no_prefetch>) {
    FOVEA_UNROLL(2)
    for (index_type j = 0; j < count; ++j) add(j);
  } else {
    FOVEA_UNROLL(1)
    for (index_type j = 0; j < count; ++j) add(j);
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
  constexpr bool ordered = Lines::in_order && R <= rows_in_order<Arch>;
  constexpr bool in_runs = Lines::any;
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
      const auto each_row = Lines(v.next).template beside_columns<W * bytes>(v.count, part * bytes);
      if constexpr (ordered)
        add_in_order(sum, weights + v.first, p_stride, values, v.rows.stride, v.count, each_row);
      else
        add_outer(sum, weights + v.first, p_stride, unit{}, values, v.rows.stride, v.count, each_row);
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

/// P times the scale of each token of V.
template <class Arch, class T, class E>
void scale_weights(const row_panel<Arch, T>& p, const block_piece<E>& v) noexcept {
  using V = vec<Arch, T>;
  if (v.scales == nullptr) return;
  for (index_type j = 0; j < v.count; j += p.n) {
    const V scale = load_scales<Arch, T>(v.scales + j, v.count - j);
    for (index_type r = 0; r < p.count(); ++r) {
      T* const to = p.logits(r) + v.first + j;
      if (v.count - j >= p.n)
        (V::load_unaligned(to) * scale).store_unaligned(to);
      else
        for (index_type i = 0; i < v.count - j; ++i) to[i] *= static_cast<T>(v.scales[j + i]);
    }
  }
}

/// What was summed before a block shrinks with the first of its pieces that is added. (Held in registers,
/// ones for later pieces selected there, it made clang spill sums.)
template <class Arch, class T>
void have_shrunk(const row_panel<Arch, T>& p) noexcept {
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
