// fovea/kernel/block.hpp - one job: a block of query rows against all keys that they see. The loop of the
// paper: Dao, "FlashAttention-2", arXiv:2307.08691, algorithm 1.
#pragma once

#include <fovea/kernel/query_panel.hpp>
#include <fovea/kernel/row_panel.hpp>
#include <fovea/view/sequences.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// No sink.
struct no_sink {};

/// All that a call is about. E..: the elements of q, k, v and the result; Rules and Sink are not bound to a
/// head yet.
template <class T, class QE, class KE, class VE, class OE, class Rules, class Sink>
struct problem {
  using compute = T;
  static constexpr bool rules_hide = Rules::hide;
  static constexpr unit_of units = Rules::natural ? unit_of::natural : unit_of::log2;

  sequences<const QE> q;
  sequences<const KE> k;
  sequences<const VE> v;
  sequences<OE> out;
  sequences<T> lse;  // no data: not wanted
  T scale;
  Rules rules;
  Sink sink;

  FOVEA_INLINE index heads() const noexcept { return q.all.heads; }
  FOVEA_INLINE index group() const noexcept { return k.all.heads == 0 ? 1 : heads() / k.all.heads; }
  FOVEA_INLINE index dim() const noexcept { return q.all.dim; }
  FOVEA_INLINE index value_dim() const noexcept { return v.all.dim; }
  FOVEA_INLINE place at(index b, index h) const noexcept {
    return {b, h, q.batches(), heads(), q.tokens(b), k.tokens(b)};
  }
  /// The factor of q.k in the units that the softmax runs in.
  FOVEA_INLINE T factor() const noexcept {
    return units == unit_of::log2 ? static_cast<T>(static_cast<double>(scale) * std::numbers::log2e) : scale;
  }
  FOVEA_INLINE bool wants_lse() const noexcept { return lse.all.data != nullptr; }
};

/// Where a job's working memory lies.
template <class T>
struct scratch {
  T *kept, *logits, *keys, *values;
};

/// V of a block of keys, and whether it may be multiplied by probabilities of 0: looked up only where some
/// are.
template <class Arch, class T>
class block_values {
 public:
  FOVEA_INLINE block_values(rows_of<T> rows, index count) noexcept : rows_(rows), count_(count) {}
  FOVEA_INLINE rows_of<T> from(index offset) const noexcept { return rows_.from(offset); }
  FOVEA_INLINE bool finite() noexcept {
    if (!known_) finite_ = all_finite<Arch>(rows_, count_), known_ = true;
    return finite_;
  }

 private:
  rows_of<T> rows_;
  index count_;
  bool known_ = false, finite_ = false;
};

/// The registers of queries of `rows`, dealt to panels of 1 to 3 as evenly as can be: f(panel) for each.
template <class Arch, class T, unit_of Units, class F>
FOVEA_INLINE void each_query_panel(range rows, index dim, index value_dim, const scratch<T>& memory,
                                   F&& f) noexcept {
  constexpr index n = lanes<Arch, T>;
  index left = ceil_div(rows.size(), n), panels = ceil_div(left, geometry<Arch>::tile_vectors);
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
    const index width = ceil_div(left, panels);
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
FOVEA_INLINE auto operands_of_head(const Problem& p, index b, index h, const scratch<T>& memory) noexcept {
  const index kv_head = h / p.group();
  return head_operands{p.rules.bind(p.at(b, h)), p.q.head(b, h), p.out.head(b, h),
                       operand_of<Arch>(p.k.head(b, kv_head), p.dim(), memory.keys),
                       operand_of<Arch>(p.v.head(b, kv_head), p.value_dim(), memory.values)};
}

/// Rows of one query head against few keys: one block has them all, so its softmax is complete.
template <class Arch, class Problem, class T = typename Problem::compute>
FOVEA_NOINLINE void attend_few_keys(const Problem& p, index b, index h, range rows, range keys,
                                    const scratch<T>& memory) noexcept {
  const auto [rules, q, out, keys_of, values_of] = operands_of_head<Arch>(p, b, h, memory);
  const auto k = keys_of.read(keys);
  block_values<Arch, T> v(values_of.read(keys), keys.size());

  each_query_panel<Arch, T, Problem::units>(rows, p.dim(), p.value_dim(), memory, [&](const auto& panel) {
    panel.open(q, p.factor());
    range seen = intersect(keys, reach_of(rules.mask, panel.rows(), keys.last));
    seen.first = std::min(seen.first, keys.last);
    const coverage covered = panel.cover(rules.mask, seen);
    const bool may_hide = rules.hide || covered == coverage::partial;
    const index skipped = seen.first - keys.first;
    if (covered == coverage::none) {
      panel.clear();
      panel.close(out);
    } else {
      const auto largest = panel.score_keys(k.from(skipped), rules, covered, seen,
                                            lines_ahead(line_use::read, q, panel.next_rows(rows)));
      const auto shrink = panel.absorb(seen.size(), largest, may_hide);
      if (!may_hide || v.finite()) {
        panel.write_values(v.from(skipped), seen.size(), out,
                           lines_ahead(line_use::write, out, panel.next_rows(rows)));
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
FOVEA_NOINLINE void attend_queries(const Problem& p, index b, index h, range rows,
                                   const scratch<T>& memory) noexcept {
  constexpr index block = geometry<Arch>::key_block, step = geometry<Arch>::tile_rows;
  const auto [rules, q, out, keys_of, values_of] = operands_of_head<Arch>(p, b, h, memory);
  const auto each_panel = [&](auto&& f) FOVEA_INLINE_LAMBDA {
    each_query_panel<Arch, T, Problem::units>(rows, p.dim(), p.value_dim(), memory, f);
  };

  const range reach = reach_of(rules.mask, rows, keys_of.all.rows);
  if constexpr (!sink_like<decltype(p.sink)>)
    if (reach.size() > 0 && keys_of.all.rows <= geometry<Arch>::short_block && out.col_stride == 1 &&
        p.value_dim() >= lanes<Arch, T>)
      return attend_few_keys<Arch>(p, b, h, rows, range{0, reach.last}, memory);
  bool opened = false;
  for (index first = reach.first / block * block; first < reach.last; first += block) {
    const range keys{first, std::min(first + block, reach.last)};
    if (cover_of(rules.mask, rows, keys) == coverage::none) continue;
    const auto k = keys_of.read(keys);                           // (C, d)
    block_values<Arch, T> v(values_of.read(keys), keys.size());  // (C, dv)

    each_panel([&](const auto& panel) {  // q (R, d)   o (R, dv)
      if (!opened) panel.open(q, p.factor()), panel.clear();
      range seen = intersect(keys, reach_of(rules.mask, panel.rows(), keys.last));
      seen.first = seen.first / step * step;
      const coverage covered = panel.cover(rules.mask, seen);
      if (covered == coverage::none) return;
      const bool may_hide = rules.hide || covered == coverage::partial;
      const index skipped = seen.first - first;
      const auto soon_read = opened ? lines_ahead() : lines_ahead(line_use::read, q, panel.next_rows(rows));
      const auto soon_written =
          keys.last < reach.last ? lines_ahead() : lines_ahead(line_use::write, out, panel.rows());

      // (R, C)   S = score(Q K^T)
      const auto largest = panel.score_keys(k.from(skipped), rules, covered, seen, soon_read);
      // (R, C)   P = exp(S - m)
      const auto shrink = panel.absorb(seen.size(), largest, may_hide);
      // (R, dv)  O = O * shrink + P V
      if (!may_hide || v.finite())
        panel.add_values(v.from(skipped), seen.size(), shrink, soon_written);
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

/// Rows of all query heads of one key/value head, dim in lanes. Row r: head r / |queries| of the group, query
/// queries.first + r % |queries|.
/// (A job of several key/value heads, each step for all of them before the next, hid the latency of a lone
/// key, 16 % less time, but took 10 % more for 8 queries of 8 keys and 14 % more for 1 of 128.)
template <class Arch, class Problem, class T = typename Problem::compute>
FOVEA_NOINLINE void attend_rows(const Problem& p, index b, index kv_head, range queries, range rows,
                                const scratch<T>& memory) noexcept {
  using panel = row_panel<Arch, T, Problem::units>;
  constexpr index block = geometry<Arch>::few_rows_block;
  const index first_head = kv_head * p.group();
  const auto keys_of = operand_of<Arch>(p.k.head(b, kv_head), panel::read_width(p.dim()), memory.keys);
  const auto values_of =
      operand_of<Arch>(p.v.head(b, kv_head), panel::read_width(p.value_dim()), memory.values);
  const auto each_panel = [&](auto&& f) FOVEA_INLINE_LAMBDA {
    T* kept = memory.kept;
    for (range some = rows; !some.empty(); some.first += panel::max_rows) {
      const range mine{some.first, std::min(some.first + panel::max_rows, rows.last)};
      f(panel(kept, memory.logits, mine, queries, p.dim(), p.value_dim()));
      kept += panel::kept_elements(p.dim(), p.value_dim());
    }
  };
  const auto q = [&](index h) { return p.q.head(b, first_head + h); };
  const auto rules_of = [&](const panel& some, index r) {
    return p.rules.bind(p.at(b, first_head + some.head(r)));
  };

  each_panel([&](const panel& some) { some.open(q, p.factor()); });

  for (range keys{0, 0}; keys.first < p.k.tokens(b); keys.first = keys.last) {
    keys.last = std::min(keys.first + block, p.k.tokens(b));
    coverage least = coverage::full, most = coverage::none;
    for (index h = 0; h < p.group(); ++h) {
      const auto rules = p.rules.bind(p.at(b, first_head + h));
      const range seen = intersect(keys, reach_of(rules.mask, queries, keys.last));
      const coverage covered = seen.empty() ? coverage::none : cover_of(rules.mask, queries, keys);
      least = std::min(least, covered), most = std::max(most, covered);
    }
    if (most == coverage::none) continue;
    const auto k = keys_of.read(keys);                           // (C, d)
    block_values<Arch, T> v(values_of.read(keys), keys.size());  // (C, dv)
    const coverage covered = least == coverage::full ? least : coverage::partial;
    const bool may_hide = Problem::rules_hide || covered == coverage::partial;

    // Memory is the limit here: V of this block is asked for while its keys are scored, K of the next while V
    // is summed.
    lines_ahead coming_values(line_use::read_l2, values_of.all, keys);
    lines_ahead coming_keys(line_use::read_l2, keys_of.all,
                            {keys.last, std::min(keys.last + block, p.k.tokens(b))});
    each_panel([&](const panel& some) {  // q (R, d)   o (R, dv)
      // (R, C)   S = Q K^T
      some.dot_keys(k, keys.size(), std::exchange(coming_values, {}));
      // (R, C)   S = score(S), hidden: -inf   P = exp(S - m)
      typename panel::per_row shrink;
      for (index r = 0; r < some.count(); ++r) {
        const auto largest = some.revise(rules_of(some, r), covered, r, keys);
        shrink[r] = some.absorb(r, keys.size(), largest);
      }
      // (R, dv)  O = O * shrink + P V
      if (!may_hide || v.finite())
        some.add_values(v.from(0), keys.size(), shrink, std::exchange(coming_keys, {}));
      else
        some.add_seen_values(v.from(0), keys.size(), shrink);
    });
  }

  each_panel([&](const panel& some) {
    if constexpr (sink_like<decltype(p.sink)>)
      for (index r = 0; r < some.count(); ++r)
        some.absorb_sink(r, static_cast<T>(p.sink.logit(first_head + some.head(r))));
    some.close([&](index h) { return p.out.head(b, first_head + h); });
    if (p.wants_lse()) some.close_lse([&](index h) { return p.lse.head(b, first_head + h); });
  });
}

}  // namespace kernel
FOVEA_NAMESPACE_END
