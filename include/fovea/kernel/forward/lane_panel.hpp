// fovea/kernel/forward/lane_panel.hpp - up to tile_vectors registers of queries, queries in lanes, and their
// logits against a block of keys.
//
// Q^T is packed once, [dim][lanes]; K and V are read as they lie, each element broadcast. All that belongs to
// a query stays in its lane: maxima, sums and exponents need no shuffle. The product with V is the same
// micro-kernel again.
#pragma once

#include <fovea/kernel/arch.hpp>
#include <fovea/kernel/rules/lane_rules.hpp>
#include <fovea/kernel/scratch.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Queries of one head, and what is kept of them from the first block of keys to the last: Q^T, the columns
/// of what is summed, and those of their state, all [column][width].
template <class Arch, class T>
struct query_panel {
  static constexpr index_type n = lanes<Arch, T>;
  range rows;
  T *q, *sums, *state;
  int width;  // elements of its registers
  bool opened = false;
  bool closed = false;  // whether results are written

  int registers() const noexcept { return width / static_cast<int>(n); }
  /// The queries of register w.
  range rows_of(int w) const noexcept {
    return {rows.first + w * n, std::min(rows.first + (w + 1) * n, rows.last)};
  }
  T* sum(index_type column, int w) const noexcept { return sums + column * width + w * n; }
  T* state_of(int column, int w) const noexcept { return state + column * width + w * n; }

  /// Bytes of what so many registers of queries keep.
  static index_type bytes(index_type registers, index_type dim, index_type sums, index_type states) noexcept {
    return bytes_of<T>(registers * n * (dim + sums + states));
  }
};

/// Logits of a panel's queries against keys of a block, then weights: [key][width].
template <class Arch, class T>
struct logit_block {
  using V = vec<Arch, T>;
  static constexpr index_type n = lanes<Arch, T>;
  static constexpr int most_registers = geometry<Arch>::tile_vectors;

  T* s;
  index_type width;
  range rows, keys;
  index_type seen[std::size_t{most_registers}];  // of the keys, how many a register's queries may see, all of
                                                 // those before it included: the last register's are all
  const rules_ref<Arch, T>* narrow = nullptr;    // null, or what knows how many some of them see, exactly
  coverage covered;                              // what the mask says of all these cells
  bool ruled;                                    // whether scores or masks act on them
  bool may_hide;                                 // whether some cell may be hidden
  bool finite;  // whether all that weights are multiplied by is: else no weight that is seen is 0
  V largest[std::size_t{most_registers}];  // logit of each query
  V shrink[std::size_t{most_registers}];   // the factor of what was summed so far

  int registers() const noexcept { return static_cast<int>(width / n); }
  bool empty() const noexcept { return covered == coverage::none; }
  /// Of the keys, how many queries `of_rows` of the panel may see. (By registers of them 77 causal queries
  /// took 5 % more time, 128 6 %, 197 2 %; Zen 5.)
  index_type seen_by(range of_rows) const noexcept {
    const index_type of_register = seen[std::min<index_type>((of_rows.last - 1) / n, most_registers - 1)];
    if (narrow == nullptr) return of_register;
    const range reach = narrow->reach({rows.first + of_rows.first, rows.first + of_rows.last}, keys.last);
    return std::clamp<index_type>(reach.last - keys.first, 0, of_register);
  }
  static index_type bytes(index_type keys, index_type registers) noexcept {
    return bytes_of<T>(keys * registers * n);
  }
  T* at(index_type key, int w) const noexcept { return s + key * width + w * n; }
};

/// The registers of a job's queries, dealt to panels of 1 to tile_vectors as evenly as can be; perhaps a few
/// queries before them in a register of their own. Walks whose states are merged cut alike.
template <class Arch, class T>
class query_panels {
  using shape = geometry<Arch>;
  using panel = query_panel<Arch, T>;
  static constexpr index_type n = lanes<Arch, T>;

 public:
  static constexpr int most_panels = shape::panels * 3 / 2 + 1;  // of a job

  /// The first `few_first` queries, at most a register of them, have a panel of their own. `in_turn`: Q^T and
  /// sums of one panel are done with before the next one's are written, so that all are kept at one place, in
  /// L1 (77 x 64: packing takes 3/4 of the time); states, which are not, lie behind.
  query_panels(range rows, T* memory, index_type dim, index_type sums, index_type states,
               index_type few_first = 0, bool in_turn = false) noexcept
      : count_(0) {
    T* state = memory;
    if (in_turn) state += std::min(round_up(rows.size(), n), shape::tile_vectors * n) * (dim + sums);
    const auto add = [&](index_type registers, index_type queries) {
      const index_type width = registers * n;
      T* const of_sums = memory + width * dim;
      panels_[count_++] = {{rows.first, std::min(rows.first + queries, rows.last)},
                           memory,
                           of_sums,
                           in_turn ? state : of_sums + width * sums,
                           static_cast<int>(width)};
      state += width * states;
      if (!in_turn) memory = after(memory, panel::bytes(registers, dim, sums, states));
      rows.first += queries;
    };
    if (few_first > 0) add(1, few_first);
    index_type left = ceil_div(rows.size(), n);
    for (index_type panels = ceil_div(left, index_type(shape::tile_vectors)); panels > 0; --panels) {
      const index_type registers = ceil_div(left, panels);
      add(registers, registers * n), left -= registers;
    }
  }
  query_panels(const query_panels&) = delete;

  query_panel<Arch, T>* begin() noexcept { return &panels_[0].panel; }
  query_panel<Arch, T>* end() noexcept { return begin() + count_; }

 private:
  union slot {  // of which count_ are written
    query_panel<Arch, T> panel;
    slot() noexcept {}
    void operator=(const query_panel<Arch, T>& x) noexcept { panel = x; }
  };
  slot panels_[std::size_t{most_panels}];
  int count_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
