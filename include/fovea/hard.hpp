// fovea/hard.hpp - hard attention: each row looks at one key (or k), and reads its value alone.
//
//   o_i = v_a(i),   a(i) = argmax_j s_ij,   or a(i) ~ softmax(s_i),   s = score(scale * Q K^T)
//
//   fovea::hard<float, 8> look;                                          // as attention<float, 8>
//   Matrix o = look(q, k, v, fovea::argmax{}, fovea::causal);            // the largest logit's value
//   auto seen = look.with_log_p(q, k, v, fovea::sampled{.seed = step});   // {out, picks, log_p, lse}
//   Matrix best = look(q, k, v, fovea::top<4>{});                        // softmax over the 4 largest
//
// Hard attention over the places of a picture: Mnih, Heess, Graves & Kavukcuoglu, "Recurrent models of visual
// attention", arXiv:1406.6247; Xu et al., "Show, attend and tell", arXiv:1502.03044, section 4.1.
//
// Masks, scores, scorers, views, elements, caches, executors and errors are those of attention.hpp. Beside
// them:
//
// * One pass over the keys; of V only the rows that were picked are read, so that a NaN in any other does not
//   reach a result. A row that sees a NaN logit picks nothing, and is NaN.
// * A row that sees no key picks nothing: pick -1, o = 0, log_p = 0, lse -inf.
// * A sink picks nothing as well, with its softmax probability, or where its logit is larger than all others;
//   log_p is then its own. Of top<K> it takes no place, but its part of the softmax over the picks.
// * Positions are exact up to 2^31 - 1 keys.
// * Dropout takes no part.
// * A plan and a workspace may stand among the modifiers, as in attention's calls; see plan_for.
// * The same bits for any executor. Samples are a function of (seed, sequence, head, query, key): see
//   sampled.
#pragma once

#include <fovea/attention.hpp>
#include <fovea/hard/decoded_tokens.hpp>
#include <fovea/hard/pick_rows.hpp>
#include <fovea/hard/reinforce.hpp>

FOVEA_NAMESPACE_BEGIN

/// What hard<...>::with_log_p returns. picks: batch x heads x Lq x choice.picks, a key or -1; log_p, like
/// with_lse's LSE with a column a pick, ln softmax(s) at the picks; lse: of all keys and the sink.
template <class Out, class L>
struct picked {
  Out out;
  tensor<index_type> picks;
  L log_p, lse;
};

/// T, Heads, KVHeads, options: as attention has them. `choice`: argmax{}, sampled{.seed = n} or top<K>{};
/// `mods`: masks, scores, at most one sink and one scorer. Cost: 2 Lq Lk d operations a head, less what masks
/// hide in whole blocks, and the choice's; dv for each pick. Memory O(Lq) beyond the arguments. (On a Zen 5
/// with one thread: 1x8x1024x64 takes 6.1 ms with argmax, 22.4 sampled, where attention takes 9.6; one query,
/// 32/8 x 4096 x 128, takes 0.38, 0.71 and 1.02.)
template <class T, int Heads = dynamic_heads, int KVHeads = Heads, class Arch = xsimd::default_arch>
class hard : public attention_inside<T, Heads, KVHeads, Arch> {
  using inside = attention_inside<T, Heads, KVHeads, Arch>;
  template <class... X>
  using compute_of = typename inside::template compute_of<X...>;
  using inside::heads_of, inside::kv_heads_of, inside::options_;

 public:
  using inside::inside;

  /// O, of the kind and storage order of q.
  template <class Q, class K, class V, choice_like Choice, class... Mods>
    requires(!key_value_cache<K>)
  auto operator()(const Q& q, const K& k, const V& v, const Choice& choice, const Mods&... mods) const {
    auto out = make_like<T>(q, heads_of(q), view_of(v, kv_heads_of(heads_of(q)), "v").dim());
    into(shaped_like(q, out), q, k, v, choice, mods...);
    return out;
  }
  /// Queries that are the last tokens of a cache, here and below.
  template <class Q, key_value_cache Cache, choice_like Choice, class... Mods>
  auto operator()(const Q& q, const Cache& cache, const Choice& choice, const Mods&... mods) const {
    return (*this)(q, cache.keys(), cache.values(), choice, mods...);
  }

  template <class Q, class... X>
  void operator()(const Q&, const X&...) const {
    static_assert(never<Q>,
                  "fovea: look takes q, k, v (or q and a cache), then a choice: argmax{}, "
                  "sampled{.seed = n} or top<K>{}; then masks and scores");
  }

  /// Writes O into `o`, which has its size and any element, and may be q itself.
  template <class O, class Q, class K, class V, choice_like Choice, class... Mods>
    requires(!key_value_cache<K>)
  void into(O&& o, const Q& q, const K& k, const V& v, const Choice& choice, const Mods&... mods) const {
    const auto out = view_of(o, heads_of(q), "o");
    look<false>(
        out, q, k, v, choice, [](auto&&...) {}, mods...);
  }
  template <class O, class Q, key_value_cache Cache, choice_like Choice, class... Mods>
  void into(O&& o, const Q& q, const Cache& cache, const Choice& choice, const Mods&... mods) const {
    into(o, q, cache.keys(), cache.values(), choice, mods...);
  }

  /// The keys alone, batch x heads x Lq x choice.picks; -1: none. k may be a cache; no value is read.
  template <class Q, class K, choice_like Choice, class... Mods>
  tensor<index_type> picks(const Q& q, const K& k, const Choice& choice, const Mods&... mods) const {
    const auto p = problem_of_keys(q, k, mods...);
    const auto plan = plan_of<Choice>(p, 0);
    const auto memory = memory_for(plan, p, mods...);
    tensor<index_type> found = no_picks(p.q, Choice::picks);
    pick_rows<Arch, false>(p, plan, memory, options_.executor, choice,
                           [&](index_type b, index_type h, index_type i, const auto& row, auto) {
                             for (int n = 0; n < row.found; ++n) found(b, h, i, n) = row.keys[n];
                           });
    return found;
  }

  /// O, the picks, their log-probabilities and the LSE, in the same pass; one exponential a logit more.
  template <class Q, class K, class V, choice_like Choice, class... Mods>
    requires(!key_value_cache<K>)
  auto with_log_p(const Q& q, const K& k, const V& v, const Choice& choice, const Mods&... mods) const {
    using compute = compute_of<Q, K, V>;
    const index_type heads = heads_of(q);
    auto out = make_like<T>(q, heads, view_of(v, kv_heads_of(heads), "v").dim());
    auto log_p = make_like<compute>(q, heads, Choice::picks), lse = make_like<compute>(q, heads, 1);
    auto&& like_q = shaped_like(q, out);
    auto&& log_p_like_q = shaped_like(q, log_p);
    auto&& lse_like_q = shaped_like(q, lse);
    const auto to_out = view_of(like_q, heads, "o");
    const auto to_log_p = view_of(log_p_like_q, heads, "log_p"), to_lse = view_of(lse_like_q, heads, "lse");
    fill_rows_of_none(to_log_p), fill_rows_of_none(to_lse, -std::numeric_limits<compute>::infinity());
    tensor<index_type> found = no_picks(to_out, Choice::picks);
    look<true>(
        to_out, q, k, v, choice,
        [&](index_type b, index_type h, index_type i, const auto& row) {
          for (int n = 0; n < row.found; ++n) found(b, h, i, n) = row.keys[n];
          for (int n = 0; n < Choice::picks; ++n)
            to_log_p.head(b, h)(i, n) = static_cast<compute>(row.log_p(n));
          to_lse.head(b, h)(i, 0) = static_cast<compute>(row.lse);
        },
        mods...);
    return picked<decltype(out), decltype(lse)>{std::move(out), std::move(found), std::move(log_p),
                                                std::move(lse)};
  }
  template <class Q, key_value_cache Cache, choice_like Choice, class... Mods>
  auto with_log_p(const Q& q, const Cache& cache, const Choice& choice, const Mods&... mods) const {
    return with_log_p(q, cache.keys(), cache.values(), choice, mods...);
  }

  /// What look(q, k, v, choice, mods...), into and with_log_p will do, and what picks will. With a workspace
  /// of its bytes into allocates nothing, the others their results.
  template <class Q, class K, class V, choice_like Choice, class... Mods>
    requires(!key_value_cache<K>)
  plan plan_for(const Q& q, const K& k, const V& v, const Choice&, const Mods&... mods) const {
    const auto values = view_of(v, kv_heads_of(heads_of(q)), "v");
    return plan_of<Choice>(problem_of_keys(q, k, mods...), values.dim());
  }
  template <class Q, key_value_cache Cache, choice_like Choice, class... Mods>
  plan plan_for(const Q& q, const Cache& cache, const Choice& choice, const Mods&... mods) const {
    return plan_for(q, cache.keys(), cache.values(), choice, mods...);
  }
  template <class Q, class K, choice_like Choice, class... Mods>
  plan picks_plan_for(const Q& q, const K& k, const Choice&, const Mods&... mods) const {
    return plan_of<Choice>(problem_of_keys(q, k, mods...), 0);
  }

  /// The gradients of a loss with hard attention in it, by REINFORCE: {d_q, d_k, d_v}. `seen`: what
  /// with_log_p returned for the same q, k, v and mods, of argmax or sampled; d_out: the loss's gradient by
  /// O, which goes to the values that were picked; d_log_p: its gradient by seen.log_p, and like that,
  ///   dV_j = sum_(i: a(i) = j) dO_i    dS_ij = d_log_p_i ([j = a(i)] - P_ij) times the scores' derivatives
  /// To make a loss L small in the mean, d_log_p_i = L - baseline, or baseline - reward: the mean of
  /// (L - baseline) d log p(a) is d E[L] whatever the baseline; one near to E[L] makes its noise small.
  /// (Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning",
  /// 1992; Mnih et al., arXiv:1406.6247, section 3.) Gradients of a bias, of slopes and sinks go where these
  /// say; a row that picked its sink raises that. A row that sees no key has gradient 0. Cost of a backward
  /// call with values of one column; memory O(Lq + Lk dv). A workspace, if one is given, serves that call.
  template <class Q, class K, class V, class Seen, class G, class L, class... Mods>
    requires(!key_value_cache<K>)
  auto reinforce(const Q& q, const K& k, const V& v, const Seen& seen, const G& d_out, const L& d_log_p,
                 const Mods&... mods) const {
    using compute = compute_of<Q, K, V>;
    static_assert(check_mods<Mods...>() && !(plan_like<Mods> || ...), "fovea: reinforce takes no plan");
    const attention<T, Heads, KVHeads, Arch> soft(options_);
    return differentiate_picks<compute>(soft, heads_of(q), kv_heads_of(heads_of(q)), q, k, v, seen, d_out,
                                        d_log_p, mods...);
  }

  /// The same of queries that are the last tokens of a cache, here and below: d_k and d_v are tensors of 1 x
  /// kv_heads x tokens x dim, the tokens of several caches one after another, of float or double, as sums
  /// are. Takes memory for as many numbers more as the caches hold.
  template <class Q, key_value_cache Cache, class Seen, class G, class L, class... Mods>
  auto reinforce(const Q& q, const Cache& cache, const Seen& seen, const G& d_out, const L& d_log_p,
                 const Mods&... mods) const {
    const auto [k, v] = decoded_from<Q>(cache);
    return reinforce(q, k, v, seen, d_out, d_log_p, mods...);
  }

  /// The straight-through estimator, {d_q, d_k, d_v}: the call went forward with O, the picks' values, and
  /// goes back as if O had been the softmax's, O = soft + stop_gradient(hard - soft). Biased, and with less
  /// noise than reinforce. (Bengio, Leonard & Courville, "Estimating or propagating gradients through
  /// stochastic neurons", arXiv:1308.3432.) Costs of a soft call and its backward.
  template <class Q, class K, class V, class G, class... Mods>
    requires(!key_value_cache<K>)
  auto straight_through(const Q& q, const K& k, const V& v, const G& d_out, const Mods&... mods) const {
    static_assert(check_mods<Mods...>() && !(plan_like<Mods> || ...),
                  "fovea: straight_through takes no plan");
    const attention<T, Heads, KVHeads, Arch> soft(options_);
    const auto [out, lse] = soft.with_lse(q, k, v, mods...);
    return soft.backward(q, k, v, shaped_like(q, out), shaped_like(q, lse), d_out, mods...);
  }
  template <class Q, key_value_cache Cache, class G, class... Mods>
  auto straight_through(const Q& q, const Cache& cache, const G& d_out, const Mods&... mods) const {
    const auto [k, v] = decoded_from<Q>(cache);
    return straight_through(q, k, v, d_out, mods...);
  }

 private:
  template <class Sequences>
  static tensor<index_type> no_picks(const Sequences& like_q, index_type picks) {
    tensor<index_type> none(like_q.batches(), like_q.heads(), like_q.max_tokens(), picks);
    std::fill_n(none.data(), none.size(), index_type(-1));
    return none;
  }

  template <class... Mods>
  static consteval bool check_mods() {
    static_assert(((modifier<Mods> || scorer_like<Mods> || call_option<Mods>)&&...),
                  "fovea: what follows a choice is a mask, a score, a sink, a scorer, a plan or a workspace");
    static_assert(!(dropout_like<Mods> || ...), "fovea: hard attention has no dropout");
    return true;
  }

  /// A call without values, of which picks are made; k may be a cache.
  template <class Q, class K, class... Mods>
  auto problem_of_keys(const Q& q, const K& k, const Mods&... mods) const {
    static_assert(check_mods<Mods...>());
    const auto& stored = keys_of(k);
    using keys_type = std::remove_cvref_t<decltype(stored)>;
    static_assert(check_call<T, Q, keys_type, keys_type, Mods...>());
    const index_type heads = heads_of(q);
    const auto queries = view_of(q, heads, "q");
    const auto keys = view_of(stored, kv_heads_of(heads), "k");
    return build_problem_of_keys<mask_intersection>(
        options_.scale, sequences<T>{}, sequences<compute_of<Q, keys_type>>{}, queries, keys, mods...);
  }

  template <class Choice, class Problem>
  plan plan_of(const Problem& p, index_type value_dim) const {
    return plan_to_pick<Arch, Choice>(p, value_dim, options_.executor.workers());
  }
  /// The memory that a call was given, checked as its plan is, if it was given one.
  template <class Call, class... Mods>
  std::span<std::byte> memory_for(const plan& plan, const Call& call, const Mods&... mods) const {
    check_plan(plan, mods...);
    const auto memory = memory_of(options_, mods...);
    check_workspace(memory, plan, call, mods...);
    return memory;
  }

  /// O to `out`, and also(batch, head, query, row_picks) for each row.
  template <bool Sum, class OE, class Q, class K, class V, class Choice, class F, class... Mods>
  void look(const sequences<OE>& out, const Q& q, const K& k, const V& v, const Choice& choice, const F& also,
            const Mods&... mods) const {
    static_assert(check_call<T, Q, K, V, Mods...>());
    using compute = compute_of<Q, K, V>;
    const index_type kv_heads = kv_heads_of(heads_of(q)), group = heads_of(q) / kv_heads;
    const auto values = view_of(v, kv_heads, "v");
    const auto p = problem_of_keys(q, k, mods...);
    const auto call = build_problem<mask_intersection>(options_.scale, out, sequences<compute>{},
                                                       view_of(q, heads_of(q), "q"),
                                                       view_of(k, kv_heads, "k"), values, mods...);
    check_results(call, mods...);
    const auto plan = plan_of<Choice>(p, values.dim());
    const auto memory = memory_for(plan, call, mods...);
    const auto shown = read_only(values);
    fill_rows_of_none(out);
    pick_rows<Arch, Sum>(p, plan, memory, options_.executor, choice,
                         [&](index_type b, index_type h, index_type i, const auto& row, auto* room) {
                           const auto to = out.head(b, h);
                           write_picked_values(row, shown.head(b, h / group), to.at(i), to.col_stride, room,
                                               room + values.dim());
                           also(b, h, i, row);
                         });
  }

  /// Keys and values of caches in memory.
  template <class Q, class Cache>
  static auto decoded_from(const Cache& cache) {
    using keys = std::remove_cvref_t<decltype(cache.keys())>;
    using values = std::remove_cvref_t<decltype(cache.values())>;
    using compute = compute_of<Q, keys, values>;
    return std::pair(decoded_tokens<compute>(cache.keys()), decoded_tokens<compute>(cache.values()));
  }
};

FOVEA_NAMESPACE_END
