// fovea/kernel/forward/row_panel.hpp - a few query rows that share a key/value head, dim in lanes: the
// form for short inputs and for decoding, where reading K and V is most of the work.
//
// All heads of a group are rows of one panel: each key and value is read once for all of them. Scores are
// inner products (reduced by a tree of shuffles), the softmax has keys in lanes, the product with V columns.
// Rows of K and V are read in place, whatever their width: the last register overlaps the one before.
#pragma once

#include <fovea/kernel/forward/row_products.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

template <class Arch, class T, unit_of Units>
class row_panel : public row_products<Arch, T> {
  using products = row_products<Arch, T>;
  using typename products::V;
  using state_type = softmax_state<Arch, T, Units>;
  using here = cells<Arch, T, in_lanes::keys>;
  using products::n, products::block, products::store, products::o_row, products::add;
  using products::value_dim_, products::o_, products::m_, products::l_, products::s_, products::shrink_;

 public:
  using products::products, products::count, products::head, products::query;

  /// The same rows, their state so many elements further.
  FOVEA_INLINE row_panel at_state(index_type further) const noexcept {
    row_panel other = *this;
    other.o_ += further, other.m_ += further, other.l_ += further;
    return other;
  }

  /// Applies scores and mask to row r of S, the mask being that of the row's head, and pads it with hidden
  /// cells.
  template <class Rules>
  FOVEA_NOINLINE FOVEA_FLATTEN V revise(const Rules& rules, coverage covered, index_type r,
                                        range keys) const noexcept {
    V largest(hidden<T>);
    const index_type row = query(r);  // a division: not for each register
    for (index_type j = 0; j < round_up(keys.size(), n); j += n) {
      T* s = s_ + r * block + j;
      const here at{row, keys.first + j, keys.size() - j};
      V x = with_rules<Arch>(rules, covered, V::load_aligned(s), at);
      if (at.count < n)
        x = xsimd::select(counting_up<Arch, T>() < V(static_cast<T>(at.count)), x, V(hidden<T>));
      x.store_aligned(s);
      largest = xsimd::max(largest, x);
    }
    return largest;
  }

  /// Row r: P = exp(S - m); what the sums so far are worth now waits for add_values. `finite`: whether all
  /// that P is multiplied by is; else what is seen is never 0, which add_seen_values leaves out.
  FOVEA_NOINLINE void absorb(index_type r, index_type keys, const V& largest_by_lane,
                             bool finite) const noexcept {
    const V least = least_exponent<Arch, T>(finite);
    auto state = load(r);
    const V worth = state.raise(max_over_lanes<Arch, T>(largest_by_lane));
    V sum(T(0));
    for (index_type j = 0; j < keys; j += n) {
      T* s = s_ + r * block + j;
      const V p = state.template probability<true>(V::load_aligned(s), least);
      p.store_aligned(s);
      sum = sum + p;
    }
    state.add(worth, sum);
    store(r, state);
    worth.store_aligned(shrink_ + r * n);
  }

  /// Takes in the same rows' state of other keys.
  FOVEA_NOINLINE void merge(const row_panel& other) const noexcept {
    for (index_type r = 0; r < count(); ++r) {
      auto state = load(r);
      const auto [mine, theirs] = state.merge(other.load(r));
      store(r, state);
      for (index_type i = 0; i * n < value_dim_; ++i)
        add(r, i, mine, V::load_aligned(other.o_row(r) + i * n) * theirs);
    }
  }

  FOVEA_INLINE void absorb_sink(index_type r, T logit) const noexcept {
    if constexpr (Units == unit_of::log2) logit *= static_cast<T>(std::numbers::log2e);
    auto state = total(r);
    const V shrink = state.absorb_sink(V(logit));
    for (index_type i = 0; i * n < value_dim_; ++i) add(r, i, shrink, V(T(0)));
    alignas(64) T first[n] = {};
    alignas(64) T all[n];
    state.l.store_aligned(all);
    first[0] = all[0];
    store(r, {state.m, V::load_aligned(first)});
  }

  template <class Lse>
  FOVEA_NOINLINE void close_lse(const Lse& lse) const noexcept {
    for (index_type r = 0; r < count(); ++r) {
      alignas(64) T value[n];
      total(r).lse().store_aligned(value);
      *lse(head(r)).at(query(r)) = value[0];
    }
  }

 private:
  FOVEA_INLINE state_type load(index_type r) const noexcept { return {products::load(r)}; }
  FOVEA_INLINE state_type total(index_type r) const noexcept { return {products::total(r)}; }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
