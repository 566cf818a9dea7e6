// fovea/kernel/sweep/row_folds.hpp - states and mixers of one's own (roles/concept.hpp) in the walk of few
// rows, keys in lanes: each lane folds its own keys, and in the end lanes are merged.
#pragma once

#include <fovea/kernel/forward/attend_rows.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// The positions of the keys from `first` on as numbers.
template <class Arch, class T>
vec<Arch, T> numbers_of_keys(index_type first) noexcept {
  return vec<Arch, T>(static_cast<T>(first)) + counting_up<Arch, T>();
}

/// A user's state.
template <class Arch, class T, class State>
struct row_fold {
  using V = vec<Arch, T>;
  using panel = row_panel<Arch, T>;
  static constexpr int columns = State::columns;
  static constexpr row_registers registers{0, columns};
  const State& state;
  place first;  // where the group's first head stands

  decltype(auto) bound_to(index_type head) const noexcept {
    place at = first;
    at.head += head;
    return bind_state(state, at);
  }
  void open(const panel& rows) const noexcept {
    V stored[std::size_t{columns}];
    for (index_type r = 0; r < rows.count(); ++r) {
      bound_to(rows.head(r)).clear(stored);
      for (int c = 0; c < columns; ++c) stored[c].store_aligned(rows.state_of(r, c));
    }
  }
  FOVEA_NOINLINE FOVEA_FLATTEN void absorb(const panel& s,
                                           const row_key_blocks<Arch, T>& block) const noexcept {
    for (index_type r = 0; r < s.count(); ++r) {
      const auto& bound = bound_to(s.head(r));
      V stored[std::size_t{columns}];
      for (int c = 0; c < columns; ++c) stored[c] = V::load_aligned(s.state_of(r, c));
      for (index_type j = 0; j < block.keys.size(); j += panel::n) {  // lanes beyond the last key: -inf
        const V logit = V::load_aligned(s.logits(r) + j);
        const range keys{block.keys.first + j, block.keys.last};
        if constexpr (reads_cells_state<decltype(bound)>)
          bound.absorb(
              stored, logit,
              cells<Arch, T, in_lanes::keys>{s.query(r), keys.first, std::min(keys.size(), panel::n)});
        else
          bound.absorb(stored, logit, numbers_of_keys<Arch, T>(keys.first));
      }
      for (int c = 0; c < columns; ++c) stored[c].store_aligned(s.state_of(r, c));
    }
  }
  /// Row r's columns: its lanes, merged in their order.
  void merge_lanes(const panel& rows, index_type r, T* stored) const noexcept {
    const auto& bound = bound_to(rows.head(r));
    T lane[std::size_t{columns}];
    for (int c = 0; c < columns; ++c) stored[c] = rows.state_of(r, c)[0];
    for (index_type i = 1; i < panel::n; ++i) {
      for (int c = 0; c < columns; ++c) lane[c] = rows.state_of(r, c)[i];
      bound.merge(stored, lane);
    }
  }
};

/// No weights are summed.
struct no_row_mixer {
  void open(const auto&) const noexcept {}
  void add(const auto&, auto&) const noexcept {}
};

/// A user's mixer of softmax weights: a register a column.
template <class Arch, class T, class Mixer>
struct row_mixer {
  using V = vec<Arch, T>;
  using panel = row_panel<Arch, T>;
  static constexpr row_registers registers{Mixer::columns, row_softmax<Arch, T>::registers};
  const Mixer& mixer;

  void open(const panel& rows) const noexcept { row_values<Arch, T>().open(rows); }
  FOVEA_NOINLINE FOVEA_FLATTEN void add(const row_panels<Arch, T>& panels,
                                        const row_key_blocks<Arch, T>& block) const noexcept {
    for (const panel& p : panels)
      for (index_type r = 0; r < p.count(); ++r)
        for (int c = 0; c < Mixer::columns; ++c) {
          V sum = V::load_aligned(p.sum(r, c)) * V::load_aligned(p.factor(r));
          for (index_type j = 0; j < block.keys.size(); j += panel::n)
            sum = mixer.add(sum, V::load_aligned(p.logits(r) + j),
                            numbers_of_keys<Arch, T>(block.keys.first + j), c);
          sum.store_aligned(p.sum(r, c));
        }
  }
};

/// walk_rows over all keys for rows of a key/value head, with a state and a mixer that keep `registers`;
/// close(panel, row, matrix of the row's head) for each row.
template <class Arch, class Problem, class State, class Mixer, class Close, class T>
void fold_row_block(const Problem& p, const row_block& at, const scratch<T>& memory, T scale,
                    row_registers registers, const State& state, const Mixer& mixer, const sequences<T>& to,
                    const Close& close) noexcept {
  row_group<Arch, Problem> group(p, at, memory.keys);
  const row_memory<T> rows{memory.panels,
                           after(memory.panels, row_panel<Arch, T>::state_bytes(at.rows.size(), registers))};
  const row_panels<Arch, T> panels(at, rows, p.dim(), registers);
  row_job<Arch, T> job = group.job({0, p.k.tokens(at.batch)}, scale, rows);
  job.drops = p.drops_weights() && registers.sums > 0;
  walk_rows(job, panels, state, mixer);
  for (const auto& q : panels)
    for (index_type r = 0; r < q.count(); ++r) {
      const index_type head = group.of_first_head.head + q.head(r);
      close(q, r, head, to.head(at.batch, head).at(q.query(r)), to.all.dim_stride);
    }
}

/// Folds the logits of some rows of a key/value head; a row of `to` is what the state stored of it.
template <class Arch, class Problem, class State, class T = typename Problem::compute>
void fold_rows(const Problem& p, const row_block& at, const scratch<T>& memory, const State& state,
               const sequences<T>& to) noexcept {
  const row_fold<Arch, T, State> of{state, p.at(at.batch, at.kv_head * p.group())};
  fold_row_block<Arch>(p, at, memory, p.scale, of.registers, of, no_row_mixer(), to,
                       [&](const auto& rows, index_type r, index_type, T* row, index_type stride) {
                         T stored[std::size_t{State::columns}];
                         of.merge_lanes(rows, r, stored);
                         for (int c = 0; c < State::columns; ++c) row[c * stride] = stored[c];
                       });
}

/// Mixes the weights of some rows of a key/value head into `to`.
template <class Arch, class Problem, class Mixer, class T = typename Problem::compute>
void mix_rows(const Problem& p, const row_block& at, const scratch<T>& memory, const Mixer& mixer,
              const sequences<T>& to) noexcept {
  using V = vec<Arch, T>;
  const row_softmax<Arch, T> state{Problem::units == unit_of::natural};
  const row_mixer<Arch, T, Mixer> of{mixer};
  fold_row_block<Arch>(
      p, at, memory, p.factor(), of.registers, state, of, to,
      [&](const auto& rows, index_type r, [[maybe_unused]] index_type head, T* row, index_type stride) {
        if constexpr (sink_like<decltype(p.sink)>)
          if (has_sink(p.sink)) state.absorb_sink(rows, r, static_cast<T>(p.sink.logit(head)));
        const V factor = state.reciprocal(rows, r);
        for (int c = 0; c < Mixer::columns; ++c)
          row[c * stride] = (sum_over_lanes<Arch, T>(V::load_aligned(rows.sum(r, c))) * factor).get(0);
      });
}

}  // namespace kernel
FOVEA_NAMESPACE_END
