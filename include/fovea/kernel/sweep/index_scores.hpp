// fovea/kernel/sweep/index_scores.hpp - how much each key matters to a query, by a few small heads:
// sum_h w_h ReLU(q_h . k_j). The heads are in lanes, as queries are elsewhere.
#pragma once

#include <fovea/kernel/forward/lane_scorer.hpp>
#include <fovea/kernel/operand/references.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// The scores of one query, a block of keys at a time.
template <class Arch, class T, class Head, bool Pairs>
class index_scores {
  using V = vec<Arch, T>;
  static constexpr index_type n = lanes<Arch, T>;
  static constexpr index_type block = geometry<Arch>::key_block;
  static_assert(block % n == 0);

 public:
  /// Bytes of memory, for heads of so many dimensions: it is aligned to workspace_alignment.
  static index_type bytes(index_type heads, index_type dim) noexcept {
    const index_type width = round_up(heads, n);
    return part_bytes(query_panel<Arch, T>::bytes(width / n, dim, 0, 0)) + part_bytes(bytes_of<T>(width)) +
           part_bytes(logit_block<Arch, T>::bytes(block, geometry<Arch>::tile_vectors)) +
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
    q_ = parts.take<T>(query_panel<Arch, T>::bytes(width / n, dim_, 0, 0));
    weights_ = parts.take<T>(bytes_of<T>(width));
    logits_ = parts.take<T>(logit_block<Arch, T>::bytes(block, geometry<Arch>::tile_vectors));
    T* const copy = parts.take<T>(copy_bytes<T>(block, dim_));
    sums_ = parts.take<T>(bytes_of<T>(block * n));
    scores_ = parts.take<T>(bytes_of<T>(block));
    keys_ = &keys, copy_ = copy;
    for (index_type h = 0; h < width; ++h)
      weights_[h] = h < heads_ ? load_element<T>(weights[h * stride]) : T(0);
    for (const auto& panel : query_panels<Arch, T>({0, heads_}, q_, dim_, 0, 0))
      for (int w = 0; w < panel.registers(); ++w)
        if constexpr (Pairs)
          pack_pairs<Arch>(queries, panel.rows_of(w), panel.q + w * n, panel.width);
        else
          pack<Arch>(queries, panel.rows_of(w), T(1), panel.q + w * n, panel.width);
  }

  /// f(keys, scores) for the blocks of `span`, whose first is a multiple of the block.
  template <class F>
  void each_block(range span, F&& f) noexcept {
    const auto operand = operand_in_lanes<Arch, Pairs>(*keys_, dim_, copy_);
    query_panels<Arch, T> panels({0, heads_}, q_, dim_, 0, 0);
    for (range keys{span.first, 0}; keys.first < span.last; keys.first = keys.last) {
      keys.last = std::min(keys.first + block, span.last);
      const rows_of<T> k = operand.read(keys);
      bool first = true;
      for (const auto& panel : panels) {
        dot(panel, k, keys);
        in_registers<Arch>(panel.registers(), [&](auto w) {
          first ? add<w(), true>(panel, keys.size()) : add<w(), false>(panel, keys.size());
        });
        first = false;
      }
      sum_lanes(keys.size());
      f(keys, static_cast<const T*>(scores_));
    }
  }

 private:
  void dot(const query_panel<Arch, T>& panel, const rows_of<T>& k, range keys) noexcept {
    logit_block<Arch, T> s;
    s.s = logits_, s.width = panel.width, s.rows = panel.rows, s.keys = keys;
    for (index_type& seen : s.seen) seen = keys.size();
    prefetch nothing;
    in_registers<Arch>(panel.registers(), [&](auto w) {
      if constexpr (Pairs)
        dot_seen_keys<Arch, w()>(reinterpret_cast<const bf16_pair*>(panel.q), ceil_div(dim_, index_type(2)),
                                 as_pairs(k), T(1), s, false, nothing);
      else
        dot_seen_keys<Arch, w()>(panel.q, dim_, k, T(1), s, false, nothing);
    });
  }

  /// sums[j] (+)= sum_w weight_w ReLU(s_jw): a NaN stays one, lanes beyond the heads are 0.
  template <int W, bool First>
  FOVEA_NOINLINE void add(const query_panel<Arch, T>& panel, index_type keys) noexcept {
    V weight[std::size_t{W}], count[std::size_t{W}];
    for (int w = 0; w < W; ++w) {
      weight[w] = V::load_aligned(weights_ + panel.rows.first + w * n);
      count[w] = V(static_cast<T>(panel.rows_of(w).size()));
    }
    const V lane = counting_up<Arch, T>(), zero(T(0));
    for (index_type j = 0; j < keys; ++j) {
      V sum = First ? zero : V::load_aligned(sums_ + j * n);
      for (int w = 0; w < W; ++w) {
        const V s = V::load_aligned(logits_ + (j * W + w) * n);
        sum = isa<Arch>::fma(weight[w], xsimd::select(s < zero || !(lane < count[w]), zero, s), sum);
      }
      sum.store_aligned(sums_ + j * n);
    }
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
  T *q_, *weights_, *logits_, *copy_, *sums_, *scores_;
  const Head* keys_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
