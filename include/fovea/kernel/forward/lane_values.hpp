// fovea/kernel/forward/lane_values.hpp - P V as the mixer of a walk with queries in lanes, written as O / l.
#pragma once

#include <fovea/kernel/forward/lane_job.hpp>
#include <fovea/kernel/forward/lane_sigmoid.hpp>
#include <fovea/kernel/forward/lane_softmax.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// The logits of the sinks of a head, or of a group's heads, whose rows go by turns; none: no function.
template <class T>
struct sink_ref {
  const void* sink = nullptr;
  T (*logit_of)(const void*, index_type head) noexcept = nullptr;
  index_type first_head = 0, heads = 1;

  sink_ref() noexcept = default;
  template <class Sink>
  sink_ref(const Sink& of, index_type head, index_type group) noexcept
      : sink(&of), first_head(head), heads(group) {
    if constexpr (sink_like<Sink>)
      if (has_sink(of))
        logit_of = [](const void* x, index_type h) noexcept {
          return static_cast<T>(static_cast<const Sink*>(x)->logit(h));
        };
  }
  explicit operator bool() const noexcept { return logit_of != nullptr; }

  /// Of a register of rows.
  template <class Arch>
  vec<Arch, T> logits(range rows) const noexcept {
    alignas(64) T logit[std::size_t{lanes<Arch, T>}] = {};
    for (index_type i = 0; i < rows.size(); ++i)
      logit[i] = i > 0 && heads == 1 ? logit[0] : logit_of(sink, first_head + (rows.first + i) % heads);
    return vec<Arch, T>::load_aligned(logit);
  }
};

/// Where the LSE of such rows goes; no data: nowhere.
template <class T>
struct lse_rows {
  matrix_view<T> first_head = {};
  index_type heads = 1, head_stride = 0;
  T& operator()(index_type r) const noexcept {
    return heads == 1 ? first_head(r, 0) : *(first_head.at(r / heads) + r % heads * head_stride);
  }
};

/// Weight: what a step of P V takes of a query: a number, or a pair of weights, rounded to bf16 as V is.
/// State: what P is made by.
template <class Arch, class T, class Weight = T, class State = lane_softmax<Arch, T>>
class lane_values {
  using panel = query_panel<Arch, T>;
  using state = State;
  static constexpr index_type n = lanes<Arch, T>;

 public:
  /// `sink`: logits in natural units; `most`: up to so many keys are one block.
  lane_values(const block_ref<T>& values, index_type dim, const result_ref<Arch, T>& out,
              const lse_rows<T>& lse, const sink_ref<T>& sink, index_type most) noexcept
      : dim_(dim),
        out_(out),
        lse_(lse),
        sink_(sink),
        whole_(!sink && values.tokens <= most && out.side_by_side() && dim >= n) {}

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
    in_registers<Arch>(p.registers(),
                       [&](auto w) { add_values<Arch, w()>(p, v, dim_, queries.sums, lines); });
  }

  /// From here on close() leaves sums and state as they are at `left`, for merge(): a job's panels one after
  /// another.
  void leave(T* left, index_type first_row) noexcept { left_ = left, first_row_ = first_row, whole_ = false; }
  /// Takes in what a walk over other keys left.
  void merge(const panel& queries, const state& sums, const T* left, index_type first_row) const noexcept {
    sums.merge(queries, left + (queries.rows.first - first_row) * kept(), dim_);
  }

  void close(const panel& queries, const state& sums) const noexcept {
    if (left_ != nullptr) {
      std::copy_n(queries.sums, queries.width * kept(), left_ + (queries.rows.first - first_row_) * kept());
      return;
    }
    if (!queries.closed) {
      if (whole_) clear(queries);
      if constexpr (State::normalises)
        for (int w = 0; sink_ && w < queries.registers(); ++w)
          sums.absorb_sink(queries, w, sink_.template logits<Arch>(queries.rows_of(w)), dim_);
      write(queries, sums);
    }
    if constexpr (State::normalises)
      if (lse_.first_head.data != nullptr) write_lse(queries, sums);
  }

 private:
  static constexpr bool rounds = !std::is_same_v<Weight, T>;
  static rows_of<Weight> values_of(const key_blocks<Arch, T>& block, const logit_block<Arch, T>& p) noexcept {
    if constexpr (rounds)
      return as_pairs(block.values_of(p));
    else
      return block.values_of(p);
  }
  /// Numbers that a query keeps: its sums and, right behind them, its state (in panels that are not in turn,
  /// as none are that leave them).
  index_type kept() const noexcept { return dim_ + State::columns; }
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
      for (index_type i = 0; i < rows.size(); ++i) lse_(rows.first + i) = value[i];
    }
  }

  index_type dim_;
  const result_ref<Arch, T>& out_;
  lse_rows<T> lse_;
  sink_ref<T> sink_;
  bool whole_;
  T* left_ = nullptr;
  index_type first_row_ = 0;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
