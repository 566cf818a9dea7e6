// fovea/kernel/tile/tile.hpp - tiles of registers as values: the only unrolled loops.
#pragma once

#include <fovea/kernel/tile/load_store.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// A stride of one element, known when compiling.
using unit = std::integral_constant<index_type, 1>;

/// R x C registers.
template <class Arch, class T, int R, int C>
struct tile {
  using V = vec<Arch, T>;
  V at[std::size_t{R}][std::size_t{C}];

  /// f(row, column, register) for each, unrolled.
  template <class F>
  FOVEA_INLINE void each(F&& f) noexcept {
    FOVEA_UNROLL_ALL
    for (int r = 0; r < R; ++r) {
      FOVEA_UNROLL_ALL
      for (int c = 0; c < C; ++c) f(r, c, at[r][c]);
    }
  }
};

/// The two sides of a product and their sum: numbers, or pairs of bf16 with a sum of T.
template <class Arch, class T, class E>
auto load_side(const E* from) noexcept {
  if constexpr (std::is_same_v<E, bf16_pair>)
    return load_pairs<Arch>(from);
  else
    return load_lanes<Arch, T>(from);
}
template <class Arch, class T, class E>
auto broadcast_side(const E* from) noexcept {
  if constexpr (std::is_same_v<E, bf16_pair>)
    return broadcast_pair<Arch>(from);
  else
    return vec<Arch, T>(*from);
}
template <class Arch, class T, class Side>
vec<Arch, T> add_product(const vec<Arch, T>& sum, const Side& a, const Side& b) noexcept {
  if constexpr (std::is_same_v<Side, vec<Arch, T>>)
    return isa<Arch>::fma(a, b, sum);
  else
    return pair_products<Arch>::add(sum, a, b);
}

/// Beside the steps of a sum, nothing.
struct no_prefetch {
  FOVEA_INLINE void operator()(index_type) const noexcept {}
};

/// sum += over t < depth of  broadcast a(r, t)  *  b(t, c..):  R scalars times C registers a step.
/// a(r, t) = a[r * row + t * step]; b's row t is C registers at b + t * ld. It serves both products:
///   S^T = K Q^T    a = K (rows: keys, steps: dim),      b = Q^T  (steps: dim, lanes: queries)
///   O^T = V^T P^T  a = V^T (rows: columns, steps: keys), b = P^T (steps: keys, lanes: queries)
/// and O = P V with columns in lanes. Of row and step one is a constant 1, so that addresses stay cheap.
/// With one pointer for all rows g++ reloads some of their addresses from the stack, which takes spare load
/// ports; with a pointer for each four rows it did so as often, and clang spilled accumulators.
/// `each_step(t)` is called beside each step, for prefetches. Columns before First are left as they are.
/// Where a and b are of pairs of bf16, a step is of two of what is summed over.
template <int First = 0, class Arch, int R, int C, class T, class A, class E, class Row, class Step, class Ld>
FOVEA_INLINE void add_outer(tile<Arch, T, R, C>& sum, const A* FOVEA_RESTRICT a, Row row, Step step,
                            const E* FOVEA_RESTRICT b, Ld ld, index_type depth, auto&& each_step) noexcept {
  using side = decltype(load_side<Arch, T>(b));
  const auto step_of = [&](index_type t) FOVEA_INLINE_LAMBDA {
    side lane[std::size_t{C}];
    FOVEA_UNROLL_ALL
    for (int c = First; c < C; ++c) lane[c] = load_side<Arch, T>(b + t * ld + c * lanes<Arch, T>);
    FOVEA_UNROLL_ALL
    for (int r = 0; r < R; ++r) {
      const side factor = broadcast_side<Arch, T>(a + (r * row + t * step));
      FOVEA_UNROLL_ALL
      for (int c = First; c < C; ++c) sum.at[r][c] = add_product<Arch>(sum.at[r][c], lane[c], factor);
    }
  };
  // Tiles at the end of a count are not unrolled: a third of the code of all tiles, for steps that are rare.
  // (Four steps of the others take as long as two and 16 KB more in a call with its gradient; one at a time
  // took up to 3 % more with 32 registers.)
  constexpr bool whole = (R >= 4 || R * C >= 8) && First == 0;
  if constexpr (std::is_same_v<std::remove_cvref_t<decltype(each_step)>, no_prefetch> && whole) {
    FOVEA_UNROLL(2)
    for (index_type t = 0; t < depth; ++t) step_of(t);
  } else {  // clang moves the loads of all unrolled steps before the prefetches, and spills
    FOVEA_UNROLL(1)
    for (index_type t = 0; t < depth; ++t) step_of(t), each_step(t);
  }
}

/// What sums are kept in.
template <class E>
using sum_of = std::conditional_t<std::is_same_v<E, bf16_pair>, float, E>;

/// The same sum, from 0.
template <class Arch, int R, int C, class E, class Row, class Step, class Ld, class T = sum_of<E>>
FOVEA_INLINE tile<Arch, T, R, C> outer_sum(const E* a, Row row, Step step, const E* b, Ld ld,
                                           index_type depth) noexcept {
  tile<Arch, T, R, C> sum;
  sum.each([](auto, auto, vec<Arch, T>& s) FOVEA_INLINE_LAMBDA { s = vec<Arch, T>(T(0)); });
  add_outer(sum, a, row, step, b, ld, depth, no_prefetch{});
  return sum;
}

/// f(constant rows, first) for tiles of Rows, and for pairs and single ones at the end: less code, where ends
/// are rare.
template <int Rows, class F>
FOVEA_INLINE void in_whole_tiles(index_type count, F&& f) noexcept {
  index_type i = 0;
  for (; i + Rows <= count; i += Rows) f(std::integral_constant<int, Rows>{}, i);
  for (; i + 2 <= count; i += 2) f(std::integral_constant<int, 2>{}, i);
  if (i < count) f(std::integral_constant<int, 1>{}, i);
}

/// Register i of a row of `width` elements, at least one register: where it starts. The last one overlaps the
/// one before, so that rows of any width are read in place; where a sum goes over all, one side has zeros
/// there.
template <class Arch, class T>
FOVEA_INLINE index_type start_of(index_type i, index_type width) noexcept {
  return std::min<index_type>(i * lanes<Arch, T>, width - lanes<Arch, T>);
}

/// sum over t < width of a(r, t) * b(c, t), lane by lane. Rows of b are contiguous, `b_row` apart. Of a the
/// registers i of all rows lie together, Rows of them, so that one pointer and constants reach them; where
/// the last overlaps the one before it has zeros. `each_line(offset)` is called beside each cache line of b's
/// rows.
template <class Arch, int R, int C, int Rows, class T, class E>
FOVEA_INLINE tile<Arch, T, R, C> inner_sum(const T* FOVEA_RESTRICT a, const E* FOVEA_RESTRICT b,
                                           index_type b_row, index_type width, auto&& each_line) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>, bytes = n * static_cast<index_type>(sizeof(E));
  constexpr int steps = std::max<int>(1, 64 / bytes);  // registers of a line
  tile<Arch, T, R, C> sum;
  sum.each([](auto, auto, V& s) FOVEA_INLINE_LAMBDA { s = V(T(0)); });
  // (Lambdas, where elsewhere the compiler unrolls loops: with those one query of bf16 keys took 6 % more,
  // four of float 3 to 5 %.)
  const auto step = [&](const E* from) FOVEA_INLINE_LAMBDA {
    V right[std::size_t{C}];
    unroll<C>([&](auto c) FOVEA_INLINE_LAMBDA {
      right[c] = load_lanes<Arch, T>(from + c * b_row);
      if constexpr (R > 1) isa<Arch>::keep_in_register(right[c]);
    });
    unroll<R>([&](auto r) FOVEA_INLINE_LAMBDA {
      V left = V::load_unaligned(a + r * n);
      isa<Arch>::keep_in_register(left);
      unroll<C>([&](auto c)
                    FOVEA_INLINE_LAMBDA { sum.at[r][c] = isa<Arch>::fma(left, right[c], sum.at[r][c]); });
    });
    a += Rows * n;
  };
  index_type t = 0;
  for (; t + steps * n <= width; t += steps * n) {
    each_line(t * index_type(sizeof(E)));
    unroll<steps>([&](auto i) FOVEA_INLINE_LAMBDA { step(b + t + i * n); });
  }
  if (t < width) each_line(t * index_type(sizeof(E)));
  for (; t < width; t += n) step(b + start_of<Arch, T>(t / n, width));
  return sum;
}

/// f(constant rows, first) for tiles of Rows from i on, and of smaller powers of two at the end.
template <int Rows, class F>
FOVEA_INLINE void in_tiles(index_type count, F&& f, index_type i = 0) noexcept {
  for (; i + Rows <= count; i += Rows) f(std::integral_constant<int, Rows>{}, i);
  if constexpr (Rows > 4)
    if (count - i >= 4) f(std::integral_constant<int, 4>{}, i), i += 4;
  if (count - i >= 2) f(std::integral_constant<int, 2>{}, i), i += 2;
  if (count - i >= 1) f(std::integral_constant<int, 1>{}, i);
}

/// The sum of all lanes of v, in each lane; the largest (with NaN, any of them).
template <class Arch, class T>
FOVEA_INLINE vec<Arch, T> sum_over_lanes(const vec<Arch, T>& v) noexcept {
  return isa<Arch>::template over_lanes<T>(
      v, [](const auto& a, const auto& b) FOVEA_INLINE_LAMBDA { return a + b; });
}
template <class Arch, class T>
FOVEA_INLINE vec<Arch, T> max_over_lanes(const vec<Arch, T>& v) noexcept {
  return isa<Arch>::template over_lanes<T>(
      v, [](const auto& a, const auto& b) FOVEA_INLINE_LAMBDA { return xsimd::max(a, b); });
}

}  // namespace kernel
FOVEA_NAMESPACE_END
