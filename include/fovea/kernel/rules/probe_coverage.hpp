// fovea/kernel/rules/probe_coverage.hpp - how much a mask shows of a block that it does not describe.
#pragma once

#include <fovea/kernel/rules/cells.hpp>
#include <fovea/mask/concept.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Asks for each cell of a panel's queries x keys, which costs 2 % of computing them, and shrinks `keys`
/// to those (in whole tiles) that some query sees. A causal mask written as a lambda takes 4 % longer so than
/// the library's, and twice as long without.
template <class Arch, class T, class Mask>
FOVEA_NOINLINE FOVEA_FLATTEN coverage ask_each(const Mask& mask, range rows, range& keys) noexcept {
  using here = cells<Arch, T, in_lanes::queries>;
  using truth_value = typename here::truth_value;
  constexpr index_type n = lanes<Arch, T>, step = geometry<Arch>::tile_rows;
  const index_type registers = ceil_div(rows.size(), n);
  const auto seen = [&](index_type w, index_type key) FOVEA_INLINE_LAMBDA {
    const index_type query = rows.first + w * n;
    return here::truth(visible_at(mask, here{query, key, std::min(n, rows.last - query)}));
  };
  bool all = true, any = false;
  for (index_type w = 0; w < registers && (all || !any); ++w) {
    truth_value every(true), any_now(false);
    for (index_type key = keys.first; key < keys.last; ++key) {
      const truth_value now = seen(w, key);
      every = every & now, any_now = any_now | now;
    }
    all = all && xsimd::all(every), any = any || xsimd::any(any_now);
  }
  if (all || !any) return all ? coverage::full : coverage::none;

  const auto hidden_from_all = [&](index_type key) FOVEA_INLINE_LAMBDA {
    truth_value any_now(false);
    for (index_type w = 0; w < registers; ++w) any_now = any_now | seen(w, key);
    return !xsimd::any(any_now);
  };
  while (hidden_from_all(keys.last - 1)) --keys.last;
  index_type skipped = 0;
  while (hidden_from_all(keys.first + skipped)) ++skipped;
  keys.first += skipped / step * step;
  return coverage::partial;
}

}  // namespace kernel
FOVEA_NAMESPACE_END
