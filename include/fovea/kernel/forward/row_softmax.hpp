// fovea/kernel/forward/row_softmax.hpp - the softmax as the state of a walk with dim in lanes.
#pragma once

#include <fovea/kernel/forward/row_job.hpp>
#include <fovea/kernel/softmax.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Each row: P = exp(S - m), and the factor of what was summed so far. `finite`: whether all that P is
/// multiplied by is; else what is seen is never 0, which add_seen_pieces leaves out. All maxima first: what
/// each row waits for overlaps (8 rows of 128 keys .83 of the time, a hundredth of a call; Zen 5).
template <class Arch, unit_of Units, class T>
FOVEA_NOINLINE void absorb_rows(const row_panel<Arch, T>& s, index_type keys, bool finite) noexcept {
  using V = vec<Arch, T>;
  const V least = least_exponent<Arch, T>(finite);
  using state = softmax_state<Arch, T, Units>;
  const index_type rows = s.count();
  for (index_type r = 0; r < rows; ++r) {
    T *const m = s.state_of(r, 0), *const factor = s.factor(r);
    state row{{V::load_aligned(m), V(T(0))}};
    const V shrink = row.raise(max_over_lanes<Arch, T>(V::load_aligned(factor)));
    row.m.store_aligned(m), shrink.store_aligned(factor);
  }
  for (index_type r = 0; r < rows; ++r) {
    T *const l = s.state_of(r, 1), *const logits = s.logits(r);
    state row{{V::load_aligned(s.state_of(r, 0)), V::load_aligned(l)}};
    V sum(T(0));
    const auto absorb = [&](auto hides) FOVEA_INLINE_LAMBDA {
      for (index_type j = 0; j < keys; j += s.n) {
        const V p = row.template probability<hides()>(V::load_aligned(logits + j), least);
        p.store_aligned(logits + j);
        sum = sum + p;
      }
    };
    if (row.must_hide(finite))
      absorb(std::true_type{});
    else
      absorb(std::false_type{});
    row.add(V::load_aligned(s.factor(r)), sum);
    row.l.store_aligned(l);
  }
}

/// The running maximum and sum of each row, the sum in parts, one a lane: see softmax.hpp.
template <class Arch, class T>
struct row_softmax {
  using V = vec<Arch, T>;
  using panel = row_panel<Arch, T>;
  static constexpr index_type registers = 2;  // m, l
  static constexpr bool normalises = true;
  bool natural;  // units of the logits

  void open(const panel& rows) const noexcept {
    for (index_type r = 0; r < rows.count(); ++r) store(rows, r, softmax_sums<Arch, T>::empty());
  }
  void absorb(const panel& s, row_key_blocks<Arch, T>& block) const noexcept {
    const bool finite = block.finite_values();
    natural ? absorb_rows<Arch, unit_of::natural>(s, block.keys.size(), finite)
            : absorb_rows<Arch, unit_of::log2>(s, block.keys.size(), finite);
  }

  /// Takes in the same rows' state and sums of other keys.
  FOVEA_NOINLINE void merge(const panel& rows, const panel& other) const noexcept {
    for (index_type r = 0; r < rows.count(); ++r)
      with_units(load(rows, r), [&](auto& row) {
        std::remove_reference_t<decltype(row)> more{load(other, r)};
        const auto [mine, theirs] = row.merge(more);
        store(rows, r, row);
        for (index_type i = 0; i < rows.registers.sums; ++i)
          rows.add(r, i, mine, V::load_aligned(other.sum(r, i)) * theirs);
      });
  }
  /// Takes in a sink: a logit in natural units, without a value. What was summed shrinks.
  FOVEA_NOINLINE void absorb_sink(const panel& rows, index_type r, T logit) const noexcept {
    with_units(total(rows, r), [&](auto& row) {
      using row_type = std::remove_reference_t<decltype(row)>;
      if constexpr (row_type::units == unit_of::log2) logit *= static_cast<T>(std::numbers::log2e);
      const V shrink = row.absorb_sink(V(logit));
      for (index_type i = 0; i < rows.registers.sums; ++i) rows.add(r, i, shrink, V(T(0)));
      alignas(64) T first[std::size_t{panel::n}] = {};
      first[0] = row.l.get(0);
      row.l = V::load_aligned(first);
      store(rows, r, row);
    });
  }
  /// 1 / l, and 0 for a row that saw no key.
  V reciprocal(const panel& rows, index_type r) const noexcept { return total(rows, r).reciprocal(); }
  /// to(r, LSE of row r) for each row.
  template <class F>
  void each_lse(const panel& rows, const F& to) const noexcept {
    natural ? lse_of<unit_of::natural>(rows, to) : lse_of<unit_of::log2>(rows, to);
  }

 private:
  static softmax_sums<Arch, T> load(const panel& rows, index_type r) noexcept {
    return {V::load_aligned(rows.state_of(r, 0)), V::load_aligned(rows.state_of(r, 1))};
  }
  static void store(const panel& rows, index_type r, const softmax_sums<Arch, T>& row) noexcept {
    row.m.store_aligned(rows.state_of(r, 0)), row.l.store_aligned(rows.state_of(r, 1));
  }
  // The state with the sum over all lanes in each lane.
  static softmax_sums<Arch, T> total(const panel& rows, index_type r) noexcept {
    const auto parts = load(rows, r);
    return {parts.m, sum_over_lanes<Arch, T>(parts.l)};
  }
  template <unit_of Units, class F>
  FOVEA_NOINLINE static void lse_of(const panel& rows, const F& to) noexcept {
    for (index_type r = 0; r < rows.count(); ++r) {
      alignas(64) T value[std::size_t{panel::n}];
      softmax_state<Arch, T, Units>{total(rows, r)}.lse().store_aligned(value);
      to(r, value[0]);
    }
  }
  template <class F>
  void with_units(const softmax_sums<Arch, T>& sums, const F& f) const noexcept {
    softmax_state<Arch, T, unit_of::natural> in_natural{sums};
    softmax_state<Arch, T, unit_of::log2> in_log2{sums};
    natural ? f(in_natural) : f(in_log2);
  }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
