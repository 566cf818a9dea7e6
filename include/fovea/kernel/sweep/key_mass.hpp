// fovea/kernel/sweep/key_mass.hpp - what keys receive: the probabilities of each column, summed over the
// query rows once their LSE is known.
#pragma once

#include <fovea/kernel/forward/attend_rows.hpp>
#include <fovea/kernel/sweep/logit_sweep.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// P = exp(S - LSE) is what a softmax state gives whose maximum is the LSE (natural, here in Units).
template <class Arch, unit_of Units, class T>
FOVEA_INLINE softmax_state<Arch, T, Units> state_of_lse(vec<Arch, T> lse) noexcept {
  if constexpr (Units == unit_of::log2) lse = lse * vec<Arch, T>(static_cast<T>(std::numbers::log2e));
  return {lse, vec<Arch, T>(T(0))};
}

/// Scratch for the sums of so many keys, which are added up in whole registers, from any key on.
template <class Arch, class T>
constexpr index_type key_sums_bytes(index_type keys) noexcept {
  return bytes_of<T>(keys + lanes<Arch, T>);
}

/// sums[j] += the sum over its queries of P, from a block of logits. `sums` has room for whole registers.
template <class Arch, unit_of Units, class T>
FOVEA_NOINLINE void add_columns(const logit_block<Arch, T>& s, const matrix_view<T>& lse, T* sums) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  alignas(64) T of_row[std::size_t{logit_block<Arch, T>::most_registers * n}] = {};
  for (index_type i = 0; i < s.rows.size(); ++i) of_row[i] = lse(s.rows.first + i, 0);
  for (index_type j = 0; j < s.keys.size(); j += n) {
    V column[std::size_t{n}];
    for (index_type e = 0; e < n; ++e) {
      column[e] = V(T(0));
      if (j + e >= s.keys.size()) continue;
      for (int w = 0; w < s.registers(); ++w) {
        const auto state = state_of_lse<Arch, Units, T>(V::load_aligned(of_row + w * n));
        const V p = state.template probability<true>(V::load_aligned(s.at(j + e, w)));
        const V count(static_cast<T>(s.rows.size() - w * n));  // lanes beyond stand for no query
        column[e] = column[e] + xsimd::select(counting_up<Arch, T>() < count, p, V(T(0)));
      }
    }
    (V::load_unaligned(sums + j) + isa<Arch>::sums_of_lanes(column)).store_unaligned(sums + j);
  }
}

/// What `keys` receive from all queries of a key/value head's group: their logits are computed again.
template <class Arch, class Problem, class T = typename Problem::compute>
FOVEA_NOINLINE void receive_queries(const Problem& p, index_type b, index_type kv_head, range keys,
                                    index_type rows_a_sweep, const scratch<T>& memory, T* sums) noexcept {
  for (index_type h = kv_head * p.group(); h < (kv_head + 1) * p.group(); ++h)
    for (range rows{0, 0}; rows.first < p.q.tokens(b); rows.first = rows.last) {
      rows.last = std::min(rows.first + rows_a_sweep, p.q.tokens(b));
      const auto lse = p.lse.head(b, h);
      sweep_logits<Arch>(p, b, h, rows, keys, p.factor(), memory, [&](const logit_block<Arch, T>& s) {
        add_columns<Arch, Problem::units>(s, lse, sums + (s.keys.first - keys.first));
      });
    }
}

/// The same where attend_rows left the logits; `at`: all rows of the key/value head. keys.first is a multiple
/// of its block.
template <class Arch, class Problem, class T = typename Problem::compute>
FOVEA_NOINLINE void receive_rows(const Problem& p, const row_block& at, range keys, const T* logits,
                                 T* sums) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type block = geometry<Arch>::few_rows_block, n = lanes<Arch, T>;
  group_rules rules(p.rules, p.dropout, p.at(at.batch, at.kv_head * p.group()), p.group());
  const row_rules_ref<Arch, T> masks(rules);
  for (range part{keys.first, keys.first}; part.first < keys.last; part.first = part.last) {
    part.last = std::min(part.first + block, keys.last);
    if (masks.cover(at.queries, part) == coverage::none) continue;  // nor has attend_rows left any of it
    for (index_type row = at.rows.first; row < at.rows.last; ++row) {
      const index_type h = at.kv_head * p.group() + row / at.queries.size();
      const V lse(p.lse.head(at.batch, h)(row % at.queries.size(), 0));
      const auto state = state_of_lse<Arch, Problem::units, T>(lse);
      const T* s = logits + row * logits_a_row<T>(p.k.tokens(at.batch)) + part.first;
      T* to = sums + (part.first - keys.first);
      for (index_type j = 0; j < part.size(); j += n) {
        const V p_row = state.template probability<true>(V::load_aligned(s + j));
        (V::load_aligned(to + j) + p_row).store_aligned(to + j);
      }
    }
  }
}

}  // namespace kernel
FOVEA_NAMESPACE_END
