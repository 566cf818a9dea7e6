// fovea/kernel/forward/row_panel.hpp - a few query rows that share a key/value head, dim in lanes: the
// form for short inputs and for decoding, where reading K and V is most of the work.
//
// All heads of a group are rows of one panel: each key and value is read once for all of them. Scores are
// inner products (reduced by a tree of shuffles), the softmax has keys in lanes, the product with V columns.
// Rows of K and V are read in place, whatever their width: the last register overlaps the one before.
#pragma once

#include <fovea/kernel/arch.hpp>
#include <fovea/kernel/operand/prefetch.hpp>
#include <fovea/kernel/scratch.hpp>
#include <fovea/kernel/tile/tile.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Rows of the query heads of one key/value head of one sequence. Row r is query
/// queries.first + r % |queries| of head r / |queries| of the group.
struct row_block {
  index_type batch, kv_head;
  range queries, rows;
};

/// Where the rows' states are left, and what is worked in; where the logits of all rows of the key/value head
/// are left, if they are wanted.
template <class T>
struct row_memory {
  T *state, *work, *logits = nullptr;
};

/// What one of these rows takes there for `keys` keys: whole lines of cache.
template <class T>
index_type logits_a_row(index_type keys) noexcept {
  return round_up(keys, 64 / static_cast<index_type>(sizeof(T)));
}
template <class T>
index_type kept_logits_bytes(index_type rows, index_type keys) noexcept {
  return bytes_of<T>(rows * logits_a_row<T>(keys));
}

/// What a row keeps from the first block of keys to the last, in registers: its sums, and its state.
struct row_registers {
  index_type sums, state;
};

/// How wide rows of K and V are read: at least one register.
template <class Arch, class T>
index_type read_width(index_type dim) noexcept {
  return dim == 0 ? 0 : std::max<index_type>(dim, lanes<Arch, T>);
}
/// Registers of a row of so many columns.
template <class Arch, class T>
index_type registers_of(index_type columns) noexcept {
  return ceil_div(columns, index_type(lanes<Arch, T>));
}

/// Up to few_rows of these rows, and their logits against a block of keys.
template <class Arch, class T>
struct row_panel {
  using V = vec<Arch, T>;
  static constexpr index_type n = lanes<Arch, T>, block = geometry<Arch>::few_rows_block;
  static constexpr int max_rows = geometry<Arch>::few_rows;

  range rows, queries;
  index_type dim;           // of K as it is read
  index_type channels;      // of Q
  row_registers registers;  // of what a row keeps
  T *sums, *state;          // [row][register], [register][row]
  T *q, *scaled_q;  // Q, and where it is multiplied by what K's channels are scaled by: [register][max_rows]
  T* halves;        // Q, half a register of channels of two rows beside each other: [half][rows]; or null
  T* s;             // [row][block]
  T* factors;       // a register a row: its largest logits, then the factor of what it summed so far

  FOVEA_INLINE index_type count() const noexcept { return rows.size(); }
  /// Whether products of these rows and of keys that are T are of two rows a register: see dot_halves.
  bool in_halves() const noexcept { return isa<Arch>::has_halves && halves != nullptr; }
  /// Row r is query query(r) of the group's head head(r).
  index_type head(index_type r) const noexcept {
    return queries.size() == 1 ? rows.first + r : (rows.first + r) / queries.size();
  }
  index_type query(index_type r) const noexcept {
    return queries.first + rows.first + r - head(r) * queries.size();
  }
  FOVEA_INLINE T* logits(index_type r) const noexcept { return s + r * block; }
  FOVEA_INLINE T* factor(index_type r) const noexcept { return factors + r * n; }
  FOVEA_INLINE T* sum(index_type r, index_type i) const noexcept {
    return sums + (r * registers.sums + i) * n;
  }
  /// Where a sum over part of a block is kept, once K's scaled Q is read.
  T* kept(index_type r, index_type i) const noexcept { return scaled_q + (r * registers.sums + i) * n; }
  T* state_of(index_type r, index_type i) const noexcept { return state + (i * count() + r) * n; }

  /// sum = sum * shrink + more
  FOVEA_INLINE void add(index_type r, index_type i, const V& shrink, const V& more) const noexcept {
    T* to = sum(r, i);
    isa<Arch>::fma(V::load_aligned(to), shrink, more).store_aligned(to);
  }

  /// The same rows, what they keep so many bytes further.
  row_panel at_state(index_type further) const noexcept {
    row_panel other = *this;
    other.sums = after(sums, further), other.state = after(state, further);
    return other;
  }

  /// Rows of none: Q and weights are 0.
  void clear_rows_of_none() const noexcept {
    std::fill(logits(count()), logits(max_rows), T(0));
    for (index_type i = 0; i * n < dim; ++i)
      for (T* from : {q, scaled_q})
        std::fill(from + (i * max_rows + count()) * n, from + (i + 1) * max_rows * n, T(0));
  }

  /// f(std::type_identity of lines, constant rows, first) for tiles of up to half as many rows as a
  /// register has lanes: one, if it can be, as each reads what all rows share. Where lines of what comes
  /// next are asked for, tiles are of 2, 4 or the most rows, some of them perhaps of none: what is waited
  /// for is memory. Loops are compiled twice, as asking whether to ask took 10 to 18 % of a tile's time
  /// from L2 (4 rows of float, Zen 5); asking for 8 to 24 lines at once after so many of a tile's, 10 to 17
  /// % beyond caches. Where nothing is asked for, more than `Most` rows are tiles of 4 and of the rest.
  template <int Most = max_rows, class F>
  void in_row_tiles(bool asks, const F& f) const noexcept {
    constexpr int most = std::min<int>(max_rows, std::max<int>(n / 2, 1)),
                  most_of_none = std::min(most, Most);
    constexpr std::type_identity<lines_of_next> next;
    constexpr std::type_identity<lines_of_none> none;
    for (index_type r = 0, some; r < count(); r += some) {
      some = count() - r;
      if (asks) {
        some = std::min<index_type>(some, most);
        some <= 2   ? f(next, std::integral_constant<int, std::min(most, 2)>{}, r)
        : some <= 4 ? f(next, std::integral_constant<int, std::min(most, 4)>{}, r)
                    : f(next, std::integral_constant<int, most>{}, r);
      } else {
        if (some > most_of_none) some = std::min(most_of_none, 4);
        unroll<most_of_none>([&](auto i) {
          if (some == i + 1) f(none, std::integral_constant<int, i + 1>{}, r);
        });
      }
    }
  }

  /// Bytes that stay of panels of so many rows when their keys are done, and that these work in.
  static index_type state_bytes(index_type rows, row_registers registers) noexcept {
    return bytes_of<T>(rows * (registers.sums + registers.state) * n);
  }
  static index_type work_bytes(index_type rows, index_type dim) noexcept {
    return bytes_of<T>(round_up(rows, index_type(max_rows)) * (3 * round_up(dim, n) + block + n));
  }
};

/// The rows of a job, few_rows a panel.
template <class Arch, class T>
class row_panels {
  using panel = row_panel<Arch, T>;

 public:
  static constexpr int most_panels = 8;  // of a job

  row_panels(const row_block& at, const row_memory<T>& memory, index_type channels,
             row_registers registers) noexcept
      : count_(0) {
    T *state = memory.state, *work = memory.work;
    const index_type q_elements = panel::max_rows * round_up(channels, panel::n);
    const bool halves = at.rows.first == 0 && are_halves(at.rows.last);
    for (range rest = at.rows; !rest.empty(); rest.first += panel::max_rows) {
      const range rows{rest.first, std::min(rest.first + panel::max_rows, rest.last)};
      panel& q = panels_[count_++];
      q.rows = rows, q.queries = at.queries;
      q.dim = read_width<Arch, T>(channels), q.channels = channels, q.registers = registers;
      q.sums = state, q.state = state + rows.size() * registers.sums * panel::n;
      q.q = work, q.scaled_q = q.q + q_elements;
      T* const last = q.scaled_q + q_elements;
      q.halves = halves ? last : nullptr;
      q.s = last + q_elements, q.factors = q.s + panel::max_rows * panel::block;
      state = after(state, panel::state_bytes(rows.size(), registers));
      work = after(work, panel::work_bytes(rows.size(), channels));
    }
  }

  static constexpr int least_in_halves = panel::max_rows >= 8 ? 6 : 4;
  /// Whether so many rows, all of a key/value head, share registers: one panel, as sums of rows have the same
  /// bits wherever they lie among the others.
  static constexpr bool are_halves(index_type rows) noexcept {
    return rows % 2 == 0 && rows >= least_in_halves && rows <= panel::max_rows;
  }

  const panel* begin() const noexcept { return panels_; }
  const panel* end() const noexcept { return panels_ + count_; }

 private:
  int count_;
  panel panels_[std::size_t{most_panels}];
};

}  // namespace kernel
FOVEA_NAMESPACE_END
