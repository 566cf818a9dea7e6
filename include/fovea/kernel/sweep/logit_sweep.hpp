// fovea/kernel/sweep/logit_sweep.hpp - the sweep over logits that sums something else than values.
#pragma once

#include <fovea/kernel/forward/attend_lanes.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// f(panel, keys, largest) for each few query rows of a head among `rows`, queries in lanes, and block of
/// keys among `span` of which they see some: panel.logits() are the scores in Units, hidden ones -inf, and
/// `largest` each query's. span.first is a multiple of the block; values are not read.
template <class Arch, unit_of Units, class Problem, class F, class T = typename Problem::compute>
FOVEA_INLINE void look_at(const Problem& p, index_type b, index_type h, range rows, range span,
                          const scratch<T>& memory, F&& f) noexcept {
  constexpr index_type block = geometry<Arch>::key_block, step = geometry<Arch>::tile_rows;
  const auto rules = p.rules.bind(p.at(b, h));
  const auto q = p.q.head(b, h);
  const auto keys_of = operand_of<Arch>(p.k.head(b, h / p.group()), p.dim(), memory.keys);
  const auto each_panel = [&](auto&& g) FOVEA_INLINE_LAMBDA {
    each_query_panel<Arch, T, Units>(rows, p.dim(), index_type(0), memory, g);
  };

  const range reach = intersect(span, reach_of(rules.mask, rows, span.last));
  if (reach.empty()) return;
  each_panel([&](const auto& panel) { panel.open(q, Units == unit_of::natural ? p.scale : p.factor()); });
  for (index_type first = reach.first / block * block; first < reach.last; first += block) {
    const range keys{first, std::min(first + block, reach.last)};
    if (cover_of(rules.mask, rows, keys) == coverage::none) continue;
    const auto k = keys_of.read(keys);  // (C, d)
    each_panel([&](const auto& panel) {
      range seen = intersect(keys, reach_of(rules.mask, panel.rows(), keys.last));
      seen.first = seen.first / step * step;
      const coverage covered = panel.cover(rules.mask, seen);
      if (covered == coverage::none) return;
      const auto largest =
          panel.score_keys(k.from(seen.first - first), rules, covered, seen, {}, memory.squares);  // (R, C)
      f(panel, seen, largest);
    });
  }
}

}  // namespace kernel
FOVEA_NAMESPACE_END
