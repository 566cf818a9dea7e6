// fovea/kernel/forward/lane_softmax.hpp - the softmax as the state of a walk with queries in lanes.
#pragma once

#include <fovea/kernel/forward/lane_panel.hpp>
#include <fovea/kernel/softmax.hpp>

#include <tuple>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// P = exp(S - m), exactly 0 where hidden, and the factor of what was summed so far.
template <class Arch, class T, unit_of Units>
FOVEA_NOINLINE void absorb_logits(logit_block<Arch, T>& s, T* state) noexcept {
  using V = vec<Arch, T>;
  const V least = least_exponent<Arch, T>(s.finite);
  const index_type width = s.width;
  for (int w = 0; w < s.registers(); ++w, state += s.n) {
    const index_type keys = s.seen[w];
    softmax_state<Arch, T, Units> row{{V::load_aligned(state), V::load_aligned(state + width)}};
    const V shrink = row.raise(s.largest[w]);
    s.shrink[w] = shrink;
    V even(T(0)), odd(T(0));
    T* const first = s.at(0, w);
    const auto absorb = [&](auto hides) FOVEA_INLINE_LAMBDA {
      const auto exponentiate = [&](index_type j) FOVEA_INLINE_LAMBDA {
        const V p = row.template probability<hides()>(V::load_aligned(first + j * width), least);
        p.store_aligned(first + j * width);
        return p;
      };
      index_type j = 0;
      for (; j + 2 <= keys; j += 2) {
        even = even + exponentiate(j);
        odd = odd + exponentiate(j + 1);
      }
      if (j < keys) even = even + exponentiate(j);
    };
    if (s.may_hide && row.must_hide(s.finite))
      absorb(std::true_type{});
    else
      absorb(std::false_type{});
    for (index_type j = keys; j < s.keys.size(); ++j) V(T(0)).store_aligned(first + j * width);
    row.add(shrink, even + odd);
    row.m.store_aligned(state), row.l.store_aligned(state + width);
  }
}

/// The running maximum and sum of each query: see softmax.hpp.
template <class Arch, class T>
struct lane_softmax {
  using V = vec<Arch, T>;
  using panel = query_panel<Arch, T>;
  static constexpr int columns = 2;  // m, l
  static constexpr bool normalises = true;
  bool natural;  // units of the logits

  void open(const panel& queries) const noexcept {
    for (int w = 0; w < queries.registers(); ++w) store(queries, w, softmax_sums<Arch, T>::empty());
  }
  void absorb(logit_block<Arch, T>& s, const panel& queries, auto& block) const noexcept {
    s.finite = block.finite_values(s);
    natural ? absorb_logits<Arch, T, unit_of::natural>(s, queries.state)
            : absorb_logits<Arch, T, unit_of::log2>(s, queries.state);
  }

  /// Register w takes in a sink: a logit in natural units, without a value. What it summed shrinks.
  void absorb_sink(const panel& queries, int w, V logit, index_type sums) const noexcept {
    const V shrink = with_units(queries, w, [&](auto& row) {
      using row_type = std::remove_reference_t<decltype(row)>;
      if constexpr (row_type::units == unit_of::log2) logit = logit * V(static_cast<T>(std::numbers::log2e));
      const V factor = row.absorb_sink(logit);
      store(queries, w, row);
      return factor;
    });
    for (index_type c = 0; c < sums; ++c) {
      T* const sum = queries.sum(c, w);
      isa<Arch>::fma(V::load_aligned(sum), shrink, V(T(0))).store_aligned(sum);
    }
  }
  /// Takes in what another walk over other keys of the same queries left: sums, then the state, as a panel
  /// keeps them.
  void merge(const panel& queries, const T* other, index_type sums) const noexcept {
    const T* const of_state = other + sums * queries.width;
    for (int w = 0; w < queries.registers(); ++w) {
      const softmax_sums<Arch, T> that{V::load_aligned(of_state + w * queries.n),
                                       V::load_aligned(of_state + queries.width + w * queries.n)};
      V mine(T(0)), theirs(T(0));
      with_units(queries, w, [&](auto& row) {
        std::remove_reference_t<decltype(row)> with{that};
        std::tie(mine, theirs) = row.merge(with);
        store(queries, w, row);
        return mine;
      });
      for (index_type c = 0; c < sums; ++c) {
        T* const sum = queries.sum(c, w);
        const V addend = V::load_aligned(other + c * queries.width + w * queries.n) * theirs;
        isa<Arch>::fma(V::load_aligned(sum), mine, addend).store_aligned(sum);
      }
    }
  }
  /// 1 / l of register w, and 0 for a row that saw no key.
  V reciprocal(const panel& queries, int w) const noexcept { return load(queries, w).reciprocal(); }
  V lse(const panel& queries, int w) const noexcept {
    return with_units(queries, w, [](auto& row) { return row.lse(); });
  }

 private:
  static softmax_sums<Arch, T> load(const panel& queries, int w) noexcept {
    return {V::load_aligned(queries.state_of(0, w)), V::load_aligned(queries.state_of(1, w))};
  }
  static void store(const panel& queries, int w, const softmax_sums<Arch, T>& row) noexcept {
    row.m.store_aligned(queries.state_of(0, w)), row.l.store_aligned(queries.state_of(1, w));
  }
  template <class F>
  V with_units(const panel& queries, int w, const F& f) const noexcept {
    softmax_state<Arch, T, unit_of::natural> in_natural{load(queries, w)};
    softmax_state<Arch, T, unit_of::log2> in_log2{load(queries, w)};
    return natural ? f(in_natural) : f(in_log2);
  }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
