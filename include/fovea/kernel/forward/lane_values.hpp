// fovea/kernel/forward/lane_values.hpp - P V as the mixer of a walk with queries in lanes, written as O / l.
#pragma once

#include <fovea/kernel/forward/lane_job.hpp>
#include <fovea/kernel/forward/lane_sigmoid.hpp>
#include <fovea/kernel/forward/lane_softmax.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Weight: what a step of P V takes of a query: a number, or a pair of weights, rounded to bf16 as V is.
/// State: what P is made by.
template <class Arch, class T, class Weight = T, class State = lane_softmax<Arch, T>>
class lane_values {
  using panel = query_panel<Arch, T>;
  using state = State;
  static constexpr index_type n = lanes<Arch, T>;

 public:
  /// `lse`: no data, or one column; `sink`: null, or a logit in natural units; `most`: up to so many keys are
  /// one block.
  lane_values(const block_ref<T>& values, index_type dim, const result_ref<Arch, T>& out,
              const matrix_view<T>& lse, const T* sink, index_type most) noexcept
      : dim_(dim),
        out_(out),
        lse_(lse),
        sink_(sink),
        whole_(sink == nullptr && values.tokens <= most && out.side_by_side() && dim >= n) {}

  index_type columns() const noexcept { return dim_; }
  /// Whether one block has all keys: its softmax is complete, and the result written at once.
  bool whole() const noexcept { return whole_; }

  void open(const panel& queries) const noexcept {
    if (!whole_) clear(queries);
  }

  /// O = O * shrink + P V
  FOVEA_NOINLINE void add(const logit_block<Arch, T>& p, panel& queries, const state& sums,
                          const key_blocks<Arch, T>& block) const noexcept {
    const rows_of<Weight> v = values_of(block, p);
    if constexpr (rounds) pair_weights(p);
    if (!p.finite) {
      if (whole_) clear(queries);
      add_seen_values(p, v, dim_, queries.sums);
      if (whole_) write(queries, sums), queries.closed = true;
      return;
    }
    prefetch lines = block.writes_beside(queries, out_.lines);
    if (whole_) return write_at_once(p, v, queries, sums, lines);
    lines.deal(ceil_div(dim_, index_type(geometry<Arch>::tile_rows)));
    in_registers<Arch>(p.registers(),
                       [&](auto w) { add_values<Arch, w()>(p, v, dim_, queries.sums, lines); });
  }

  void close(const panel& queries, const state& sums) const noexcept {
    if (!queries.closed) {
      if (whole_) clear(queries);
      if constexpr (State::normalises)
        for (int w = 0; sink_ != nullptr && w < queries.registers(); ++w)
          sums.absorb_sink(queries, w, *sink_, dim_);
      write(queries, sums);
    }
    if constexpr (State::normalises)
      if (lse_.data != nullptr) write_lse(queries, sums);
  }

 private:
  static constexpr bool rounds = !std::is_same_v<Weight, T>;
  static rows_of<Weight> values_of(const key_blocks<Arch, T>& block, const logit_block<Arch, T>& p) noexcept {
    if constexpr (rounds)
      return as_pairs(block.values_of(p));
    else
      return block.values_of(p);
  }
  FOVEA_NOINLINE void clear(const panel& queries) const noexcept {
    std::fill_n(queries.sums, queries.width * dim_, T(0));
  }
  void write(const panel& queries, const state& sums) const noexcept {
    for (int w = 0; w < queries.registers(); ++w)
      out_.write(queries.sum(0, w), queries.width, sums.reciprocal(queries, w), queries.rows_of(w));
  }
  void write_at_once(const logit_block<Arch, T>& p, const rows_of<Weight>& v, panel& queries,
                     const state& sums, prefetch& lines) const noexcept {
    alignas(64) T factor[std::size_t{logit_block<Arch, T>::most_registers * n}];
    for (int w = 0; w < p.registers(); ++w) sums.reciprocal(queries, w).store_aligned(factor + w * n);
    if (out_.in_place()) {
      write_values(p, v, dim_, factor, out_.row(p.rows.first), out_.stride(), lines);
    } else {
      write_values(p, v, dim_, factor, queries.sums, dim_, lines);
      out_.write_rows(queries.sums, p.rows);
    }
    queries.closed = true;
  }
  FOVEA_NOINLINE void write_lse(const panel& queries, const state& sums) const noexcept {
    alignas(64) T value[std::size_t{n}];
    for (int w = 0; w < queries.registers(); ++w) {
      sums.lse(queries, w).store_aligned(value);
      const range rows = queries.rows_of(w);
      for (index_type i = 0; i < rows.size(); ++i) lse_(rows.first + i, 0) = value[i];
    }
  }

  index_type dim_;
  const result_ref<Arch, T>& out_;
  matrix_view<T> lse_;
  const T* sink_;
  bool whole_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
