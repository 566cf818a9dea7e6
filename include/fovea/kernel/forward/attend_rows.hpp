// fovea/kernel/forward/attend_rows.hpp - one job of the form with dim in lanes: a few query rows that
// share a key/value head, against a span of its keys. What decoding runs: each key and value is read once.
#pragma once

#include <fovea/kernel/forward/row_panel.hpp>
#include <fovea/kernel/problem.hpp>
#include <fovea/kernel/rules/dropout.hpp>

#include <cstring>

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
FOVEA_INLINE index_type logits_a_row(index_type keys) noexcept {
  return round_up(keys, 64 / static_cast<index_type>(sizeof(T)));
}

/// f(panel) for each few rows.
template <class Arch, class Problem, class T, class F>
FOVEA_INLINE void each_row_panel(const Problem& p, const row_block& at, row_memory<T> memory,
                                 F&& f) noexcept {
  using panel = row_panel<Arch, T, Problem::units>;
  for (range some = at.rows; !some.empty(); some.first += panel::max_rows) {
    const range mine{some.first, std::min(some.first + panel::max_rows, at.rows.last)};
    f(panel(memory.state, memory.work, mine, at.queries, p.dim(), p.value_dim()));
    memory.state += panel::state_elements(mine.size(), p.value_dim());
    memory.work += panel::work_elements(mine.size(), p.dim());
  }
}

/// The keys of `span` that any of the heads may see.
template <class Problem>
FOVEA_INLINE range reach_of_rows(const Problem& p, const row_block& at, range span) noexcept {
  range reach{span.last, span.first};
  for (index_type h = at.kv_head * p.group(); h < (at.kv_head + 1) * p.group(); ++h) {
    const range seen = reach_of(p.rules.bind(p.at(at.batch, h)).mask, at.queries, span.last);
    reach = {std::min(reach.first, seen.first), std::max(reach.last, seen.last)};
  }
  return reach;
}

/// How much the heads see of `keys`: none, partial where it is not the same for all.
template <class Problem>
FOVEA_INLINE coverage cover_of_rows(const Problem& p, const row_block& at, range keys) noexcept {
  coverage least = coverage::full, most = coverage::none;
  for (index_type h = at.kv_head * p.group(); h < (at.kv_head + 1) * p.group(); ++h) {
    const auto rules = p.rules.bind(p.at(at.batch, h));
    const range seen = intersect(keys, reach_of(rules.mask, at.queries, keys.last));
    const coverage covered = seen.empty() ? coverage::none : cover_of(rules.mask, at.queries, keys);
    least = std::min(least, covered), most = std::max(most, covered);
  }
  return least == most ? most : coverage::partial;
}

/// The rows' states over the keys of `span`.
/// (A job of several key/value heads, each step for all of them before the next, hid the latency of a lone
/// key, 16 % less time, but took 10 % more for 8 queries of 8 keys and 14 % more for 1 of 128.)
template <class Arch, class Problem, class T = typename Problem::compute>
FOVEA_NOINLINE void attend_rows(const Problem& p, const row_block& at, range span, const row_memory<T>& rows,
                                const scratch<T>& memory) noexcept {
  using panel = row_panel<Arch, T, Problem::units>;
  const index_type b = at.batch, first_head = at.kv_head * p.group();
  const auto keys_of = operand_of<Arch>(p.k.head(b, at.kv_head), panel::read_width(p.dim()), memory.keys);
  const auto values_of =
      operand_of<Arch>(p.v.head(b, at.kv_head), panel::read_width(p.value_dim()), memory.values);
  constexpr index_type block = geometry<Arch>::few_rows_block;
  const auto each_panel = [&](auto&& f) FOVEA_INLINE_LAMBDA { each_row_panel<Arch>(p, at, rows, f); };
  const auto block_from = [&](index_type first) FOVEA_INLINE_LAMBDA {
    return range{first, std::min(first + block, span.last)};
  };

  each_panel([&](const panel& some) {
    some.open([&](index_type h) { return p.q.head(b, first_head + h); }, p.factor());
  });

  const range reach = reach_of_rows(p, at, span);
  const index_type start = span.first + std::max<index_type>(reach.first - span.first, 0) / block * block;
  for (range keys = block_from(start); keys.first < reach.last; keys = block_from(keys.last)) {
    const coverage covered = cover_of_rows(p, at, keys);
    if (covered == coverage::none) continue;
    const bool may_hide = Problem::rules_hide || Problem::drops || covered == coverage::partial;

    // Where memory is the limit: V of this block is asked for while its keys are scored, K of the next while
    // V is summed.
    pieces_ahead these_keys, these_values, coming_values, coming_keys;
    if (span.size() > block) {
      these_keys = {keys_of.all, keys}, these_values = {values_of.all, keys}, coming_values = these_values;
      coming_keys = {keys_of.all, block_from(keys.last)};
    }
    // q (R, d)   o (R, dv)   (R, C)   S = Q K^T
    each_pieces<scaled::by_channel>(keys_of, keys, [&](auto& k) {  // (C, d)
      k.look_ahead(coming_values, these_keys);
      each_panel([&](const panel& some) { some.dot_keys(k), k.look_here(); });
    });
    // Whether what is hidden may be multiplied by 0.
    bool finite = true;
    if (may_hide)
      values_of.template each_rows<scaled::by_token>(
          keys, [&](index_type, const auto& v, index_type count, const float* scales) {
            finite = finite && all_finite<Arch, T>(v, count);
            if (scales != nullptr)
              finite = finite && all_finite<Arch, T>(rows_of<float>{scales, count, count}, 1);
          });
    // (R, C)   S = score(S), hidden: -inf   P = exp(S - m)
    each_panel([&](const panel& some) {
      for (index_type r = 0; r < some.count(); ++r) {
        const auto rules = p.rules.bind(p.at(b, first_head + some.head(r)));
        const auto largest = some.revise(rules, covered, r, keys);
        if (rows.logits != nullptr) {
          const index_type row = some.head(r) * at.queries.size() + some.query(r) - at.queries.first;
          T* const to = rows.logits + row * logits_a_row<T>(p.k.tokens(b)) + keys.first;
          std::memcpy(to, some.logits(r), static_cast<std::size_t>(logits_a_row<T>(keys.size())) * sizeof(T));
        }
        some.absorb(r, keys.size(), largest, finite);
        if constexpr (Problem::drops)
          drop<Arch, T>(p.dropout.bind(p.at(b, first_head + some.head(r))), some, r, keys);
      }
    });
    // (R, dv)  O = O * shrink + P V
    each_pieces<scaled::by_token>(values_of, keys, [&](auto& v) {  // (C, dv)
      v.look_ahead(coming_keys, these_values);
      each_panel([&](const panel& some) {
        finite ? some.add_values(v) : some.add_seen_values(v);
        v.look_here();
      });
    });
  }
}

/// Writes the rows' results: the states over `spans` spans of the keys, each `stride` after the one before,
/// are merged in order.
template <class Arch, class Problem, class T = typename Problem::compute>
FOVEA_NOINLINE void close_rows(const Problem& p, const row_block& at, index_type spans, index_type stride,
                               const row_memory<T>& rows) noexcept {
  using panel = row_panel<Arch, T, Problem::units>;
  const index_type first_head = at.kv_head * p.group();
  each_row_panel<Arch>(p, at, rows, [&](const panel& some) {
    for (index_type i = 1; i < spans; ++i) some.merge(some.at_state(i * stride));
    if constexpr (sink_like<decltype(p.sink)>)
      for (index_type r = 0; r < some.count(); ++r)
        some.absorb_sink(r, static_cast<T>(p.sink.logit(first_head + some.head(r))));
    some.close([&](index_type h) { return p.out.head(at.batch, first_head + h); });
    if (p.wants_lse()) some.close_lse([&](index_type h) { return p.lse.head(at.batch, first_head + h); });
  });
}

}  // namespace kernel
FOVEA_NAMESPACE_END
