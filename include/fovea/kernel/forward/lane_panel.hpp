// fovea/kernel/forward/lane_panel.hpp - up to W registers of queries, queries in lanes: the form for long
// inputs.
//
// Q^T is packed once, [dim][lanes]; K and V are read as they lie, each element broadcast. All that belongs to
// a query stays in its lane: maxima, sums and exponents need no shuffle. The product with V is the same
// micro-kernel again.
#pragma once

#include <fovea/kernel/forward/lane_products.hpp>
#include <fovea/kernel/rules/probe_coverage.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

template <class Arch, class T, int W, unit_of Units>
class query_panel : public query_products<Arch, T, W> {
  using products = query_products<Arch, T, W>;
  using typename products::V;
  using state_type = softmax_state<Arch, T, Units>;
  using here = cells<Arch, T, in_lanes::queries>;
  using products::rows_, products::value_dim_, products::s_, products::n, products::store, products::add;

 public:
  using products::products, products::width;
  using typename products::per_query;

  /// How much the mask shows of `keys`; where it does not say, `keys` shrinks to those that some query sees.
  template <class Mask>
  FOVEA_INLINE coverage cover(const Mask& mask, range& keys) const noexcept {
    const coverage said = keys.empty() ? coverage::none : cover_of(mask, rows_, keys);
    if constexpr (is_unsure<Mask>)
      if (said == coverage::partial) return ask_each<Arch, T, W>(mask, rows_, keys);
    return said;
  }

  /// S = score(Q K^T), hidden cells -inf, and the largest logit of each query; `covered` is what the mask
  /// says of all these cells.
  template <class Rules>
  FOVEA_INLINE per_query score_keys(const rows_of<T>& k, const Rules& rules, coverage covered, range keys,
                                    const lines_soon& soon, std::byte* squares) const noexcept {
    const auto ahead = lines_of(rules, keys, soon);
    if (!rules.natural && covered == coverage::full)
      return this->template dot_keys<true>(k, keys.size(), ahead);
    this->template dot_keys<false>(k, keys.size(), ahead);
    return revise(rules, keys, squares);
  }

  /// Applies scores and mask to S, a square of n keys x n queries at a time, and finds the largest logits
  /// anew; `squares` takes copies of what they read there. (Those on the stack were most of what calls took.)
  template <class Rules>
  FOVEA_NOINLINE FOVEA_FLATTEN per_query revise(const Rules& rules, range keys,
                                                std::byte* squares) const noexcept {
    per_query largest;
    for (int w = 0; w < W; ++w) {
      V most(hidden<T>);
      const index_type query = rows_.first + w * n, queries = std::min(n, rows_.last - query);
      for (range some{keys.first, keys.first}; some.first < keys.last; some.first = some.last) {
        some.last = std::min(some.first + n, keys.last);
        T* s = s_ + (some.first - keys.first) * width + w * n;
        most = xsimd::max(most, revise_square(rules, {query, some.first, queries, some.size(), squares}, s));
      }
      largest[static_cast<std::size_t>(w)] = most;
    }
    return largest;
  }

  /// P = exp(S - m), exactly 0 where hidden; returns what the sums so far are worth now. `finite`: whether
  /// all that P is multiplied by is; else what is seen is never 0, which add_seen_values leaves out.
  FOVEA_INLINE per_query absorb(index_type keys, const per_query& largest, bool may_hide,
                                bool finite) const noexcept {
    return may_hide ? absorb<true>(keys, largest, finite) : absorb<false>(keys, largest, finite);
  }
  template <bool Hides>
  FOVEA_NOINLINE per_query absorb(index_type keys, const per_query& largest, bool finite) const noexcept {
    const V least = least_exponent<Arch, T>(finite);
    per_query shrink;
    for (int w = 0; w < W; ++w) {
      auto state = load(w);
      const V shrunk = state.raise(largest[static_cast<std::size_t>(w)]);
      shrink[static_cast<std::size_t>(w)] = shrunk;
      V even(T(0)), odd(T(0));
      const auto exponentiate = [&](index_type j) FOVEA_INLINE_LAMBDA {
        T* s = s_ + j * width + w * n;
        const V p = state.template probability<Hides>(V::load_aligned(s), least);
        p.store_aligned(s);
        return p;
      };
      index_type j = 0;
      for (; j + 2 <= keys; j += 2) {
        even = even + exponentiate(j);
        odd = odd + exponentiate(j + 1);
      }
      if (j < keys) even = even + exponentiate(j);
      state.add(shrunk, even + odd);
      store(w, state);
    }
    return shrink;
  }

  /// Takes in a sink: a logit in natural units.
  FOVEA_INLINE void absorb_sink(T logit) const noexcept {
    if constexpr (Units == unit_of::log2) logit *= static_cast<T>(std::numbers::log2e);
    for (int w = 0; w < W; ++w) {
      auto state = load(w);
      const V shrink = state.absorb_sink(V(logit));
      for (index_type c = 0; c < value_dim_; ++c) add(c, w, shrink, V(T(0)));
      store(w, state);
    }
  }

  /// Writes the LSE of each query into the one column of `lse`.
  template <class E>
  FOVEA_NOINLINE void close_lse(const matrix_view<E>& lse) const noexcept {
    alignas(64) T value[width];
    for (int w = 0; w < W; ++w) load(w).lse().store_aligned(value + w * n);
    for (index_type i = 0; i < rows_.size(); ++i) lse(rows_.first + i, 0) = static_cast<E>(value[i]);
  }

 private:
  /// What is read soon: `soon`, and the cells of each matrix of the rules, which their squares alone would
  /// wait for.
  template <class Rules>
  FOVEA_INLINE std::array<lines_ahead, 2 + Rules::matrices> lines_of(const Rules& rules, range keys,
                                                                     const lines_soon& soon) const noexcept {
    std::array<lines_ahead, 2 + Rules::matrices> all{soon[0], soon[1]};
    std::size_t i = 1;
    rules.each_matrix([&](const auto& m) FOVEA_INLINE_LAMBDA {
      all[++i] = {line_use::read_l2, m, rows_, keys};
    });
    return all;
  }

  template <class Rules>
  FOVEA_INLINE static V revise_square(const Rules& all_rules, square<Arch, T> at, T* s) noexcept {
    V most(hidden<T>);
    coverage covered = coverage::partial;
    if constexpr (matrices_of<decltype(all_rules.mask)> == 0)  // a matrix is looked at cell by cell anyway
      covered = cover_of(all_rules.mask, {at.query, at.query + at.queries}, {at.key, at.key + at.keys});
    if (covered == coverage::none) {
      for (index_type j = 0; j < at.keys; ++j) most.store_aligned(s + j * width);
      return most;
    }
    const auto rules = all_rules.near(at);
    for (index_type j = 0; j < at.keys; ++j, s += width) {
      const V x = revised<Arch>(rules, covered, V::load_aligned(s), here{at.query, at.key + j, at.queries});
      x.store_aligned(s);
      most = xsimd::max(most, x);
    }
    return most;
  }

  FOVEA_INLINE state_type load(int w) const noexcept { return {products::load(w)}; }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
