// fovea/kernel/forward/lane_products.hpp - the products of the form with queries in lanes. Each is compiled
// once an element type and ISA.
#pragma once

#include <fovea/kernel/forward/lane_panel.hpp>
#include <fovea/kernel/operand/paired.hpp>
#include <fovea/kernel/operand/prefetch.hpp>
#include <fovea/kernel/tile/tile.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// f(constant number of registers) of a panel.
template <class Arch, class F>
void in_registers(int registers, F&& f) noexcept {
  static_assert(geometry<Arch>::tile_vectors == 3);
  if (registers == 3)
    f(std::integral_constant<int, 3>{});
  else if (registers == 2)
    f(std::integral_constant<int, 2>{});
  else
    f(std::integral_constant<int, 1>{});
}

/// Rows of a tile of W registers of queries: at least 8 accumulators, as a multiply-add takes four cycles.
template <class Arch, int W>
inline constexpr int tall = W == 1 ? std::max(geometry<Arch>::tile_rows, 8) : geometry<Arch>::tile_rows;

/// What is left to do with a sum of products of Q and K: numbers have the scale in Q, pairs of bf16, which
/// are as they were stored, get it here: 24 operations for 768 of a tile of dim 64.
template <class E, class V, class T>
V scaled_sum(const V& sum, T scale) noexcept {
  if constexpr (std::is_same_v<E, bf16_pair>)
    return sum * V(scale);
  else
    return sum;
}

/// S = Q K^T (R, C), and the largest logit of each query where that is wanted: rules would find it anew. Q^T
/// is [depth][width] and a row of K `depth` elements, numbers or pairs of bf16.
template <class Arch, int W, class T, class E>
FOVEA_NOINLINE void dot_keys(const E* q, index_type depth, const rows_of<E>& k, T scale, index_type keys,
                             logit_block<Arch, T>& s, bool wants_largest, prefetch& lines) noexcept {
  using V = vec<Arch, T>;
  using row_stride = std::integral_constant<index_type, W * lanes<Arch, T>>;
  constexpr index_type n = lanes<Arch, T>;
  V largest[std::size_t{W}];
  FOVEA_UNROLL_ALL
  for (int w = 0; w < W; ++w) largest[w] = V(hidden<T>);
  T* const to = s.s;
  in_tiles<tall<Arch, W>>(keys, [&](auto rows, index_type j) FOVEA_INLINE_LAMBDA {
    lines.fetch();
    auto tile = outer_sum<Arch, rows(), W>(k.data + j * k.stride, k.stride, unit{}, q, row_stride{}, depth);
    tile.each([&](auto r, auto w, V& x) FOVEA_INLINE_LAMBDA {
      x = scaled_sum<E>(x, scale);
      x.store_aligned(to + (j + r) * row_stride{} + w * n);
    });
    if (wants_largest)
      tile.each([&](auto, auto w, V& x) FOVEA_INLINE_LAMBDA { largest[w] = xsimd::max(largest[w], x); });
  });
  FOVEA_UNROLL_ALL
  for (int w = 0; w < W; ++w) s.largest[w] = largest[w];
}

/// The same of W of a panel's registers and some keys, with more keys before them where they are fewer than a
/// tile's: the last tile overlaps those, which is less code than smaller ones.
template <class Arch, int W, class T, class E>
FOVEA_NOINLINE void dot_some_keys(const E* q, index_type width, index_type depth, const rows_of<E>& k,
                                  T scale, index_type keys, T* to, prefetch& lines) noexcept {
  constexpr int high = tall<Arch, W>;
  for (index_type next = 0; next < keys; next += high) {
    const index_type j = std::min(next, keys - high);
    lines.fetch();
    auto tile = outer_sum<Arch, high, W>(k.data + j * k.stride, k.stride, unit{}, q, width, depth);
    tile.each([&](auto r, auto w, vec<Arch, T>& x) FOVEA_INLINE_LAMBDA {
      scaled_sum<E>(x, scale).store_aligned(to + (j + r) * width + w * lanes<Arch, T>);
    });
  }
}

/// S = Q K^T of what may be seen: of all where the largest are wanted.
template <class Arch, int W, class T, class E>
void dot_seen_keys(const E* q, index_type depth, const rows_of<E>& k, T scale, logit_block<Arch, T>& s,
                   bool wants_largest, prefetch& lines) noexcept {
  dot_keys<Arch, W>(q, depth, k, scale, s.seen[0], s, wants_largest, lines);
  unroll<W - 1>([&](auto before) {
    constexpr int first = before() + 1;
    if (const range keys{s.seen[first - 1], s.seen[first]}; !keys.empty())
      dot_some_keys<Arch, W - first>(q + first * s.n, s.width, depth, k.from(keys.first), scale, keys.size(),
                                     s.at(keys.first, first), lines);
  });
}

/// Weights become pairs of two keys' each, rounded, in the place of the first half of them.
template <class Arch, class T>
FOVEA_NOINLINE void pair_weights(const logit_block<Arch, T>& p) noexcept {
  using V = vec<Arch, T>;
  const index_type keys = p.keys.size(), width = p.width;
  auto* const to = reinterpret_cast<bf16_pair*>(p.s);
  for (index_type j = 0; j < keys; j += 2)
    for (index_type i = 0; i < width; i += p.n) {
      const T* const from = p.s + j * width + i;
      const V low = V::load_aligned(from), high = j + 1 < keys ? V::load_aligned(from + width) : V(T(0));
      store_pairs<Arch>(pair_products<Arch>::rounded(low, high), to + j / 2 * width + i);
    }
}

/// How many keys one step of a sum over keys takes.
template <class E>
inline constexpr index_type keys_a_step = std::is_same_v<E, bf16_pair> ? 2 : 1;

/// O = O * shrink + P V (R, dv), O being kept [column][width]; P and V are numbers, or pairs of two keys'.
template <class Arch, int W, class T, class E>
FOVEA_NOINLINE void add_values(const logit_block<Arch, T>& p, const rows_of<E>& v, index_type columns, T* o,
                               prefetch& lines) noexcept {
  using V = vec<Arch, T>;
  using row_stride = std::integral_constant<index_type, W * lanes<Arch, T>>;
  constexpr index_type n = lanes<Arch, T>;
  const auto* const weights = reinterpret_cast<const E*>(p.s);
  // (A register alone: 6 rows. Of 8 clang spilled two accumulators with 16 registers. With 32 first 16, whole
  // lines of V, of which the first half of a tile's may be gone from L1 when the other is wanted, as rows lie
  // 512 bytes apart: 2 to 5 % of 16 queries' time. Q K^T of 16 keys at once took 11 % more: addresses.)
  constexpr int high = W == 1 ? std::max(geometry<Arch>::tile_rows, 6) : tall<Arch, W>;
  constexpr int whole_lines = W == 1 && geometry<Arch>::tile_rows == 8 ? 16 : high;
  lines.deal(ceil_div(columns, index_type(whole_lines)));
  const auto add_to = [&](auto rows, index_type c) FOVEA_INLINE_LAMBDA {
    lines.fetch();
    tile<Arch, T, rows(), W> sum;
    sum.each([](auto, auto, V& x) FOVEA_INLINE_LAMBDA { x = V(T(0)); });
    const auto add = [&](auto first, range keys) FOVEA_INLINE_LAMBDA {
      const index_type step = keys.first / keys_a_step<E>, steps = ceil_div(keys.size(), keys_a_step<E>);
      add_outer<first()>(sum, v.data + c + step * v.stride, unit{}, v.stride, weights + step * row_stride{},
                         row_stride{}, steps, no_prefetch{});
    };
    if constexpr (rows() < geometry<Arch>::tile_rows) {  // weights that are 0 change nothing
      add(std::integral_constant<int, 0>{}, {0, p.keys.size()});
    } else {
      add(std::integral_constant<int, 0>{}, {0, p.seen[0]});
      unroll<W - 1>([&](auto w) FOVEA_INLINE_LAMBDA {
        add(std::integral_constant<int, w() + 1>{}, {p.seen[w], p.seen[w + 1]});
      });
    }
    sum.each([&](auto r, auto w, V& x) FOVEA_INLINE_LAMBDA {
      T* const to = o + (c + r) * row_stride{} + w * n;
      isa<Arch>::fma(V::load_aligned(to), p.shrink[w], x).store_aligned(to);
    });
  };
  index_type c = 0;
  if constexpr (whole_lines > high)
    for (; c + whole_lines <= columns; c += whole_lines)
      add_to(std::integral_constant<int, whole_lines>{}, c);
  in_tiles<high>(columns, add_to, c);
}

/// `value`, but 0 where a weight is 0: of pairs, each half by itself.
template <class Arch, class T>
vec<Arch, T> seen_values(const vec<Arch, T>& weight, const vec<Arch, T>& value) noexcept {
  return xsimd::select(weight == vec<Arch, T>(T(0)), vec<Arch, T>(T(0)), value);
}
template <class Arch, class T>
registers_of_pairs<Arch> seen_values(const registers_of_pairs<Arch>& weights,
                                     const registers_of_pairs<Arch>& values) noexcept {
  using R = registers_of_pairs<Arch>;
  const auto seen = [](const R& weight, const R& value) {
    return bits_as<std::int32_t, Arch>(
        seen_values<Arch, T>(bits_as<T, Arch>(weight), bits_as<T, Arch>(value)));
  };
  constexpr std::int32_t low = 0xffff, high = -65536;
  return seen(weights << 16, values & R(low)) | seen(weights & R(high), values & R(high));
}

/// The same where V holds NaN or infinities: what a query does not see is left out, not multiplied by 0.
template <class Arch, class T, class E>
FOVEA_NOINLINE void add_seen_values(const logit_block<Arch, T>& p, const rows_of<E>& v, index_type columns,
                                    T* o) noexcept {
  using V = vec<Arch, T>;
  const index_type steps = ceil_div(p.keys.size(), keys_a_step<E>);
  const auto* const weights = reinterpret_cast<const E*>(p.s);
  for (index_type c = 0; c < columns; ++c)
    for (int w = 0; w < p.registers(); ++w, o += p.n) {
      V sum(T(0));
      for (index_type t = 0; t < steps; ++t) {
        const auto weight = load_side<Arch, T>(weights + t * p.width + w * p.n);
        const auto value = broadcast_side<Arch, T>(v.data + t * v.stride + c);
        sum = add_product<Arch>(sum, weight, seen_values<Arch, T>(weight, value));
      }
      isa<Arch>::fma(V::load_aligned(o), p.shrink[w], sum).store_aligned(o);
    }
}

/// Up to so many keys are one block for write_values. (Beyond 128, AVX2: heads of 144 to 256 x 64 and 128
/// take 3 to 6 % less time than in blocks of 64; of 256 x 40, where tiles are of 3 registers too, 5 % more.)
template <class Arch, class T>
index_type short_block(index_type columns) noexcept {
  using shape = geometry<Arch>;
  const bool fills_tiles = columns % (shape::tile_columns * lanes<Arch, T>) == 0;
  if (fills_tiles) return shape::short_block_of_tiles;
  return shape::short_block;
}

/// out(i, c) = factor[i] * sum_j P(i, j) V(j, c) for `rows` queries where all their keys are in this one
/// block: columns are in lanes, nothing is kept, nothing transposed. `columns` are at least one register. (48
/// keys of dim 256 take 12 % less time than by way of O^T, 128 of dim 64 take 5 % less.)
template <class Arch, class T, class E>
FOVEA_NOINLINE void write_values(const logit_block<Arch, T>& p, const rows_of<E>& v, index_type columns,
                                 const T* factor, T* out, index_type out_stride, prefetch& lines) noexcept {
  using shape = geometry<Arch>;
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  const index_type registers = ceil_div(columns, n), whole = columns / n, rows = p.rows.size(),
                   width = p.width;
  const auto* const weights = reinterpret_cast<const E*>(p.s);
  lines.deal(ceil_div(registers, index_type(shape::tile_columns)) *
             ceil_div(rows, index_type(shape::tile_queries)));
  const auto tiles_of = [&](auto wide, index_type part) FOVEA_INLINE_LAMBDA {
    const index_type c = start_of<Arch, T>(part, columns);
    constexpr int high = wide() == 3                               ? shape::tile_rows
                         : wide() == 1 && shape::tile_columns == 2 ? 8
                                                                   : shape::tile_queries;
    in_tiles<high>(rows, [&](auto queries, index_type i) FOVEA_INLINE_LAMBDA {
      lines.fetch();
      const index_type steps = ceil_div(p.seen_by({i, i + queries}), keys_a_step<E>);
      auto tile = outer_sum<Arch, queries(), wide()>(weights + i, unit{}, width, v.data + c, v.stride, steps);
      tile.each([&](auto r, auto k, V& x) FOVEA_INLINE_LAMBDA {
        (x * V(factor[i + r])).store_unaligned(out + (i + r) * out_stride + c + k * n);
      });
    });
  };
  index_type part = 0;  // registers of columns: as many as a tile takes, 2, 1; the last may overlap
  if constexpr (shape::tile_columns == 4)
    for (; part + 4 <= whole; part += 4) tiles_of(std::integral_constant<int, 4>{}, part);
  for (; part + (shape::tile_columns == 2 && whole - part == 3 ? 4 : 2) <= whole; part += 2)
    tiles_of(std::integral_constant<int, 2>{}, part);
  if constexpr (shape::tile_columns == 2)
    if (whole - part == 3) tiles_of(std::integral_constant<int, 3>{}, part), part += 3;
  for (; part < registers; ++part) tiles_of(std::integral_constant<int, 1>{}, part);
}

}  // namespace kernel
FOVEA_NAMESPACE_END
