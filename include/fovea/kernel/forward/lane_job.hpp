// fovea/kernel/forward/lane_job.hpp - query rows of one head, and the blocks of keys that they see.
#pragma once

#include <fovea/kernel/forward/lane_products.hpp>
#include <fovea/kernel/forward/lane_scorer.hpp>
#include <fovea/kernel/forward/next_job.hpp>
#include <fovea/kernel/operand/references.hpp>
#include <fovea/kernel/rules/lane_rules.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// What a walk is about, whatever its types.
template <class Arch, class T>
struct lane_job {
  range rows;  // queries
  range span;  // keys: all, or those in question; its first is a multiple of the block
  index_type dim;
  query_ref<Arch, T> q;
  T scale;  // of Q
  block_ref<T> keys;
  scorer_ref<Arch, T> scorer;
  rules_ref<Arch, T> rules;
  scratch<T> memory;
  const next_lines* next = nullptr;  // null: nothing is asked for
  bool drops = false;                // whether weights are dropped as the rules say
  bool merges = false;               // whether what is left of the queries is merged with that of other keys
  const block_ref<T>* values = nullptr;  // none: weights are summed with something else
  bool asks = false;  // whether values of a block are asked for beside its Q K^T, keys of the next beside P V

  /// Up to so many queries ask where K and V come from memory: one panel, which computes for about as long as
  /// they take to come, so that waiting for one and then the other shows. Of V a tile reads some columns of
  /// all rows, an order that hardware does not follow. Into L2, a tile's share at a time. (Zen 5, 8 heads,
  /// 4,096 keys of 128, time over that without asking: 16 queries of float .84, fp16 .90, bf16 .98, int8 and
  /// fp8 1.0, 33 of float .87. With more than a panel float .95 to 1.0, bf16 1.0 to 1.03.)
  static constexpr index_type most_that_ask = geometry<Arch>::tile_vectors * lanes<Arch, T>;
};

/// How many of a job's queries go in a register of their own before the others: those that would be left at
/// its end in a register filled by half or less, where the first ones see less than the last ones. (Causal,
/// 197 tokens: the 5 left see 197 keys, the first 5 see 5.) None where their state is merged, as walks over
/// other keys cut the same queries into the same panels.
template <class Arch, class T>
index_type few_that_see_less(const lane_job<Arch, T>& job) noexcept {
  constexpr index_type n = lanes<Arch, T>;
  const index_type few = job.rows.size() % n;
  if (job.merges || few == 0 || 2 * few > n || job.rows.size() < n) return 0;
  const auto seen = [&](index_type first) {
    return intersect(job.span, job.rules.reach({first, first + few}, job.span.last)).size();
  };
  const index_type last_see = seen(job.rows.last - few);
  return last_see > 0 && 2 * seen(job.rows.first) <= last_see ? few : 0;
}

/// The blocks of keys of a job that some of its rows see, one after another; `whole`: all keys as one block.
template <class Arch, class T>
class key_blocks {
  static constexpr index_type step = geometry<Arch>::tile_rows,
                              most_queries = geometry<Arch>::tile_vectors * lanes<Arch, T>;  // of a panel
  using panel = query_panel<Arch, T>;

 public:
  key_blocks(const lane_job<Arch, T>& job, bool whole) noexcept
      : job_(job),
        reach_(intersect(job.span, job.rules.reach(job.rows, job.span.last))),
        size_(whole ? std::max<index_type>(reach_.last, 1) : index_type(geometry<Arch>::key_block)),
        next_(reach_.first / size_ * size_),
        whole_(whole) {
    if (reach_.empty()) next_ = reach_.last;
  }

  /// Goes to the next block; false if there is none.
  bool next() noexcept {
    first_ = keys_.last == 0;
    while (next_ < reach_.last) {
      if (!whole_) {
        const index_type key = job_.rules.next(job_.rows, std::max(next_, reach_.first));
        if (key >= reach_.last) return false;
        next_ = std::max(next_, key / size_ * size_);
      }
      keys_ = {next_, std::min(next_ + size_, reach_.last)};
      next_ += size_;
      if (!whole_ && job_.rules.cover(job_.rows, keys_) == coverage::none) continue;
      k_ = job_.keys.read(keys_);
      if (job_.values != nullptr) v_ = job_.values->read_columns(keys_);
      known_ = false;
      return true;
    }
    return false;
  }

  rows_of<T> keys_of(const logit_block<Arch, T>& s) const noexcept {
    return k_.from(s.keys.first - keys_.first);
  }
  rows_of<T> values_of(const logit_block<Arch, T>& s) const noexcept {
    return v_.from((s.keys.first - keys_.first) / tokens_a_row());
  }

  /// A panel's logits against the keys of this block that it sees, in whole tiles, yet to be computed.
  logit_block<Arch, T> logits_of(const panel& queries) noexcept {
    const range reach = intersect(keys_, job_.rules.reach(queries.rows, keys_.last));
    logit_block<Arch, T> s;
    s.s = job_.memory.logits, s.width = queries.width, s.rows = queries.rows;
    const index_type first = whole_ ? std::min(reach.first, keys_.last) : reach.first / step * step;
    s.keys = {first / tokens_a_row() * tokens_a_row(), reach.last};
    s.covered = job_.rules.cover_panel(queries.rows, s.keys);
    if (s.empty()) return s;
    s.ruled = job_.rules.scores() || s.covered == coverage::partial;
    s.may_hide = job_.rules.hides() || s.covered == coverage::partial;
    find_seen(queries, s);
    return s;
  }

  /// Whether all that weights of 0 are multiplied by is finite: looked up only where there may be some.
  bool finite_values(const logit_block<Arch, T>& p) noexcept {
    if (job_.values == nullptr || (!p.may_hide && !job_.drops)) return true;
    if (!known_) finite_ = job_.values->columns_finite(v_, keys_.size()), known_ = true;
    return finite_;
  }

  /// What is asked for beside Q K^T: the queries that are packed next, cells that rules read, keys of the
  /// next job.
  prefetch reads_beside(const panel& queries, const logit_block<Arch, T>& s) const noexcept {
    prefetch lines;
    const range others = others_after(queries);
    if (whole_ ? !others.empty() : first_) lines.add(line_use::read, job_.q.lines, others);
    if (job_.asks) job_.values->add_lines(keys_, lines);
    if (whole_) {
      if (others.empty() && job_.next != nullptr) lines.add(line_use::read, job_.next->q, first_of_next());
      add_share(&next_lines::k, queries, lines);
    }
    job_.rules.prefetch_cells(queries.rows, s.keys, lines);
    return lines;
  }
  /// And beside P V: rows of the result that are written next, values of the next job.
  prefetch writes_beside(const panel& queries, const byte_view& out) const noexcept {
    prefetch lines;
    if (job_.asks && next_ < reach_.last)
      job_.keys.add_lines({next_, std::min(next_ + size_, reach_.last)}, lines);
    if (whole_) {
      lines.add(line_use::write, out, others_after(queries));
      add_share(&next_lines::v, queries, lines);
    } else if (keys_.last >= job_.rules.reach(queries.rows, reach_.last).last) {  // the panel's last block
      lines.add(line_use::write, out, queries.rows);
    }
    return lines;
  }

 private:
  /// How many keys each register sees, in whole tiles: beyond them nothing is multiplied. (Zen 3, causal: 77,
  /// 128, 197 and 333 tokens take 7, 6, 5 and 4 % less time.)
  void find_seen(const panel& queries, logit_block<Arch, T>& s) const noexcept {
    const int last = queries.registers() - 1;
    for (int w = 0; w <= last; ++w) s.seen[w] = s.keys.size();
    if (s.covered != coverage::partial || s.keys.size() < 8) return;
    for (int w = 0; w < last; ++w) {
      const range reach = job_.rules.reach(queries.rows_of(w), s.keys.last);
      const index_type seen = round_up(std::max<index_type>(reach.last - s.keys.first, 0), step);
      s.seen[w] = std::min(std::max(seen, w > 0 ? s.seen[w - 1] : 0), s.keys.size());
    }
    if (last == 0 || s.seen[0] < s.keys.size()) s.narrow = &job_.rules;
  }
  index_type tokens_a_row() const noexcept {
    return job_.values == nullptr ? 1 : job_.values->tokens_a_row_of_columns;
  }
  range others_after(const panel& queries) const noexcept {
    return {queries.rows.last, std::min(queries.rows.last + most_queries, job_.rows.last)};
  }
  range first_of_next() const noexcept {
    const range all = job_.next->rows;
    return {all.first, std::min(all.first + most_queries, all.last)};
  }
  void add_share(byte_view next_lines::*part, const panel& queries, prefetch& lines) const noexcept {
    if (job_.next == nullptr || (job_.next->*part).data == nullptr) return;
    const byte_view& m = job_.next->*part;
    lines.add(line_use::read_l2, m, next_lines::share(m, queries.rows, job_.rows));
  }

  const lane_job<Arch, T>& job_;
  range reach_;
  index_type size_, next_;
  bool whole_, first_ = true, known_ = false, finite_ = false;
  range keys_ = {0, 0};
  rows_of<T> k_ = {nullptr, 0, 0}, v_ = {nullptr, 0, 0};
};

/// Packs scale * Q^T.
template <class Arch, class T>
void pack(const lane_job<Arch, T>& job, const query_panel<Arch, T>& queries) noexcept {
  for (int w = 0; w < queries.registers(); ++w)
    job.q.pack(queries.rows_of(w), job.scale, queries.q + w * queries.n, queries.width);
}

/// S = Q K^T
template <class Arch, class T>
FOVEA_NOINLINE void dot(const lane_job<Arch, T>& job, const query_panel<Arch, T>& queries,
                        const key_blocks<Arch, T>& block, logit_block<Arch, T>& s) noexcept {
  prefetch lines = block.reads_beside(queries, s);
  constexpr index_type tile_keys[] = {tall<Arch, 1>, tall<Arch, 2>, tall<Arch, 3>};
  lines.deal(ceil_div(s.keys.size(), tile_keys[s.registers() - 1]));
  job.scorer.dot(queries.q, job.dim, block.keys_of(s), job.scale, s, !s.ruled, lines);
}

/// S = score(S), hidden cells -inf.
template <class Arch, class T>
void apply_rules(const lane_job<Arch, T>& job, logit_block<Arch, T>& s) noexcept {
  if (s.ruled) job.rules.apply(s.rows, s.keys, s.s, s.width, s.largest, job.memory.stages);
}

/// Dropout of weights.
template <class Arch, class T>
void drop(const lane_job<Arch, T>& job, const logit_block<Arch, T>& p) noexcept {
  if (job.drops) job.rules.drop(p.rows, p.keys, p.s, p.width);
}

}  // namespace kernel
FOVEA_NAMESPACE_END
