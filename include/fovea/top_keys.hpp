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
#include <fovea/kernel/sweep/index_bounds.hpp>
#include <fovea/kv_cache/gathered.hpp>
#include <fovea/kv_cache/memory.hpp>
#include <fovea/plan/operands.hpp>
#include <fovea/plan/working_memory.hpp>
#include <fovea/top_keys/best_keys.hpp>
#include <fovea/view/tensor.hpp>

#include <algorithm>
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

/// A call's queries, weights and keys, checked.
template <class QE, class WE, class Keys>
struct index_call {
  using query_element = QE;
  using head = std::remove_cvref_t<decltype(std::declval<const Keys&>().head(0, 0))>;
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

/// Scores of a call's keys: those of one head, or of some of its rows.
template <class Arch, class T, class Call, class Head>
using scores_of =
    kernel::index_scores<Arch, T, Head, kernel::pairs_channels<Arch, T, typename Call::query_element, Head>>;

/// f(keys, scores) for blocks of the keys `span` of a head that query t sees.
template <class Arch, class T, class Call, class Head, class F>
void score_span(const Call& call, index_type t, const Head& head, range span, std::byte* memory, const F& f) {
  scores_of<Arch, T, Call, Head> scores(call.heads_of(t), call.weights(t), call.weight_stride(), head,
                                        memory);
  scores.each_block(span, f);
}

/// Whether scores in float are bounded by products of rounded numbers: not those of pairs as they are stored.
template <class Arch, class T, class Call>
inline constexpr bool bounds_scores = false;
template <kernel::multiplies_pairs Arch, class Call>
inline constexpr bool bounds_scores<Arch, float, Call> =
    !kernel::pairs_channels<Arch, float, typename Call::query_element, typename Call::head>;

/// Bytes that a job needs: of scores and of bounds, which are not kept at the same time.
template <class Arch, class T, class Call>
index_type job_bytes(const Call& call) noexcept {
  const index_type heads = call.heads, dim = call.q.dim();
  index_type bytes = kernel::index_scores<Arch, T, typename Call::head, false>::bytes(heads, dim);
  if constexpr (bounds_scores<Arch, T, Call>)
    bytes = std::max(bytes, kernel::index_bounds<Arch, typename Call::head>::bytes(heads, dim));
  return kernel::part_bytes(bytes);
}

/// The keys of a span that may be among the best, by what their scores are at most.
template <class Arch, class T, class Call>
std::vector<index_type> possible_keys(const Call& call, index_type t, range span, std::byte* memory,
                                      best_keys<T> reached) {
  const auto head = call.k.head(0, 0);
  std::vector<T> most(static_cast<std::size_t>(span.size()));
  kernel::index_bounds<Arch, typename Call::head> bounds(call.heads_of(t), call.weights(t),
                                                         call.weight_stride(), head, memory);
  bounds.each_block(span, [&](range keys, const T* low, const T* high) {
    reached.add(keys.first, low, keys.size());
    std::copy_n(high, keys.size(), most.begin() + (keys.first - span.first));
  });
  const T least = reached.least();
  std::size_t count = 0;
  for (const T x : most) count += x < least ? 0 : 1;
  std::vector<index_type> possible(count + 1);
  std::size_t end = 0;
  for (std::size_t j = 0; j < most.size(); ++j) {
    possible[end] = span.first + static_cast<index_type>(j);
    end += static_cast<std::size_t>(!(most[j] < least));
  }
  possible.resize(count);
  return possible;
}

/// Adds those of the keys `span` that may be among query t's best. Where few can be, bounds on all scores
/// come first, and the scores of those that are left: the same keys are chosen. (2,048 of 65,536 by 64 random
/// heads of 128: 4,512 are left, the whole takes 3.4 to 3.5 ms in place of 4.4 to 4.5: bounds 2.6, the scores
/// that are left 0.5. Where half or more are left, all scores cost less: up to 0.6 of their time is lost.)
template <class Arch, class T, class Call>
void add_span(const Call& call, index_type t, range span, index_type count, std::byte* memory,
              best_keys<T>& best) {
  const auto head = call.k.head(0, 0);
  if constexpr (bounds_scores<Arch, T, Call>)
    if (span.size() >= 2048 && count <= (span.size() + best.size()) / 8) {
      const auto keys = possible_keys<Arch, T>(call, t, span, memory, best);
      if (static_cast<index_type>(keys.size()) < span.size() / 2) {
        const caching::gathered_head<typename Call::head> of_keys{head, keys};
        score_span<Arch, T>(call, t, of_keys, {0, of_keys.rows}, memory, [&](range part, const T* scores) {
          best.add(std::span(keys).subspan(static_cast<std::size_t>(part.first),
                                           static_cast<std::size_t>(part.size())),
                   scores);
        });
        return;
      }
    }
  score_span<Arch, T>(call, t, head, span, memory,
                      [&](range keys, const T* of) { best.add(keys.first, of, keys.size()); });
}

/// How many jobs have memory at a time: see share_scratch.
struct scratches {
  index_type workers = 1;
  bool scratch_a_task = false;
};

/// How many keys of one query are a job: its work is shared by several threads.
inline index_type keys_a_job(const executor_ref& executor) noexcept {
  return executor.workers() == 1 ? 65536 : 16384;
}

/// run(t, span, memory, job) for each query and `step` of its keys at a time.
template <class Arch, class T, class Call, class Run>
void each_span(const Call& call, const top_keys_options& o, index_type step, const Run& run) {
  const index_type spans = std::max<index_type>(1, ceil_div(call.keys, step));
  const index_type each = job_bytes<Arch, T>(call);
  const index_type jobs = size_product("top_keys' jobs", call.queries, spans);
  scratches rooms;
  share_scratch(rooms, o.executor.workers(), jobs);
  const caching::zeroed_memory memory(size_product("top_keys' scratch", each, rooms.workers));
  o.executor.for_each(jobs, [&](index_type i, index_type worker) {
    const index_type t = i / spans, seen = o.causal ? call.keys - call.queries + t + 1 : call.keys;
    const range span{i % spans * step, std::min((i % spans + 1) * step, seen)};
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
  const index_type step = choosing::keys_a_job(o.executor);
  choosing::each_span<Arch, T>(call, o, step, [&](index_type t, range span, std::byte* memory, index_type) {
    choosing::score_span<Arch, T>(call, t, call.k.head(0, 0), span, memory, [&](range keys, const T* of) {
      std::copy_n(of, keys.size(), scores.data() + t * call.keys + keys.first);
    });
  });
  return scores;
}

/// For each query the o.count keys with the largest index scores I_ij (see index_scores), a list in
/// ascending order; of equal scores the earlier keys, and a NaN counts as the largest. q: index queries,
/// an Eigen matrix (Lq x heads * d) or a tensor of one sequence; w: their weights, Lq x heads; k: index
/// keys (Lk, d) of one head, or a cache of them (one without values: latent_cache with no rotary part).
/// Any elements; bf16 queries and keys are multiplied as they are where the ISA can. Throws
/// std::invalid_argument, with both numbers, where sizes do not fit or count is below 1. Cost: 2 Lq Lk
/// heads d operations; memory 16 bytes (24 in double) for each of 2 count, or of count + 1,024 where
/// those are more, a query and 16,384 keys, beyond the lists, and 12 for each of up to 65,536 keys a
/// thread. The same for any executor. Where the ISA multiplies pairs of bf16 and at most an eighth of the
/// keys are wanted, float scores are first bounded by products of rounded numbers
/// (kernel/sweep/index_bounds.hpp) and made of the keys alone that may be among the best: the choice is
/// the same. (One query over 65,536 tokens of 128 heads x 576/512, 2,048 of them chosen by 64 index heads
/// of 128 and attended to, over the time of all in float: 0.072 to 0.073, in turn with 0.081 to 0.082 of all
/// scores made; of the operations of all keys those scores are 0.059 and attention 0.031. All
/// scores take 0.87 to 0.89 of the multiply-add peak, 0.02 of it the choice. Of attention a tenth is copies
/// of rows that lie apart; asking for these 2 to 32 rows ahead, or for the next block's beside the products,
/// gained nothing. Zen 5.)
template <class Arch = xsimd::default_arch, viewable Q, viewable W, class K>
key_lists top_keys(const Q& q, const W& w, const K& k, const top_keys_options& o) {
  const auto call = choosing::index_call_of(q, w, k, o);
  if (o.count < 1) reject("top_keys' count is ", o.count, ", fewer than 1");
  using T = common_compute_t<element_of<Q>, element_of<std::remove_cvref_t<decltype(keys_of(k))>>>;
  const index_type step = choosing::keys_a_job(o.executor),
                   spans = std::max<index_type>(1, ceil_div(call.keys, step));
  const bool alone = o.executor.workers() == 1;
  std::vector<choosing::best_keys<T>> best(static_cast<std::size_t>(call.queries * spans),
                                           choosing::best_keys<T>(o.count));
  const auto add = [&](index_type t, range span, std::byte* memory, index_type job) {
    // On one thread the keys come in order, and what was found before says what need not be kept.
    auto& mine = best[static_cast<std::size_t>(alone ? t * spans : job)];
    choosing::add_span<Arch, T>(call, t, span, o.count, memory, mine);
  };
  choosing::each_span<Arch, T>(call, o, step, add);
  key_lists lists;
  for (index_type t = 0; t < call.queries; ++t) {
    auto& all = best[static_cast<std::size_t>(t * spans)];
    for (index_type i = 1; i < spans; ++i) all.add(best[static_cast<std::size_t>(t * spans + i)]);
    lists.add(all.take());
  }
  return lists;
}

FOVEA_NAMESPACE_END
