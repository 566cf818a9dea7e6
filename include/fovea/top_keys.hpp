// fovea/top_keys.hpp - the keys that matter most to each query by an index of their own, and attention over
// those alone.
//
//   const auto chosen = fovea::top_keys(index_q, index_w, index_keys, {.heads = 64, .count = 2048});
//   attend.into(o, q, fovea::gathered{cache, chosen});      // q: a batch entry a query, as chosen has lists
//
// DeepSeek Sparse Attention (DeepSeek-V3.2-Exp, 2025): I_ij = sum_h w_ih ReLU(q_ih . k_j), the largest of
// each query, and one softmax over their keys.
#pragma once

#include <fovea/element.hpp>
#include <fovea/executor/concept.hpp>
#include <fovea/kernel/sweep/index_scores.hpp>
#include <fovea/kv_cache/gathered.hpp>
#include <fovea/kv_cache/memory.hpp>
#include <fovea/plan/operands.hpp>
#include <fovea/plan/working_memory.hpp>
#include <fovea/view/tensor.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

FOVEA_NAMESPACE_BEGIN

struct top_keys_options {
  index_type heads = any_heads;  // of q, where its type does not tell
  index_type count = 2048;       // keys of a query; all it may see, where these are fewer
  bool causal = true;            // the queries are the last tokens of the keys; else each sees all
  executor_ref executor = {};
};

namespace choosing {

/// The keys with the largest scores among those that were added: of equal ones the earlier, NaN the largest.
template <class T>
class best_keys {
 public:
  explicit best_keys(index_type count)
      : count_(static_cast<std::size_t>(count)), most_(count_ + std::max(count_, fewest_between)) {}

  /// Scores of the keys from `first` on; blocks of keys may come in any order.
  void add(index_type first, const T* scores, index_type keys) {
    const bool follows = first >= next_;
    in_order_ &= follows, next_ = std::max(next_, first + keys);
    add(scores, static_cast<std::size_t>(keys), follows,
        [first](std::size_t j) { return first + static_cast<index_type>(j); });
  }
  void add(const best_keys& other) {
    if (other.size_ == 0) return;
    const bool follows = other.in_order_ && other.keys_[0] >= next_;
    in_order_ &= follows, next_ = std::max(next_, other.next_);
    add(other.scores_.data(), other.size_, follows, [&other](std::size_t j) { return other.keys_[j]; });
  }
  /// In ascending order.
  std::vector<index_type> take() {
    order(), keep();
    keys_.resize(size_);
    return std::move(keys_);
  }

 private:
  /// Keys in ascending order, which may all `follow` those before. What is less than the least of `count` can
  /// be none of the best, nor what equals it and follows. (No branch on a score: those that are kept come at
  /// random.)
  template <class KeyOf>
  void add(const T* scores, std::size_t keys, bool follows, const KeyOf& key_of) {
    for (std::size_t j = 0; j < keys;) {
      const std::size_t last = std::min(keys, j + (most_ - size_));
      if (scores_.size() < size_ + last - j) {
        scores_.resize(std::min(most_, 2 * (size_ + last - j)));
        keys_.resize(scores_.size());
      }
      T* const to = scores_.data();
      index_type* const number = keys_.data();
      std::size_t end = size_;
      for (; j < last; ++j) {
        const T s = scores[j] != scores[j] ? std::numeric_limits<T>::infinity() : scores[j];
        to[end] = s, number[end] = key_of(j);
        end += static_cast<std::size_t>(!full_ | (s > least_) | (!follows & (s == least_)));
      }
      size_ = end;
      if (size_ == most_) keep(), in_order_ = follows || j == keys;
    }
  }

  /// Keys in ascending order, as they are where they came so.
  void order() {
    if (std::exchange(in_order_, true)) return;
    std::vector<std::pair<index_type, T>> all(size_);
    for (std::size_t i = 0; i < size_; ++i) all[i] = {keys_[i], scores_[i]};
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (std::size_t i = 0; i < size_; ++i) keys_[i] = all[i].first, scores_[i] = all[i].second;
  }

  /// The best of what is there.
  void keep() {
    if (size_ <= count_) return;
    order();
    least_ = nth_largest(), full_ = true;
    std::size_t equal = count_, end = 0;  // those of the least that are kept: the first
    for (std::size_t i = 0; i < size_; ++i) equal -= static_cast<std::size_t>(scores_[i] > least_);
    for (std::size_t i = 0; i < size_; ++i) {
      const bool is_least = scores_[i] == least_, kept = (scores_[i] > least_) | (is_least & (equal > 0));
      equal -= static_cast<std::size_t>(is_least & kept);
      scores_[end] = scores_[i], keys_[end] = keys_[i];
      end += static_cast<std::size_t>(kept);
    }
    size_ = end;
  }

  /// The count_-th largest score, bit by bit: as integers numbers are ordered as they are, negative ones the
  /// other way round. Each bit is a count over all, in registers: of 4,096 floats 3 us, where
  /// std::nth_element, which guesses a branch a number, takes 60.
  T nth_largest() {
    using bits = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
    static_assert(sizeof(bits) == sizeof(T));
    constexpr bits magnitude = std::numeric_limits<bits>::max();
    const auto ordered = [](bits b) { return b < 0 ? b ^ magnitude : b; };
    integers_.resize(size_);
    for (std::size_t i = 0; i < size_; ++i) integers_[i] = ordered(std::bit_cast<bits>(scores_[i] + T(0)));
    const auto reaches = [&](bits least) {  // as many as are wanted
      std::size_t count = 0;
      for (const bits x : integers_) count += x >= least ? 1 : 0;
      return count >= count_;
    };
    bits nth = reaches(0) ? 0 : std::numeric_limits<bits>::min();
    for (bits bit = magnitude / 2 + 1; bit > 0; bit /= 2)
      if (reaches(nth + bit)) nth += bit;
    return std::bit_cast<T>(ordered(nth));
  }

  static constexpr std::size_t fewest_between = 1024;  // keys between two looks for the least
  std::size_t count_, most_, size_ = 0;
  std::vector<T> scores_;
  std::vector<index_type> keys_;
  std::vector<std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>> integers_;
  bool full_ = false;  // then no score below `least_` is of use
  T least_ = 0;
  index_type next_ = 0;  // behind all keys that were added
  bool in_order_ = true;
};

/// A call's queries, weights and keys, checked.
template <class QE, class WE, class Keys>
struct index_call {
  sequences<const QE> q;
  sequences<const WE> w;
  Keys k;
  index_type queries = q.tokens(0), keys = k.tokens(0), heads = q.heads();

  void check(bool causal) const {
    const auto same = [](const char* a, const char* what, index_type has, const char* b, index_type other) {
      if (has != other) reject(a, " has ", has, " ", what, " but ", b, " has ", other);
    };
    if (q.batches() != 1) reject("an index is of one sequence, q has ", q.batches());
    same("w", "sequences", w.batches(), "q", 1), same("k", "sequences", k.batches(), "q", 1);
    same("w", "tokens", w.tokens(0), "q", queries);
    same("w", "numbers a token", w.dim() * w.heads(), "q's heads", heads);
    same("k", "heads", k.heads(), "an index", 1), same("k", "dimensions a head", k.dim(), "q", q.dim());
    if (causal && queries > keys) reject("q has ", queries, " tokens, more than the ", keys, " of k");
  }
  /// The weight of head h: w is tokens x heads, or has heads of one number.
  const WE* weights(index_type t) const noexcept { return w.head(0, 0).at(t); }
  index_type weight_stride() const noexcept { return w.heads() > 1 ? w.all.head_stride : w.all.dim_stride; }
  matrix_view<const QE> heads_of(index_type t) const noexcept {
    const auto first = q.head(0, 0);
    return {first.at(t), heads, first.cols, q.all.head_stride, first.col_stride};
  }
};

template <class Q, class W, class K>
auto index_call_of(const Q& q, const W& w, const K& k, const top_keys_options& o) {
  const auto qs = read_only(view_of(q, o.heads, "q"));
  const auto ws = read_only(view_of(w, any_heads, "w"));
  const auto& stored = keys_of(k);
  auto ks = read_only(view_of(stored, any_heads, "k"));
  using QE = element_of<Q>;
  using WE = element_of<W>;
  const index_call<QE, WE, decltype(ks)> call{qs, ws, ks};
  call.check(o.causal);
  return call;
}

/// f(query, keys, scores) for blocks of the keys `span` that query t sees.
template <class Arch, class T, class Call, class F>
void score_span(const Call& call, index_type t, range span, std::byte* memory, const F& f) {
  const auto head = call.k.head(0, 0);
  using QE = typename std::remove_cvref_t<decltype(call.heads_of(0))>::element;
  using head_type = std::remove_const_t<decltype(head)>;
  kernel::index_scores<Arch, T, head_type, kernel::pairs_channels<Arch, T, QE, head_type>> scores(
      call.heads_of(t), call.weights(t), call.weight_stride(), head, memory);
  scores.each_block(span, f);
}

/// How many jobs have memory at a time: see share_scratch.
struct scratches {
  index_type workers = 1;
  bool scratch_a_task = false;
};

/// run(t, span, memory, job) for each query and 16,384 of its keys at a time: so is one query's work shared.
template <class Arch, class T, class Call, class Run>
void each_span(const Call& call, const top_keys_options& o, const Run& run) {
  constexpr index_type keys_a_job = 16384;
  const index_type spans = std::max<index_type>(1, ceil_div(call.keys, keys_a_job));
  const auto head = call.k.head(0, 0);
  const index_type each =
      kernel::part_bytes(kernel::index_scores<Arch, T, std::remove_const_t<decltype(head)>, false>::bytes(
          call.heads, call.q.dim()));
  const index_type jobs = size_product("top_keys' jobs", call.queries, spans);
  scratches rooms;
  share_scratch(rooms, o.executor.workers(), jobs);
  const caching::zeroed_memory memory(size_product("top_keys' scratch", each, rooms.workers));
  o.executor.for_each(jobs, [&](index_type i, index_type worker) {
    const index_type t = i / spans, seen = o.causal ? call.keys - call.queries + t + 1 : call.keys;
    const range span{i % spans * keys_a_job, std::min((i % spans + 1) * keys_a_job, seen)};
    if (!span.empty()) run(t, span, memory.get() + scratch_number(rooms, i, worker) * each, i);
  });
}

}  // namespace choosing

/// I_ij = sum_h w_ih ReLU(q_ih . k_j), queries x keys, in float (double where an element is); -inf where
/// .causal hides a key. q, w, k: as for top_keys. O(Lq Lk) memory: to look at.
template <class Arch = xsimd::default_arch, viewable Q, viewable W, class K>
auto index_scores(const Q& q, const W& w, const K& k, const top_keys_options& o) {
  const auto call = choosing::index_call_of(q, w, k, o);
  using T = common_compute_t<element_of<Q>, element_of<std::remove_cvref_t<decltype(keys_of(k))>>>;
  tensor<T> scores(1, 1, call.queries, call.keys);
  std::fill_n(scores.data(), scores.size(), -std::numeric_limits<T>::infinity());
  choosing::each_span<Arch, T>(call, o, [&](index_type t, range span, std::byte* memory, index_type) {
    choosing::score_span<Arch, T>(call, t, span, memory, [&](range keys, const T* of) {
      std::copy_n(of, keys.size(), scores.data() + t * call.keys + keys.first);
    });
  });
  return scores;
}

/// For each query the o.count keys with the largest index scores I_ij (see index_scores), a list in
/// ascending order; of equal scores the earlier keys, and a NaN counts as the largest. q: index queries, an
/// Eigen matrix (Lq x heads * d) or a tensor of one sequence; w: their weights, Lq x heads; k: index keys
/// (Lk, d) of one head, or a cache of them (one without values: latent_cache with no rotary part). Any
/// elements; bf16 queries and keys are multiplied as they are where the ISA can. Throws
/// std::invalid_argument, with both numbers, where sizes do not fit or count is below 1. Cost: 2 Lq Lk heads
/// d operations; memory 16 bytes (24 in double) for each of 2 count, or of count + 1,024 where those are
/// more, a query and 16,384 keys, beyond the lists. The same for any executor. (One query over 65,536 tokens
/// of 128 heads x 576/512, 2,048 of them chosen by 64 index heads of 128 and attended to: 0.083 to 0.087 of
/// the time of all in float, of whose operations the index has 0.059 and attention 0.031; with an index in
/// bf16 0.059, by 32 index heads in float 0.064. The index takes 0.87 to 0.89 of the multiply-add peak, 0.02
/// of it the choice. Of the rest a tenth is copies of rows that lie apart; asking for these 2 to 32 rows
/// ahead gained nothing. Zen 5.)
template <class Arch = xsimd::default_arch, viewable Q, viewable W, class K>
key_lists top_keys(const Q& q, const W& w, const K& k, const top_keys_options& o) {
  const auto call = choosing::index_call_of(q, w, k, o);
  if (o.count < 1) reject("top_keys' count is ", o.count, ", fewer than 1");
  using T = common_compute_t<element_of<Q>, element_of<std::remove_cvref_t<decltype(keys_of(k))>>>;
  const index_type spans = std::max<index_type>(1, ceil_div(call.keys, index_type(16384)));
  const bool alone = o.executor.workers() == 1;
  std::vector<choosing::best_keys<T>> best(static_cast<std::size_t>(call.queries * spans),
                                           choosing::best_keys<T>(o.count));
  choosing::each_span<Arch, T>(call, o, [&](index_type t, range span, std::byte* memory, index_type job) {
    // On one thread the keys come in order, and what was found before says what need not be kept.
    auto& mine = best[static_cast<std::size_t>(alone ? t * spans : job)];
    choosing::score_span<Arch, T>(call, t, span, memory,
                                  [&](range keys, const T* of) { mine.add(keys.first, of, keys.size()); });
  });
  key_lists lists;
  for (index_type t = 0; t < call.queries; ++t) {
    auto& all = best[static_cast<std::size_t>(t * spans)];
    for (index_type i = 1; i < spans; ++i) all.add(best[static_cast<std::size_t>(t * spans + i)]);
    lists.add(all.take());
  }
  return lists;
}

FOVEA_NAMESPACE_END
