// fovea/kernel/forward/row_job.hpp - a few query rows that share a key/value head, and the blocks of keys
// that they see.
#pragma once

#include <fovea/kernel/forward/row_references.hpp>
#include <fovea/kernel/forward/row_scorer.hpp>
#include <fovea/kernel/rules/row_rules.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// O = O * shrink + P V for all rows and a block of values.
template <class Arch, class T, class Operand>
void add_block(const Operand& values, const row_panels<Arch, T>& all, range keys, bool finite,
               piece_places& next) noexcept {
  each_pieces<scaled::by_token, true>(values, keys, [&](auto& v) {
    v.prefetch(next);
    for (const auto& p : all)
      if constexpr (std::is_same_v<decltype(v), block_pieces<nibble_pair>&>)
        add_pieces(p, v, values.width);  // finite in any case
      else
        finite ? add_pieces(p, v, values.width) : add_seen_pieces(p, v, values.width), v.prefetch_nothing();
  });
}

/// Values of a head, in whatever pieces, elements and scales.
template <class Arch, class T>
class row_values_ref {
  using panels = row_panels<Arch, T>;

 public:
  template <class Operand>
  explicit row_values_ref(const Operand& values) noexcept : values_(&values), of_(&functions_of<Operand>) {}

  /// O = O * shrink + P V for all rows. `next`: what is asked for meanwhile.
  void add(const panels& all, range keys, bool finite, piece_places& next) const noexcept {
    of_->add(values_, all, keys, finite, next);
  }
  /// Whether all of them are, and their scales.
  bool finite(range keys) const noexcept { return of_->finite(values_, keys); }
  /// Where some of them lie; and how many are asked for before they are read, of a block, for so many rows.
  void add_places(range keys, piece_places& to) const noexcept { of_->add_places(values_, keys, to); }
  index_type ahead(index_type rows, index_type block) const noexcept {
    return of_->ahead(values_, rows, block);
  }

 private:
  struct functions {
    void (*add)(const void*, const panels&, range, bool, piece_places&) noexcept;
    bool (*finite)(const void*, range) noexcept;
    void (*add_places)(const void*, range, piece_places&) noexcept;
    index_type (*ahead)(const void*, index_type, index_type) noexcept;
  };
  template <class Operand>
  static constexpr functions functions_of{
      [](const void* operand, const panels& all, range keys, bool finite, piece_places& next) noexcept {
        add_block(*static_cast<const Operand*>(operand), all, keys, finite, next);
      },
      [](const void* operand, range keys) noexcept {
        if constexpr (nibble_coding_head<decltype(Operand::all)>) return true;
        bool finite = true;
        static_cast<const Operand*>(operand)->template each_rows<scaled::by_token>(
            keys, [&](index_type, const auto& v, index_type count, const float* scales) {
              finite = finite && all_finite<Arch, T>(v, count);
              if (scales != nullptr)
                finite = finite && all_finite<Arch, T>(rows_of<float>{scales, count, count}, 1);
            });
        return finite;
      },
      [](const void* operand, range keys, piece_places& to) noexcept {
        to.add(static_cast<const Operand*>(operand)->all, keys);
      },
      [](const void* operand, index_type rows, index_type block) noexcept {
        return tokens_ahead_of(static_cast<const Operand*>(operand)->all, rows, block);
      }};

  const void* values_;
  const functions* of_;
};

/// What a walk is about, whatever its types.
template <class Arch, class T>
struct row_job {
  row_block at;
  range span;  // keys: all, or one split of them
  row_queries_ref<Arch, T> q;
  index_type dim;
  T scale;  // of Q
  row_scorer_ref<Arch, T> scorer;
  row_rules_ref<Arch, T> rules;
  row_memory<T> memory;
  bool from_memory;                                 // K and V come from there, and are asked for
  bool drops = false;                               // whether weights are dropped as the rules say
  const row_values_ref<Arch, T>* values = nullptr;  // none: weights are summed with something else
  index_type logits_stride = 0;                     // of memory.logits

  /// A panel's Q.
  void open(const row_panel<Arch, T>& panel) const noexcept {
    q.copy(panel, scale);
    if (from_memory) panel.clear_rows_of_none();
  }
};

/// The blocks of keys of a job that some of its rows see, one after another.
template <class Arch, class T>
class row_key_blocks {
  static constexpr index_type size = geometry<Arch>::few_rows_block;

 public:
  range keys = {0, 0};
  coverage covered = coverage::none;  // what the masks say of all these cells

  explicit row_key_blocks(const row_job<Arch, T>& job) noexcept
      : job_(job),
        reach_(job.rules.reach(job.at.queries, job.span)),
        end_(job.span.first + std::max<index_type>(reach_.first - job.span.first, 0) / size * size),
        skips_(job.rules.skips() && job.memory.logits == nullptr) {}

  /// Goes to the next block; false if there is none.
  bool next() noexcept {
    for (range block = after(end_); block.first < reach_.last; block = after(end_)) {
      end_ = block.last;
      keys = skips_ ? job_.rules.shown(job_.at.queries, block) : block;
      covered = job_.rules.cover(job_.at.queries, keys);
      if (covered == coverage::none) continue;
      finite_ = true, known_ = !job_.drops && !job_.rules.hides() && covered == coverage::full;
      if (job_.from_memory) find_places();
      return true;
    }
    return false;
  }

  /// S = Q K^T for all rows.
  void dot(const row_panels<Arch, T>& all) noexcept { job_.scorer.dot(all, keys, job_.scale, beside_keys_); }
  /// Whether all that weights of 0 are multiplied by is finite: looked up only where there may be some.
  bool finite_values() noexcept {
    if (!known_ && job_.values != nullptr) finite_ = job_.values->finite(keys);
    known_ = true;
    return finite_;
  }
  /// O = O * shrink + P V for all rows.
  void add_values(const row_panels<Arch, T>& all) noexcept {
    job_.values->add(all, keys, finite_values(), beside_values_);
  }

 private:
  /// The next block that the masks may show. (Where logits are kept any: what reads these goes by all blocks
  /// that are not hidden.)
  range after(index_type end) const noexcept {
    if (skips_ && end < reach_.last) {
      const index_type key = std::min(job_.rules.next(job_.at.queries, end), job_.span.last);
      end += (key - end) / size * size;
    }
    return {end, std::min(end + size, job_.span.last)};
  }
  // Where memory is the limit, lines are asked for in the order in which they are read: K and V of this
  // block, K of the next; how much before, tokens_ahead says. Where it is not, nothing is: from L2 asking
  // took a tenth to a quarter of the time, and from L3 hardware does as well alone (4 heads of 1,024 keys of
  // 64 21 us in place of 28, 32/8 x 512 x 128 53 in place of 70, with lines asked for 8 KB ahead; Zen 5). (On
  // an Emerald Rapids with 260 MB of L3 heads of 400 and 1,500 keys took 12 % less without either.)
  void find_places() noexcept {
    beside_keys_ = beside_values_ = {};
    const range next = next_keys();
    if (job_.values == nullptr) return job_.scorer.add_places(next, beside_keys_);
    const index_type rows = job_.at.rows.size(), some_keys = job_.scorer.ahead(rows, keys.size()),
                     some_values = job_.values->ahead(rows, keys.size());
    job_.scorer.add_places({keys.first + some_keys, keys.last}, beside_keys_);
    job_.values->add_places({keys.first, keys.first + some_keys}, beside_keys_);
    job_.values->add_places({keys.first + some_values, keys.last}, beside_values_);
    job_.scorer.add_places({next.first, std::min(next.first + some_values, next.last)}, beside_values_);
    beside_keys_.ahead = some_keys < keys.size() ? some_keys : 0;
    beside_values_.ahead = some_values < keys.size() ? some_values : 0;
  }

  range next_keys() const noexcept {
    const range block = after(end_);
    return skips_ ? job_.rules.shown(job_.at.queries, block) : block;
  }

  const row_job<Arch, T>& job_;
  range reach_;
  index_type end_;  // of the last block
  bool skips_, known_ = false, finite_ = true;
  piece_places beside_keys_, beside_values_;
};

/// S = score(S), hidden cells -inf; and the largest in each lane. All rows' logits are left where they are
/// wanted.
template <class Arch, class T>
FOVEA_NOINLINE void apply_rules(const row_job<Arch, T>& job, const row_panel<Arch, T>& s,
                                const row_key_blocks<Arch, T>& block) noexcept {
  const range keys = block.keys;
  for (index_type r = 0; r < s.count(); ++r) {
    const index_type head = s.head(r), query = s.query(r);
    job.rules.apply(head, query, block.covered, keys, s.logits(r)).store_aligned(s.factor(r));
    if (job.memory.logits == nullptr) continue;
    const index_type row = head * job.at.queries.size() + query - job.at.queries.first;
    std::memcpy(job.memory.logits + row * job.logits_stride + keys.first, s.logits(r),
                static_cast<std::size_t>(logits_a_row<T>(keys.size())) * sizeof(T));
  }
}

/// Dropout of weights.
template <class Arch, class T>
void drop(const row_job<Arch, T>& job, const row_panel<Arch, T>& p, range keys) noexcept {
  if (job.drops)
    for (index_type r = 0; r < p.count(); ++r) job.rules.drop(p.head(r), p.query(r), keys, p.logits(r));
}

}  // namespace kernel
FOVEA_NAMESPACE_END
