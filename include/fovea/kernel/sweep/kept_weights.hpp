// fovea/kernel/sweep/kept_weights.hpp - the weights of chosen query heads, written while O is made: logits go
// where the weights belong as they are made, and become weights there once their row's maximum and sum are
// known, O's own, sink included. (exp(s - running maximum), written at once and scaled in the end, takes 1 to
// 2 % less of a call with one head of eight, but keeps a maximum a row and block, and rounds once more. What
// is written is asked for a block ahead: 9 % more time than without weights, 1500 x 1500 x 64; 20 % unasked.)
#pragma once

#include <fovea/kernel/forward/attend_lanes.hpp>
#include <fovea/kernel/forward/attend_rows.hpp>
#include <fovea/kernel/sweep/score_matrix.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

template <class T>
matrix_view<T> columns_of(const matrix_view<T>& m, range columns) noexcept {
  return {m.at(0, columns.first), m.rows, columns.size(), m.row_stride, m.col_stride};
}

/// exp(s - m) * factor, 0 where hidden, whatever the factor is.
template <class Arch, class T, unit_of Units>
vec<Arch, T> weight_of(const softmax_state<Arch, T, Units>& row, const vec<Arch, T>& s,
                       const vec<Arch, T>& factor) noexcept {
  using V = vec<Arch, T>;
  return xsimd::select(s == V(hidden<T>), V(T(0)), row.template probability<false>(s) * factor);
}

/// Logits of a row become weights.
template <class Arch, unit_of Units, class T>
FOVEA_NOINLINE void weigh_row(T* row, index_type stride, index_type keys, T m, T factor) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  const softmax_state<Arch, T, Units> state{{V(m), V(T(0))}};
  const auto weight = [&](const V& s) { return weight_of(state, s, V(factor)); };
  index_type j = 0;
  if (stride == 1)
    for (; j + n <= keys; j += n) weight(V::load_unaligned(row + j)).store_unaligned(row + j);
  for (; j < keys; j += n) {
    alignas(64) T part[std::size_t{n}] = {};
    const index_type count = std::min(n, keys - j);
    load_elements(row + j * stride, stride, count, part);
    weight(V::load_aligned(part)).store_aligned(part);
    store_elements(part, count, row + j * stride, stride);
  }
}

/// The same of a register of rows that lie side by side.
template <class Arch, unit_of Units, class T>
FOVEA_NOINLINE void weigh_register(const matrix_view<T>& to, index_type first_row, const vec<Arch, T>& m,
                                   const vec<Arch, T>& factor) noexcept {
  using V = vec<Arch, T>;
  const softmax_state<Arch, T, Units> state{{m, V(T(0))}};
  for (index_type j = 0; j < to.cols; ++j) {
    T* const at = to.at(first_row, j);
    weight_of(state, V(V::load_unaligned(at)), factor).store_unaligned(at);
  }
}

/// Queries in lanes: a softmax that leaves its logits in `to`, one head's matrix; no data: nowhere.
template <class Arch, class T>
class lane_softmax_kept : public lane_softmax<Arch, T> {
  using softmax = lane_softmax<Arch, T>;
  using panel = query_panel<Arch, T>;

 public:
  lane_softmax_kept(const softmax& state, const lane_job<Arch, T>& job, const matrix_view<T>& to) noexcept
      : softmax(state), job_(job), to_(to) {}
  const matrix_view<T>& to() const noexcept { return to_; }
  /// The keys of a panel's logits so far: from the first block that it sees to the last.
  range& made_of(const panel& queries) const noexcept {
    return made_[ceil_div(queries.rows.first - job_.rows.first, panel::n)];
  }

  void open(const panel& queries) const noexcept {
    softmax::open(queries);
    made_of(queries) = {0, 0};
    if (to_.data != nullptr)
      ask_for(queries.rows, job_.rules.reach(queries.rows, job_.span.last).first, geometry<Arch>::key_block);
  }
  void absorb(logit_block<Arch, T>& s, const panel& queries, auto& block) const noexcept {
    if (to_.data != nullptr) keep(s, made_of(queries));
    softmax::absorb(s, queries, block);
  }

 private:
  void keep(const logit_block<Arch, T>& s, range& made) const noexcept {
    if (made.empty()) made = {s.keys.first, s.keys.first};
    fill_rows(columns_of(to_, {made.last, s.keys.first}), s.rows, hidden<T>);  // blocks that are not seen
    emit_block<Arch, T>(s, to_, nullptr);
    made.last = s.keys.last;
    ask_for(s.rows, made.last, s.keys.size());
  }
  /// Where the next block's logits go, asked for while this one's values are summed.
  void ask_for(range rows, index_type first, index_type keys) const noexcept {
    prefetch lines;
    lines.add(line_use::read_l2, to_, rows, intersect({first, first + keys}, {0, to_.cols}));
    lines.deal(1), lines.fetch();
  }

  const lane_job<Arch, T>& job_;
  matrix_view<T> to_;
  mutable range made_[std::size_t{query_panels<Arch, T>::most_panels * logit_block<Arch, T>::most_registers}];
};

/// And P V beside it, which closes the weights as well.
template <class Arch, class T, class Weight>
struct lane_values_kept {
  using panel = query_panel<Arch, T>;
  const lane_values<Arch, T, Weight>& values;

  index_type columns() const noexcept { return values.columns(); }
  bool whole() const noexcept { return values.whole(); }
  void open(const panel& queries) const noexcept { values.open(queries); }
  void add(const logit_block<Arch, T>& p, panel& queries, const lane_softmax_kept<Arch, T>& state,
           const key_blocks<Arch, T>& block) const noexcept {
    values.add(p, queries, state, block);
  }
  void close(const panel& queries, const lane_softmax_kept<Arch, T>& state) const noexcept {
    values.close(queries, state);
    if (state.to().data == nullptr) return;
    state.natural ? close_in<unit_of::natural>(queries, state) : close_in<unit_of::log2>(queries, state);
  }

 private:
  template <unit_of Units>
  void close_in(const panel& queries, const lane_softmax_kept<Arch, T>& state) const noexcept {
    using V = vec<Arch, T>;
    const range keys = state.made_of(queries);
    const matrix_view<T>& all = state.to();
    const matrix_view<T> made = columns_of(all, keys);
    for (int w = 0; w < queries.registers(); ++w) {
      const range rows = queries.rows_of(w);
      const V m = V::load_aligned(queries.state_of(0, w)), factor = state.reciprocal(queries, w);
      if (made.row_stride == 1 && rows.size() == panel::n) {
        weigh_register<Arch, Units>(made, rows.first, m, factor);
        continue;
      }
      alignas(64) T factors[std::size_t{panel::n}];
      factor.store_aligned(factors);
      for (index_type i = 0; i < rows.size(); ++i)
        weigh_row<Arch, Units>(made.at(rows.first + i), made.col_stride, made.cols, queries.state_of(0, w)[i],
                               factors[i]);
    }
    fill_rows(columns_of(all, {0, keys.first}), queries.rows, T(0));
    fill_rows(columns_of(all, {keys.last, all.cols}), queries.rows, T(0));
  }
};

/// Dim in lanes: a softmax that leaves the logits of a job's span of keys at rows[r], row r being the job's.
template <class Arch, class T>
struct row_softmax_kept : row_softmax<Arch, T> {
  using softmax = row_softmax<Arch, T>;
  using panel = row_panel<Arch, T>;
  const row_job<Arch, T>& job;
  index_type stride;                                                         // from one key to the next
  T* rows[std::size_t{row_panels<Arch, T>::most_panels * panel::max_rows}];  // null: nowhere

  T* row_of(const panel& s, index_type r) const noexcept {
    return rows[s.rows.first + r - job.at.rows.first];
  }
  void open(const panel& s) const noexcept {
    softmax::open(s);
    if (job.rules.cover(job.at.queries, job.span) == coverage::full) return;
    for (index_type r = 0; r < s.count(); ++r)
      if (T* const row = row_of(s, r))
        for (index_type j = job.span.first; j < job.span.last; ++j) row[j * stride] = hidden<T>;
  }
  void absorb(const panel& s, row_key_blocks<Arch, T>& block) const noexcept {
    for (index_type r = 0; r < s.count(); ++r)
      if (T* const row = row_of(s, r))
        store_elements(s.logits(r), block.keys.size(), row + block.keys.first * stride, stride);
    softmax::absorb(s, block);
  }
};

/// The weights of the query heads `heads`, to `to`: n-th head, row, key.
template <class T>
class kept_weights {
 public:
  static constexpr bool kept = true;
  kept_weights(const sequences<T>& to, const list_view<index_type>& heads) noexcept
      : to_(to), heads_(heads) {}

  template <class Arch>
  auto state(const lane_softmax<Arch, T>& softmax, const lane_job<Arch, T>& job, index_type batch,
             index_type head) const noexcept {
    return lane_softmax_kept<Arch, T>(softmax, job, of(batch, head));
  }
  template <class Arch, class Weight>
  auto mixer(const lane_values<Arch, T, Weight>& values) const noexcept {
    return lane_values_kept<Arch, T, Weight>{values};
  }

  template <class Arch>
  auto state(const row_softmax<Arch, T>& softmax, const row_job<Arch, T>& job, index_type batch,
             index_type first_head) const noexcept {
    row_softmax_kept<Arch, T> state{softmax, job, to_.all.dim_stride, {}};
    const row_block& at = job.at;
    for (index_type r = at.rows.first; r < at.rows.last; ++r) {
      const matrix_view<T> head = of(batch, first_head + r / at.queries.size());
      if (head.data != nullptr)
        state.rows[r - at.rows.first] = head.at(at.queries.first + r % at.queries.size());
    }
    return state;
  }
  /// After the last key of a panel's rows.
  template <class Arch, class Problem>
  void close(const row_panel<Arch, T>& rows, const row_softmax<Arch, T>& state, const Problem& p,
             index_type batch, index_type first_head) const noexcept {
    const index_type keys = p.k.tokens(batch);
    for (index_type r = 0; r < rows.count(); ++r) {
      const matrix_view<T> to = of(batch, first_head + rows.head(r));
      if (to.data == nullptr) continue;
      T* const row = to.at(rows.query(r));
      const T m = rows.state_of(r, 0)[0], factor = state.reciprocal(rows, r).get(0);
      state.natural ? weigh_row<Arch, unit_of::natural>(row, to.col_stride, keys, m, factor)
                    : weigh_row<Arch, unit_of::log2>(row, to.col_stride, keys, m, factor);
      for (index_type j = keys; j < to.cols; ++j) row[j * to.col_stride] = T(0);
    }
  }

 private:
  matrix_view<T> of(index_type batch, index_type head) const noexcept {
    for (index_type i = 0; i < heads_.size(); ++i)
      if (heads_[i] == head) return to_.head(batch, i);
    return {};
  }

  const sequences<T>& to_;
  const list_view<index_type>& heads_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
