// fovea/kernel/sweep/index_scores.hpp - how much each key matters to a query, by a few small heads:
// sum_h w_h ReLU(q_h . k_j). The heads are in lanes, as queries are elsewhere.
//
// A tile of some keys and up to 4 registers of heads becomes a register of sums a key before the next one is
// begun: logits are not stored. (64 heads x 128 over 65,536 keys in float: 0.83 of the peak with tiles of 8
// keys and 2 registers, whose logits were weighed block by block.)
#pragma once

#include <fovea/kernel/operand/paired.hpp>
#include <fovea/kernel/operand/prefetch.hpp>
#include <fovea/kernel/tile/packing.hpp>
#include <fovea/kernel/tile/tile.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Heads of one query in lanes, and what their products with keys become. E: numbers, or pairs of bf16.
template <class Arch, class T, class E>
class index_sums {
  using V = vec<Arch, T>;
  using shape = geometry<Arch>;

 public:
  static constexpr index_type block = 96;  // whole tiles of any width, whole registers
  static_assert(block % lanes<Arch, T> == 0);

 protected:
  static constexpr index_type n = lanes<Arch, T>;
  static constexpr int most = std::max(shape::tile_vectors, shape::tile_columns);  // registers of a panel

  /// Keys of a tile beside W registers of heads.
  template <int W>
  static constexpr int keys_of_tile = std::min(shape::tile_rows * shape::tile_vectors / W, 8);

  index_sums(index_type heads, index_type depth) noexcept : heads_(heads), depth_(depth) {}

  static index_type bytes(index_type heads, index_type depth) noexcept {
    const index_type width = round_up(heads, n);
    return part_bytes(bytes_of<E>(width * depth)) + part_bytes(bytes_of<T>(width)) +
           part_bytes(bytes_of<T>(block * n)) + part_bytes(bytes_of<T>(block));
  }
  template <class WE>
  void take(memory_parts& parts, const WE* weights, index_type stride) noexcept {
    const index_type width = round_up(heads_, n);
    q_ = parts.template take<E>(bytes_of<E>(width * depth_));
    weights_ = parts.template take<T>(bytes_of<T>(width));
    sums_ = parts.template take<T>(bytes_of<T>(block * n));
    scores_ = parts.template take<T>(bytes_of<T>(block));
    for (index_type h = 0; h < width; ++h)
      weights_[h] = h < heads_ ? load_element<T>(weights[h * stride]) : T(0);
  }

  /// f(first head, registers) for panels of up to `most` registers, as even as can be.
  template <class F>
  void each_panel(const F& f) const noexcept {
    index_type first = 0, left = ceil_div(heads_, n);
    for (index_type panels = ceil_div(left, index_type(most)); panels > 0; --panels) {
      const index_type registers = ceil_div(left, panels);
      f(first, static_cast<int>(registers));
      first += registers * n, left -= registers;
    }
  }
  /// f(register of heads, its first column, columns of its panel, the panel's first head) for each.
  template <class F>
  void each_register(const F& f) const noexcept {
    each_panel([&](index_type first, int registers) {
      for (index_type h = first; h < first + registers * n; h += n)
        f(range{h, std::min(h + n, heads_)}, h - first, registers * n, first);
    });
  }

  /// The scores of a block of keys.
  void score(const rows_of<E>& keys, index_type count, prefetch& lines) noexcept {
    each_panel([&](index_type first, int registers) {
      unroll<most>([&](auto before) {
        constexpr int w = before() + 1;
        if (registers == w) add<w>(first, keys, count, lines);
      });
    });
    sum_lanes(sums_, count, scores_);
  }
  static void sum_lanes(const T* sums, index_type keys, T* to) noexcept {
    for (index_type j = 0; j < keys; j += n) {
      V x[std::size_t{n}];
      for (index_type e = 0; e < n; ++e) x[e] = V::load_aligned(sums + std::min(j + e, keys - 1) * n);
      isa<Arch>::transpose(x);
      for (index_type step = n / 2; step > 0; step /= 2)
        for (index_type e = 0; e < step; ++e) x[e] = x[e] + x[e + step];
      x[0].store_aligned(to + j);
    }
  }

  index_type heads_, depth_;
  E* q_;  // panels of heads, [depth][width]
  T *weights_, *sums_, *scores_;

 private:
  /// sums[j] (+)= sum_w weight_w ReLU(q_w . k_j): a NaN stays one, lanes beyond the heads are 0.
  template <int W>
  FOVEA_NOINLINE FOVEA_FLATTEN void add(index_type first, const rows_of<E>& k, index_type count,
                                        prefetch& lines) noexcept {
    using row_stride = std::integral_constant<index_type, W * lanes<Arch, T>>;
    const E* const q = q_ + first * depth_;
    if (first == 0) lines.deal(ceil_div(count, index_type(keys_of_tile<W>)));
    const auto beyond = counting_up<Arch, T>() >= V(static_cast<T>(heads_ - first - (W - 1) * n));
    in_tiles<keys_of_tile<W>>(count, [&](auto rows, index_type j) {
      lines.fetch();
      auto logits =
          outer_sum<Arch, rows(), W>(k.data + j * k.stride, k.stride, unit{}, q, row_stride{}, depth_);
      for (int r = 0; r < rows(); ++r) {
        V sum = first == 0 ? V(T(0)) : V::load_aligned(sums_ + (j + r) * n);
        FOVEA_UNROLL_ALL
        for (int w = 0; w < W; ++w) {
          const V s = logits.at[r][w];
          const auto dropped = w + 1 < W ? s < V(T(0)) : s < V(T(0)) || beyond;
          sum = isa<Arch>::fma(V::load_aligned(weights_ + first + w * n), xsimd::select(dropped, V(T(0)), s),
                               sum);
        }
        sum.store_aligned(sums_ + (j + r) * n);
      }
    });
  }
};

/// What is multiplied for the scores of keys that Pairs says are pairs of bf16.
template <class T, bool Pairs>
using index_element = std::conditional_t<Pairs, bf16_pair, T>;

/// The scores of one query, a block of keys at a time.
template <class Arch, class T, class Head, bool Pairs>
class index_scores : index_sums<Arch, T, index_element<T, Pairs>> {
  using base = index_sums<Arch, T, index_element<T, Pairs>>;
  static index_type depth_of(index_type dim) noexcept { return Pairs ? ceil_div(dim, index_type(2)) : dim; }

 public:
  using base::block;

  /// Bytes of memory, for heads of so many dimensions: it is aligned to workspace_alignment.
  static index_type bytes(index_type heads, index_type dim) noexcept {
    return base::bytes(heads, depth_of(dim)) + part_bytes(copy_bytes<T>(block, dim));
  }

  /// Row h of `queries` is head h's query, weights[h * stride] its weight.
  template <class QE, class WE>
  index_scores(const matrix_view<const QE>& queries, const WE* weights, index_type stride, const Head& keys,
               std::byte* memory) noexcept
      : base(queries.rows, depth_of(queries.cols)), dim_(queries.cols), keys_(&keys) {
    memory_parts parts(memory);
    this->take(parts, weights, stride);
    copy_ = parts.template take<T>(copy_bytes<T>(block, dim_));
    this->each_register([&](range heads, index_type column, index_type width, index_type first) {
      auto* const to = reinterpret_cast<T*>(this->q_ + first * this->depth_ + column);
      if constexpr (Pairs)
        pack_pairs<Arch>(queries, heads, to, width);
      else
        pack<Arch>(queries, heads, T(1), to, width);
    });
  }

  /// f(keys, scores) for the blocks of `span`.
  template <class F>
  void each_block(range span, F&& f) {
    const auto operand = operand_in_lanes<Arch, Pairs>(*keys_, dim_, copy_);
    for (range keys{span.first, 0}; keys.first < span.last; keys.first = keys.last) {
      keys.last = std::min(keys.first + block, span.last);
      const rows_of<T> k = operand.read(keys);
      prefetch lines;  // of the next keys (65,536 x 128 floats take 7 % less time with them)
      add_lines(*keys_, {keys.last, std::min(keys.last + block, span.last)}, lines);
      if constexpr (Pairs)
        this->score(as_pairs(k), keys.size(), lines);
      else
        this->score(k, keys.size(), lines);
      f(keys, static_cast<const T*>(this->scores_));
    }
  }

 private:
  index_type dim_;
  const Head* keys_;
  T* copy_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
