// fovea/kernel/forward/attend_lanes.hpp - one job: a block of query rows against all keys that they see.
// The loop of the paper: Dao, "FlashAttention-2", arXiv:2307.08691, algorithm 1.
#pragma once

#include <fovea/kernel/forward/lane_panel.hpp>
#include <fovea/kernel/forward/next_job.hpp>
#include <fovea/kernel/rules/dropout.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// The registers of queries of `rows`, dealt to panels of 1 to 3 as evenly as can be: f(panel) for each.
template <class Arch, class T, unit_of Units, class F>
FOVEA_INLINE void each_query_panel(range rows, index_type dim, index_type value_dim, const scratch<T>& memory,
                                   F&& f) noexcept {
  constexpr index_type n = lanes<Arch, T>;
  index_type left = ceil_div(rows.size(), n), panels = ceil_div(left, geometry<Arch>::tile_vectors);
  T* kept = memory.kept;
  const auto visit = [&](auto width) FOVEA_INLINE_LAMBDA {
    using panel = query_panel<Arch, T, decltype(width)::value, Units>;
    const range mine{rows.first, std::min(rows.first + panel::width, rows.last)};
    f(panel(kept, memory.logits, mine, dim, value_dim));
    kept += panel::kept_elements(dim, value_dim);
    rows.first = mine.last;
    left -= width;
  };
  for (; panels > 0; --panels) {
    const index_type width = ceil_div(left, panels);
    if (width == 3) visit(std::integral_constant<int, 3>{});
    if (width == 2) visit(std::integral_constant<int, 2>{});
    if (width == 1) visit(std::integral_constant<int, 1>{});
  }
}

/// What a job of one query head reads and writes.
template <class Rules, class QE, class OE, class Keys, class Values>
struct head_operands {
  Rules rules;
  matrix_view<QE> q;
  matrix_view<OE> out;
  Keys keys;
  Values values;
};

template <class Rules, class QE, class OE, class Keys, class Values>
head_operands(Rules, matrix_view<QE>, matrix_view<OE>, Keys, Values)
    -> head_operands<Rules, QE, OE, Keys, Values>;

template <class Arch, class Problem, class T = typename Problem::compute>
FOVEA_INLINE auto operands_of_head(const Problem& p, index_type b, index_type h,
                                   const scratch<T>& memory) noexcept {
  const index_type kv_head = h / p.group();
  return head_operands{p.rules.bind(p.at(b, h)), p.q.head(b, h), p.out.head(b, h),
                       operand_of<Arch>(p.k.head(b, kv_head), p.dim(), memory.keys),
                       operand_of<Arch>(p.v.head(b, kv_head), p.value_dim(), memory.values)};
}

/// Rows of one query head against few keys: one block has them all, so its softmax is complete.
template <class Arch, class Problem, class T = typename Problem::compute>
FOVEA_NOINLINE void attend_few_keys(const Problem& p, index_type b, index_type h, range rows, range keys,
                                    const scratch<T>& memory, const coming& next) noexcept {
  const auto [rules, q, out, keys_of, values_of] = operands_of_head<Arch>(p, b, h, memory);
  const auto k = keys_of.read(keys);
  block_rows<Arch, T> v(values_of.read_columns(keys), keys.size());
  constexpr bool drops = Problem::drops;
  const reads_of_next soon(p, next, b, h, rows);

  each_query_panel<Arch, T, Problem::units>(rows, p.dim(), p.value_dim(), memory, [&](const auto& panel) {
    panel.open(q, p.factor());
    range seen = intersect(keys, reach_of(rules.mask, panel.rows(), keys.last));
    seen.first = std::min(seen.first, keys.last);
    const coverage covered = panel.cover(rules.mask, seen);
    const bool may_hide = rules.hide || covered == coverage::partial;
    const index_type skipped = seen.first - keys.first;
    if (covered == coverage::none) {
      panel.clear();
      panel.close(out);
    } else {
      const range others = panel.next_rows(rows);
      const auto queries =
          others.empty() ? soon.queries(panel.width) : lines_ahead(line_use::read, q, others);
      const auto largest = panel.score_keys(k.from(skipped), rules, covered, seen,
                                            {queries, soon.keys(panel.rows())}, memory.squares);
      const bool finite = (!may_hide && !drops) || v.finite();
      const auto shrink = panel.absorb(seen.size(), largest, may_hide, finite);
      if constexpr (drops) drop<Arch, T>(p.dropout.bind(p.at(b, h)), panel, seen);
      if (finite) {
        panel.write_values(v.from(skipped), seen.size(), out,
                           {lines_ahead(line_use::write, out, others), soon.values(panel.rows())});
      } else {
        panel.clear();
        panel.add_seen_values(v.from(skipped), seen.size(), shrink);
        panel.close(out);
      }
    }
    if (p.wants_lse()) panel.close_lse(p.lse.head(b, h));
  });
}

/// Rows of one query head, queries in lanes.
template <class Arch, class Problem, class T = typename Problem::compute>
FOVEA_NOINLINE void attend_queries(const Problem& p, index_type b, index_type h, range rows,
                                   const scratch<T>& memory, const coming& next) noexcept {
  constexpr index_type block = geometry<Arch>::key_block, step = geometry<Arch>::tile_rows;
  constexpr bool drops = Problem::drops;
  const auto [rules, q, out, keys_of, values_of] = operands_of_head<Arch>(p, b, h, memory);
  const auto each_panel = [&](auto&& f) FOVEA_INLINE_LAMBDA {
    each_query_panel<Arch, T, Problem::units>(rows, p.dim(), p.value_dim(), memory, f);
  };

  const range reach = reach_of(rules.mask, rows, keys_of.all.rows);
  if constexpr (!sink_like<decltype(p.sink)>)
    if (reach.size() > 0 && keys_of.all.rows <= geometry<Arch>::short_block && out.col_stride == 1 &&
        p.value_dim() >= lanes<Arch, T>)
      return attend_few_keys<Arch>(p, b, h, rows, range{0, reach.last}, memory, next);
  bool opened = false;
  for (index_type first = reach.first / block * block; first < reach.last; first += block) {
    const range keys{first, std::min(first + block, reach.last)};
    if (cover_of(rules.mask, rows, keys) == coverage::none) continue;
    const auto k = keys_of.read(keys);                                 // (C, d)
    block_rows<Arch, T> v(values_of.read_columns(keys), keys.size());  // (C, dv)

    each_panel([&](const auto& panel) {  // q (R, d)   o (R, dv)
      if (!opened) panel.open(q, p.factor()), panel.clear();
      range seen = intersect(keys, reach_of(rules.mask, panel.rows(), keys.last));
      seen.first = seen.first / step * step;
      const coverage covered = panel.cover(rules.mask, seen);
      if (covered == coverage::none) return;
      const bool may_hide = rules.hide || covered == coverage::partial;
      const index_type skipped = seen.first - first;
      const auto soon_read = opened ? lines_ahead() : lines_ahead(line_use::read, q, panel.next_rows(rows));
      const auto soon_written =
          keys.last < reach.last ? lines_ahead() : lines_ahead(line_use::write, out, panel.rows());

      // (R, C)   S = score(Q K^T)
      const auto largest =
          panel.score_keys(k.from(skipped), rules, covered, seen, {soon_read}, memory.squares);
      // (R, C)   P = exp(S - m)
      const bool finite = (!may_hide && !drops) || v.finite();
      const auto shrink = panel.absorb(seen.size(), largest, may_hide, finite);
      if constexpr (drops) drop<Arch, T>(p.dropout.bind(p.at(b, h)), panel, seen);
      // (R, dv)  O = O * shrink + P V
      if (finite)
        panel.add_values(v.from(skipped), seen.size(), shrink, {soon_written});
      else
        panel.add_seen_values(v.from(skipped), seen.size(), shrink);
    });
    opened = true;
  }

  each_panel([&](const auto& panel) {
    if (!opened) panel.open(q, p.factor()), panel.clear();
    if constexpr (sink_like<decltype(p.sink)>) panel.absorb_sink(static_cast<T>(p.sink.logit(h)));
    panel.close(out);
    if (p.wants_lse()) panel.close_lse(p.lse.head(b, h));
  });
}

}  // namespace kernel
FOVEA_NAMESPACE_END
