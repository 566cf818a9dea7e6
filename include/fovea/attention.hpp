// fovea/attention.hpp - scaled dot-product attention on CPUs: exact, fused, memory linear in the sequence.
//
//   O = softmax(score(scale * Q K^T)) V
//
//   fovea::attention<float, 8> attend;                          // 8 heads
//   auto o = attend(q, k, v, fovea::causal);                    // Eigen matrices: tokens x (8 * dim)
//
// Order of arithmetic: scale -> softcap -> bias and user scores, as listed -> mask -> sink -> softmax
// -> dropout. Masks intersect. What is masked never reaches a result, not even as NaN. A row that sees no key
// is 0, with LSE -inf. Sums are made in float, or in double where an element is double. Results are the same
// bits for any executor, and for a sequence alone or in a batch. Query head h reads key/value head
// h / (heads / kv_heads).
//
// Accuracy, where sums are made in float and u = 2^-24:
//
//   |error| <= 3 u (P |V|) (4 + A) + 2^-126 sum_j |V_j|
//
// over the keys that the row sees, A being its largest |scale| sum_c |q_c k_c|, or |logit|; in double u =
// 2^-52 and 2^-1022. The second term is of weights too small for a normal number: they count as 0, in O,
// weights, statistics, received and gradients alike. Dot products of bf16 queries and keys by AVX512_BF16
// hold the same bound, but take subnormal numbers for 0: a logit moves by up to |scale| 2^-126 sum_c (|q_c|
// + |k_c| + 2). The exponential is exact to 2.04 units of the last place (2.3 where the instruction set has
// no FMA), for every float. What is summed is exp(s - m) V before it is divided by the sum of exponents:
// values from 3.4e38 / Lk on, the largest float over the number of keys, may become infinite on the way; so
// may logits whose terms scale q_c k_c add up to more than that. A NaN that a row sees makes it NaN.
//
// The algorithm: Dao, "FlashAttention-2", arXiv:2307.08691; grouping: Ainslie et al., arXiv:2305.13245.
#pragma once

#include <fovea/attention_inside.hpp>
#include <fovea/element.hpp>
#include <fovea/executor.hpp>
#include <fovea/gate.hpp>
#include <fovea/kernels.hpp>
#include <fovea/lse_gradient.hpp>
#include <fovea/mask.hpp>
#include <fovea/partial.hpp>
#include <fovea/plan/call_options.hpp>
#include <fovea/plan/check_gradients.hpp>
#include <fovea/plan/differentiate.hpp>
#include <fovea/plan/gradients.hpp>
#include <fovea/plan/token_classes.hpp>
#include <fovea/rounded_weights.hpp>
#include <fovea/score.hpp>
#include <fovea/view.hpp>
#include <fovea/weights_into.hpp>

FOVEA_NAMESPACE_BEGIN

/// T: the element of q and of returned results (float, double, bf16, fp16). K and V may have other elements.
/// Heads, KVHeads: numbers of query and of key/value heads; dynamic_heads: as the options say.
///
/// q, k, v are all of one kind:
///   Eigen matrices, maps, blocks    one sequence, tokens x (heads * dim); any storage order and strides
///   tensor_view, tensor             batch x heads x tokens x dim; any strides
///   ragged                          sequences of different length, packed
/// Matrices do not tell how many heads they hold: attention<T, n>, or attention<T>{{.heads = n}}. Sizes: q
/// (Lq, d) a head, k (Lk, d), v (Lk, dv), o (Lq, dv). `mods` are masks, scores, at most one sink and one
/// dropout, in any order; where a result is made, a gate (gate.hpp), add_received (received.hpp),
/// weights_into (weights_into.hpp), rounded_weights (rounded_weights.hpp), a workspace{bytes} for this call
/// alone (plan/options.hpp), and a plan of plan_for or into_plan_for, to which the call keeps, or which it
/// refuses, saying what is for other sizes or workers.
///
/// Every call throws std::invalid_argument, naming the argument and both values, before anything is written;
/// nothing else can go wrong but the allocation of results and scratch memory. Calls are const and may run at
/// the same time, unless they share a workspace. Cost: 2 Lq Lk (d + dv) operations a head, less what masks
/// hide in whole blocks; memory O(Lq + Lk) beyond the arguments, see plan.
template <class T, int Heads = dynamic_heads, int KVHeads = Heads, class Arch = xsimd::default_arch>
class attention : public attention_inside<T, Heads, KVHeads, Arch> {
  using inside = attention_inside<T, Heads, KVHeads, Arch>;
  template <class... X>
  using compute_of = typename inside::template compute_of<X...>;
  using inside::heads_of, inside::kv_heads_of, inside::options_;

 public:
  using inside::inside;

  /// Returns O, of the kind and storage order of q: an Eigen matrix for matrices and ragged, a tensor for
  /// tensors.
  template <class Q, class K, class V, class... Mods>
    requires(!key_value_cache<K>)
  auto operator()(const Q& q, const K& k, const V& v, const Mods&... mods) const {
    if constexpr (check_call<T, Q, K, V, Mods...>()) {
      auto out = result_for<T>(q, k, v);
      into(shaped_like(q, out), q, k, v, mods...);
      return out;
    }
  }

  /// Queries that are the last tokens of a cache (kv_cache.hpp) in place of k and v, here and below.
  template <class Q, key_value_cache Cache, class... Mods>
  auto operator()(const Q& q, const Cache& cache, const Mods&... mods) const {
    return (*this)(q, cache.keys(), cache.values(), mods...);
  }

  template <class Q, class X>
    requires(!key_value_cache<X>)
  void operator()(const Q&, const X&) const {
    if constexpr (check_operand<Q>() && check_operand<X>())
      static_assert(never<X>, "fovea: attend takes q, k and v, or q and a cache");
  }

  /// Writes O into `o`, which has its size and any element. It may be q itself, the same view; else it shares
  /// no memory with what is read (views that interleave in one buffer, as packed QKV, share none).
  template <class O, class Q, class K, class V, class... Mods>
    requires(!key_value_cache<K>)
  void into(O&& o, const Q& q, const K& k, const V& v, const Mods&... mods) const {
    if constexpr (check_call<T, Q, K, V, Mods...>())
      attend(view_of(o, heads_of(q), "o"), no_lse<Q, K, V>(), q, k, v, mods...);
  }

  template <class O, class Q, key_value_cache Cache, class... Mods>
  void into(O&& o, const Q& q, const Cache& cache, const Mods&... mods) const {
    into(o, q, cache.keys(), cache.values(), mods...);
  }

  /// Returns {O, LSE}: parts over different keys can be merged. LSE: the natural logarithm of each row's sum
  /// of exponents, sink included; a matrix tokens x heads, or a tensor with dim 1.
  template <class Q, class K, class V, class... Mods>
    requires(!key_value_cache<K>)
  auto with_lse(const Q& q, const K& k, const V& v, const Mods&... mods) const {
    if constexpr (check_call<T, Q, K, V, Mods...>()) {
      using compute = compute_of<Q, K, V>;
      auto out = result_for<T>(q, k, v);
      auto lse = make_like<compute>(q, heads_of(q), 1);
      with_lse_into(shaped_like(q, out), shaped_like(q, lse), q, k, v, mods...);
      return partial<decltype(out), decltype(lse)>{std::move(out), std::move(lse)};
    }
  }

  template <class Q, key_value_cache Cache, class... Mods>
  auto with_lse(const Q& q, const Cache& cache, const Mods&... mods) const {
    return with_lse(q, cache.keys(), cache.values(), mods...);
  }

  /// Writes O and LSE, which lie apart; `lse` has the compute type: float, or double where an element is
  /// double.
  template <class O, class L, class Q, class K, class V, class... Mods>
    requires(!key_value_cache<K>)
  void with_lse_into(O&& o, L&& lse, const Q& q, const K& k, const V& v, const Mods&... mods) const {
    static_assert(std::is_same_v<element_of<L>, compute_of<Q, K, V>>,
                  "fovea: the LSE is float, or double where q, k or v is double");
    attend(view_of(o, heads_of(q), "o"), view_of(lse, heads_of(q), "lse"), q, k, v, mods...);
  }

  template <class O, class L, class Q, key_value_cache Cache, class... Mods>
  void with_lse_into(O&& o, L&& lse, const Q& q, const Cache& cache, const Mods&... mods) const {
    with_lse_into(o, lse, q, cache.keys(), cache.values(), mods...);
  }

  /// What the call attend(q, k, v, mods...) will do; allocates and computes nothing.
  template <class Q, class K, class V, class... Mods>
    requires(!key_value_cache<K>)
  plan plan_for(const Q& q, const K& k, const V& v, const Mods&... mods) const {
    return plan_of(problem_of(sequences<T>{}, no_lse<Q, K, V>(), q, k, v, mods...));
  }
  template <class Q, key_value_cache Cache, class... Mods>
  plan plan_for(const Q& q, const Cache& cache, const Mods&... mods) const {
    return plan_for(q, cache.keys(), cache.values(), mods...);
  }

  /// What a call of into with the same arguments will do. (It takes more than plan_for says where o is q
  /// itself and what keys receive is summed: a copy of q is kept.)
  template <class O, class Q, class K, class V, class... Mods>
    requires(!key_value_cache<K>)
  plan into_plan_for(O&& o, const Q& q, const K& k, const V& v, const Mods&... mods) const {
    const auto p = problem_of(view_of(o, heads_of(q), "o"), no_lse<Q, K, V>(), q, k, v, mods...);
    check_results(p, mods...);
    return plan_of(p);
  }
  template <class O, class Q, key_value_cache Cache, class... Mods>
  plan into_plan_for(O&& o, const Q& q, const Cache& cache, const Mods&... mods) const {
    return into_plan_for(o, q, cache.keys(), cache.values(), mods...);
  }

  /// Returns {d_q, d_k, d_v}, like q, k and v: the gradients of a loss whose gradient by O is `d_out`. `out`
  /// and `lse` are what with_lse gave for the same q, k, v and mods; a gradient by the LSE as well is added
  /// by lse_gradient(d_lse). Gradients of a bias, of ALiBi's slopes and of sinks go where these say.
  ///   P = exp(S - LSE)       dV = P^T dO       dS = P (dO V^T - sum_c dO O + dLSE)
  ///   dQ = scale dS K        dK = scale dS^T Q
  /// with dS times the scores' derivatives. dK and dV are summed over the query heads of a group. A row that
  /// sees no key has a gradient of exactly 0. Scores are computed again, a block at a time: 10 Lq Lk d
  /// operations a head (8 more a cell and dim for each learnt bias), memory O(Lq + Lk). (Dao,
  /// "FlashAttention-2", arXiv:2307.08691, algorithm 2.)
  template <class Q, class K, class V, class O, class L, class G, class... Mods>
  auto backward(const Q& q, const K& k, const V& v, const O& out, const L& lse, const G& d_out,
                const Mods&... mods) const {
    const index_type heads = heads_of(q);
    auto to = gradients_like(q, k, v, heads, kv_heads_of(heads));
    backward_into(shaped_like(q, to.d_q), shaped_like(k, to.d_k), shaped_like(v, to.d_v), q, k, v, out, lse,
                  d_out, mods...);
    return to;
  }

  /// Writes them into `d_q`, `d_k` and `d_v`, which have the sizes of q, k and v and any element. They and
  /// the gradients of parameters share no memory with each other or with what is read.
  template <class DQ, class DK, class DV, class Q, class K, class V, class O, class L, class G, class... Mods>
  void backward_into(DQ&& d_q, DK&& d_k, DV&& d_v, const Q& q, const K& k, const V& v, const O& out,
                     const L& lse, const G& d_out, const Mods&... mods) const {
    const auto g = gradients_of(d_q, d_k, d_v, q, k, v, out, lse, d_out, mods...);
    const auto memory = memory_of(options_, mods...);
    by_token_classes(g, [&](const auto& sorted) {
      const auto plan = make_gradient_plan<Arch>(sorted, options_.executor.workers());
      check_plan(plan, mods...);
      check_workspace(memory, plan, g, mods...);
      fill_rows_of_none(g.d_q), fill_rows_of_none(g.d_k), fill_rows_of_none(g.d_v);
      if constexpr (decltype(g)::gated) fill_rows_of_none(written_gates(g.gates.gradient));
      clear_unseen(g, sorted), differentiate<Arch>(sorted, plan, options_.executor, memory);
    });
  }

  /// What a call of backward_into with the same arguments will do; writes and computes nothing.
  template <class DQ, class DK, class DV, class Q, class K, class V, class O, class L, class G, class... Mods>
  gradient_plan backward_plan_for(DQ&& d_q, DK&& d_k, DV&& d_v, const Q& q, const K& k, const V& v,
                                  const O& out, const L& lse, const G& d_out, const Mods&... mods) const {
    return by_token_classes(
        gradients_of(d_q, d_k, d_v, q, k, v, out, lse, d_out, mods...),
        [&](const auto& sorted) { return make_gradient_plan<Arch>(sorted, options_.executor.workers()); });
  }

 private:
  /// A call from end to end: the arguments as a problem, checked; a plan; memory; the plan's jobs, run.
  template <class OE, class L, class Q, class K, class V, class... Mods>
  void attend(const sequences<OE>& out, const sequences<L>& lse, const Q& q, const K& k, const V& v,
              const Mods&... mods) const {
    const auto problem = problem_of(out, lse, q, k, v, mods...);
    check_results(problem, mods...);
    by_token_classes(problem, [&](const auto& sorted) {
      const auto plan = make_plan<Arch>(sorted, options_.executor.workers());
      check_plan(plan, mods...);
      const auto memory = memory_of(options_, mods...);
      check_workspace(memory, plan, problem, mods...);
      fill_rows_of_none(out);
      if constexpr (decltype(problem)::keeps_weights) fill_rows_of_none(problem.weights);
      if (problem.wants_lse()) fill_rows_of_none(lse, -std::numeric_limits<L>::infinity());
      run<Arch>(sorted, plan, options_.executor, memory);
    });
  }

  template <class Problem>
  plan plan_of(const Problem& problem) const {
    return by_token_classes(problem, [&](const auto& sorted) {
      auto plan = make_plan<Arch>(sorted, options_.executor.workers());
      return count_coverage<Arch>(sorted, plan), plan;
    });
  }

  template <class OE, class L, class Q, class K, class V, class... Mods>
  auto problem_of(const sequences<OE>& out, const sequences<L>& lse, const Q& q, const K& k, const V& v,
                  const Mods&... mods) const {
    static_assert(check_call<T, Q, K, V, Mods...>());
    const index_type heads = heads_of(q), kv_heads = kv_heads_of(heads);
    const auto queries = view_of(q, heads, "q");
    const auto keys = view_of(k, kv_heads, "k");
    const auto values = view_of(v, kv_heads, "v");
    const auto p = build_problem<mask_intersection>(
        options_.scale, gated_results(out, queries, values, mods...), lse, queries, keys, values, mods...);
    return with_received(with_weights_into(with_rounded_weights<Arch>(p, mods...), mods...), mods...);
  }

  template <class DQ, class DK, class DV, class Q, class K, class V, class O, class L, class G, class... Mods>
  auto gradients_of(DQ& d_q, DK& d_k, DV& d_v, const Q& q, const K& k, const V& v, const O& out, const L& lse,
                    const G& d_out, const Mods&... mods) const {
    using compute = compute_of<Q, K, V>;
    static_assert(check_backward<T, compute, Q, K, V, O, L, G>());
    static_assert(((modifier<Mods> || scorer_like<Mods> || gate_like<Mods> || weighing_like<Mods> ||
                    rounding_like<Mods> || lse_gradient_like<Mods> || call_option<Mods>)&&...),
                  "fovea: what follows d_out is a mask, a score, a sink, a dropout, a scorer, a gate, "
                  "rounded_weights or lse_gradient(d_lse)");
    const index_type heads = heads_of(q), kv_heads = kv_heads_of(heads);
    const auto queries = view_of(q, heads, "q");
    const auto keys = view_of(k, kv_heads, "k");
    const auto values = view_of(v, kv_heads, "v");
    const auto forward = build_problem<mask_intersection>(
        options_.scale, sequences<const T>{}, sequences<compute>{}, queries, keys, values, mods...);
    const auto given_out = read_only(view_of(out, heads, "out"));
    const auto given_lse = read_only(view_of(lse, heads, "lse"));
    const auto given_d_out = read_only(view_of(d_out, heads, "d_out"));
    const auto given_d_lse = view_of_lse_gradient<compute>(heads, mods...);
    const auto to_q = view_of(d_q, heads, "d_q");
    const auto to_k = view_of(d_k, kv_heads, "d_k");
    const auto to_v = view_of(d_v, kv_heads, "d_v");
    const kernel::gradient_problem g{forward,     given_out,   given_lse,
                                     given_d_out, given_d_lse, to_q,
                                     to_k,        to_v,        gate_of_gradients(queries, values, mods...)};
    check_gradient_problem(g, mods...);
    return g;
  }

  template <class E, class Q, class K, class V>
  auto result_for(const Q& q, const K& k, const V& v) const {
    const index_type heads = heads_of(q);
    static_cast<void>(view_of(k, kv_heads_of(heads), "k"));
    return make_like<E>(q, heads, view_of(v, kv_heads_of(heads), "v").dim());
  }
  template <class Q, class K, class V>
  using no_lse = sequences<compute_of<Q, K, V>>;
};

FOVEA_NAMESPACE_END
