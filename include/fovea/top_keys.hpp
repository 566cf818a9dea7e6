// fovea/top_keys.hpp - the keys that matter most to each query by an index of their own, and attention over
// those alone.
//
//   const auto chosen = fovea::top_keys(index_q, index_w, index_keys, {.heads = 64, .count = 2048});
//   attend.into(o, q, fovea::gathered{cache, chosen});      // q: a batch entry a query, as chosen has lists
//
// DeepSeek Sparse Attention (DeepSeek-V3.2-Exp, 2025): I_ij = sum_h w_ih ReLU(q_ih . k_j), the largest of
// each query, and one softmax over their keys.
#pragma once

#include <fovea/executor/concept.hpp>
#include <fovea/kernel/sweep/index_scores.hpp>
#include <fovea/kv_cache/gathered.hpp>
#include <fovea/kv_cache/memory.hpp>
#include <fovea/plan/operands.hpp>
#include <fovea/plan/working_memory.hpp>
#include <fovea/view/tensor.hpp>

#include <algorithm>
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
  explicit best_keys(index_type count) : count_(static_cast<std::size_t>(count)) {}

  /// Scores of the keys from `first` on; keys may come in any order.
  void add(index_type first, const T* scores, index_type keys) {
    for (index_type j = 0; j < keys; ++j)
      if (const T s = scores[j];
          !full_ || !(s <= least_.score) || (s == least_.score && first + j < least_.key)) {
        all_.push_back({s != s ? std::numeric_limits<T>::infinity() : s, first + j});
        if (all_.size() == 2 * count_) keep();
      }
  }
  void add(const best_keys& other) {
    for (const auto& x : other.all_) {
      all_.push_back(x);
      if (all_.size() == 2 * count_) keep();
    }
  }
  /// In ascending order.
  std::vector<index_type> take() {
    keep();
    std::vector<index_type> keys;
    for (const auto& x : all_) keys.push_back(x.key);
    std::sort(keys.begin(), keys.end());
    return keys;
  }

 private:
  struct scored {
    T score;
    index_type key;
    bool operator<(const scored& other) const noexcept {
      return score > other.score || (score == other.score && key < other.key);
    }
  };
  void keep() {
    if (all_.size() <= count_) return;
    const auto last = all_.begin() + static_cast<std::ptrdiff_t>(count_);
    std::nth_element(all_.begin(), last - 1, all_.end());
    all_.erase(last, all_.end());
    least_ = all_.back(), full_ = true;
  }

  std::size_t count_;
  std::vector<scored> all_;
  bool full_ = false;  // then nothing behind `least_` is of use
  scored least_ = {};
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
/// std::invalid_argument, with both numbers, where sizes do not fit or count is below 1. Cost: 2 Lq Lk
/// heads d operations; memory 32 count bytes a query and 16,384 keys, beyond the lists. The same for any
/// executor. (One query over 65,536 tokens of 128 heads x 576/512, 2,048 of them chosen by 32 index heads
/// of 128 and attended to: 0.068 of the time of all in float, 0.066 in bf16 with rounded weights. By 64
/// index heads 0.092, of whose operations an index in float has 0.059 and attention 0.031; with an
/// index in bf16 beside latents in float 0.065, of which the choice itself is 0.004. Zen 5.)
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
