// fovea/kernel/sweep/lane_folds.hpp - states and mixers of one's own (roles/concept.hpp) in the walk with
// queries in lanes.
#pragma once

#include <fovea/kernel/sweep/logit_sweep.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// The position of a key as a number in each lane.
template <class Arch, class T>
vec<Arch, T> number_of_key(index_type key) noexcept {
  return vec<Arch, T>(static_cast<T>(key));
}

/// A user's state. Its registers are kept [column][width], as those of the softmax are.
template <class Arch, class T, class State>
struct lane_state {
  using V = vec<Arch, T>;
  using panel = query_panel<Arch, T>;
  static constexpr int columns = State::columns;
  const State& state;

  void open(const panel& queries) const noexcept {
    V stored[std::size_t{columns}];
    state.clear(stored);
    for (int w = 0; w < queries.registers(); ++w)
      for (int c = 0; c < columns; ++c) stored[c].store_aligned(queries.state_of(c, w));
  }
  FOVEA_NOINLINE FOVEA_FLATTEN void absorb(const logit_block<Arch, T>& s, const panel& queries,
                                           const auto&) const noexcept {
    for (int w = 0; w < queries.registers(); ++w) {
      V stored[std::size_t{columns}];
      for (int c = 0; c < columns; ++c) stored[c] = V::load_aligned(queries.state_of(c, w));
      const range rows = queries.rows_of(w);
      for (index_type j = 0; j < s.keys.size(); ++j)
        if constexpr (reads_cells_state<State>)
          state.absorb(stored, V::load_aligned(s.at(j, w)),
                       cells<Arch, T, in_lanes::queries>{rows.first, s.keys.first + j, rows.size()});
        else
          state.absorb(stored, V::load_aligned(s.at(j, w)), number_of_key<Arch, T>(s.keys.first + j));
      for (int c = 0; c < columns; ++c) stored[c].store_aligned(queries.state_of(c, w));
    }
  }
};

/// Writes what a state stored: row i of `to`.
template <class Arch, class T>
struct stored_columns {
  matrix_view<T> to;
  index_type columns() const noexcept { return 0; }
  bool whole() const noexcept { return false; }
  void open(const auto&) const noexcept {}
  void add(const auto&, auto&, const auto&, const auto&) const noexcept {}
  void close(const query_panel<Arch, T>& queries, const auto&) const noexcept {
    for (index_type i = 0; i < queries.rows.size(); ++i)
      for (index_type c = 0; c < to.cols; ++c)
        to(queries.rows.first + i, c) = queries.state[c * queries.width + i];
  }
};

/// A user's mixer of softmax weights. `sink`: null, or a logit in natural units.
template <class Arch, class T, class Mixer>
struct lane_mixer {
  using V = vec<Arch, T>;
  using panel = query_panel<Arch, T>;
  const Mixer& mixer;
  matrix_view<T> to;
  const T* sink;

  index_type columns() const noexcept { return Mixer::columns; }
  bool whole() const noexcept { return false; }
  void open(const panel& queries) const noexcept {
    std::fill_n(queries.sums, queries.width * Mixer::columns, T(0));
  }
  FOVEA_NOINLINE FOVEA_FLATTEN void add(const logit_block<Arch, T>& p, const panel& queries, const auto&,
                                        const auto&) const noexcept {
    for (int w = 0; w < queries.registers(); ++w)
      for (int c = 0; c < Mixer::columns; ++c) {
        V sum = V::load_aligned(queries.sum(c, w)) * p.shrink[w];
        for (index_type j = 0; j < p.keys.size(); ++j)
          sum = mixer.add(sum, V::load_aligned(p.at(j, w)), number_of_key<Arch, T>(p.keys.first + j), c);
        sum.store_aligned(queries.sum(c, w));
      }
  }
  void close(const panel& queries, const lane_softmax<Arch, T>& weights) const noexcept {
    for (int w = 0; w < queries.registers(); ++w) {
      if (sink != nullptr) weights.absorb_sink(queries, w, vec<Arch, T>(*sink), Mixer::columns);
      const V factor = weights.reciprocal(queries, w);
      for (int c = 0; c < Mixer::columns; ++c)
        (V::load_aligned(queries.sum(c, w)) * factor).store_aligned(queries.sum(c, w));
    }
    for (index_type i = 0; i < queries.rows.size(); ++i)
      for (int c = 0; c < Mixer::columns; ++c)
        to(queries.rows.first + i, c) = queries.sums[c * queries.width + i];
  }
};

/// Folds the logits of some rows of a query head; row i of `to` is what the state stored of them.
template <class Arch, class Problem, class State, class T = typename Problem::compute>
void fold_queries(const Problem& p, index_type b, index_type h, range rows, const scratch<T>& memory,
                  const State& state, const matrix_view<T>& to) noexcept {
  const lane_head<Arch, Problem> head(p, b, h, memory);
  const lane_job<Arch, T> job = head.job(rows, p.scale);
  const auto& bound = bind_state(state, p.at(b, h));
  walk_lanes(job, lane_state<Arch, T, std::remove_cvref_t<decltype(bound)>>{bound},
             stored_columns<Arch, T>{to});
}

/// Mixes the weights of some rows of a query head into `to`.
template <class Arch, class Problem, class Mixer, class T = typename Problem::compute>
void mix_queries(const Problem& p, index_type b, index_type h, range rows, const scratch<T>& memory,
                 const Mixer& mixer, const matrix_view<T>& to) noexcept {
  const lane_head<Arch, Problem> head(p, b, h, memory);
  lane_job<Arch, T> job = head.job(rows, p.factor());
  job.drops = p.drops_weights();
  T sink = 0;
  if constexpr (sink_like<decltype(p.sink)>) sink = static_cast<T>(p.sink.logit(h));
  walk_lanes(job, lane_softmax<Arch, T>{Problem::units == unit_of::natural},
             lane_mixer<Arch, T, Mixer>{mixer, to, has_sink(p.sink) ? &sink : nullptr});
}

}  // namespace kernel
FOVEA_NAMESPACE_END
