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

/// The scores of one query, a block of keys at a time.
template <class Arch, class T, class Head, bool Pairs>
class index_scores {
  using V = vec<Arch, T>;
  using shape = geometry<Arch>;
  using E = std::conditional_t<Pairs, bf16_pair, T>;
  static constexpr index_type n = lanes<Arch, T>;
  static constexpr int most = std::max(shape::tile_vectors, shape::tile_columns);  // registers of a panel

  /// Keys of a tile beside W registers of heads.
  template <int W>
  static constexpr int keys_of_tile = std::min(shape::tile_rows * shape::tile_vectors / W, 8);

 public:
  static constexpr index_type block = 96;  // whole tiles of any width, whole registers
  static_assert(block % n == 0);

  /// Bytes of memory, for heads of so many dimensions: it is aligned to workspace_alignment.
  static index_type bytes(index_type heads, index_type dim) noexcept {
    const index_type width = round_up(heads, n);
    return part_bytes(bytes_of<T>(width * dim)) + part_bytes(bytes_of<T>(width)) +
           part_bytes(copy_bytes<T>(block, dim)) + part_bytes(bytes_of<T>(block * n)) +
           part_bytes(bytes_of<T>(block));
  }

  /// Row h of `queries` is head h's query, weights[h * stride] its weight.
  template <class QE, class WE>
  index_scores(const matrix_view<const QE>& queries, const WE* weights, index_type stride, const Head& keys,
               std::byte* memory) noexcept
      : heads_(queries.rows), dim_(queries.cols) {
    memory_parts parts(memory);
    const index_type width = round_up(heads_, n);
    q_ = parts.take<T>(bytes_of<T>(width * dim_));
    weights_ = parts.take<T>(bytes_of<T>(width));
    T* const copy = parts.take<T>(copy_bytes<T>(block, dim_));
    sums_ = parts.take<T>(bytes_of<T>(block * n));
    scores_ = parts.take<T>(bytes_of<T>(block));
    keys_ = &keys, copy_ = copy;
    for (index_type h = 0; h < width; ++h)
      weights_[h] = h < heads_ ? load_element<T>(weights[h * stride]) : T(0);
    each_panel([&](index_type first, int registers) {
      const index_type step = registers * n;
      for (index_type h = first; h < first + step; h += n) {
        const range lane{h, std::min(h + n, heads_)};
        if constexpr (Pairs)
          pack_pairs<Arch>(queries, lane, q_ + first * dim_ + h - first, step);
        else
          pack<Arch>(queries, lane, T(1), q_ + first * dim_ + h - first, step);
      }
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
      each_panel([&](index_type first, int registers) {
        unroll<most>([&](auto before) {
          constexpr int w = before() + 1;
          if (registers == w) add<w>(first, k, keys.size(), lines);
        });
      });
      sum_lanes(keys.size());
      f(keys, static_cast<const T*>(scores_));
    }
  }

 private:
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

  /// sums[j] (+)= sum_w weight_w ReLU(q_w . k_j): a NaN stays one, lanes beyond the heads are 0.
  template <int W>
  FOVEA_NOINLINE FOVEA_FLATTEN void add(index_type first, const rows_of<T>& keys, index_type count,
                                        prefetch& lines) noexcept {
    using row_stride = std::integral_constant<index_type, W * lanes<Arch, T>>;
    const E* const q = reinterpret_cast<const E*>(q_ + first * dim_);
    const auto k = [&] {
      if constexpr (Pairs)
        return as_pairs(keys);
      else
        return keys;
    }();
    if (first == 0) lines.deal(ceil_div(count, index_type(keys_of_tile<W>)));
    const index_type depth = Pairs ? ceil_div(dim_, index_type(2)) : dim_;
    const auto beyond = counting_up<Arch, T>() >= V(static_cast<T>(heads_ - first - (W - 1) * n));
    in_tiles<keys_of_tile<W>>(count, [&](auto rows, index_type j) {
      lines.fetch();
      auto logits =
          outer_sum<Arch, rows(), W>(k.data + j * k.stride, k.stride, unit{}, q, row_stride{}, depth);
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

  void sum_lanes(index_type keys) noexcept {
    for (index_type j = 0; j < keys; j += n) {
      V x[std::size_t{n}];
      for (index_type e = 0; e < n; ++e) x[e] = V::load_aligned(sums_ + std::min(j + e, keys - 1) * n);
      isa<Arch>::transpose(x);
      for (index_type step = n / 2; step > 0; step /= 2)
        for (index_type e = 0; e < step; ++e) x[e] = x[e] + x[e + step];
      x[0].store_aligned(scores_ + j);
    }
  }

  index_type heads_, dim_;
  T *q_, *weights_, *copy_, *sums_, *scores_;
  const Head* keys_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
