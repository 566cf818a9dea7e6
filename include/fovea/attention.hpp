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
// weights, statistics, received and gradients alike. The exponential is exact to 2.04 units of the last
// place (2.3 where the instruction set has no FMA), for every float. What is summed is exp(s - m) V before
// it is divided by the sum of exponents: values from 3.4e38 / Lk on, the largest float over the number of
// keys, may become infinite on the way; so may logits whose terms scale q_c k_c add up to more than that
// number. A NaN that a row sees makes it NaN; so may an infinity.
//
// The algorithm: Dao, "FlashAttention-2", arXiv:2307.08691; grouped queries: Ainslie et al.,
// arXiv:2305.13245.
#pragma once

#include <fovea/attention_folds.hpp>
#include <fovea/element.hpp>
#include <fovea/executor.hpp>
#include <fovea/inspect/rows.hpp>
#include <fovea/mask.hpp>
#include <fovea/partial.hpp>
#include <fovea/score.hpp>
#include <fovea/view.hpp>

FOVEA_NAMESPACE_BEGIN

/// What backward returns.
template <class DQ, class DK, class DV>
struct gradients {
  DQ d_q;
  DK d_k;
  DV d_v;

  gradients(DQ q, DK k, DV v) : d_q(std::move(q)), d_k(std::move(k)), d_v(std::move(v)) {}
  gradients(const gradients&) = default;
  gradients(gradients&&) = default;
  gradients& operator=(const gradients&) = default;
  gradients& operator=(gradients&&) = default;
  ~gradients() = default;
};

/// T: the element of q and of returned results (float, double, bf16, fp16). K and V may have other elements.
/// Heads, KVHeads: numbers of query and of key/value heads; dynamic_heads: as the options say.
///
/// q, k, v are all of one kind:
///   Eigen matrices, maps, blocks    one sequence, tokens x (heads * dim); any storage order and strides
///   tensor_view, tensor             batch x heads x tokens x dim; any strides
///   ragged                          sequences of different length, packed
/// Matrices do not tell how many heads they hold: attention<T, n>, or attention<T>{{.heads = n}}.
/// Sizes: q (Lq, d) a head, k (Lk, d), v (Lk, dv), o (Lq, dv). `mods` are masks, scores, at most one
/// sink and one dropout, in any order; where a result is made, add_received (received.hpp) among them.
///
/// Every call throws std::invalid_argument, naming the argument and both values, before anything is written;
/// nothing else can go wrong but the allocation of results and scratch memory. Calls are const and may run at
/// the same time, unless they share a workspace. Cost: 2 Lq Lk (d + dv) operations a head, less what masks
/// hide in whole blocks; memory O(Lq + Lk) beyond the arguments, see plan.
template <class T, int Heads = dynamic_heads, int KVHeads = Heads, class Arch = xsimd::default_arch>
class attention : attention_folds<T, Heads, KVHeads, Arch> {
  using call = attention_folds<T, Heads, KVHeads, Arch>;
  template <class... X>
  using compute_of = typename call::template compute_of<X...>;
  using call::check_workspace, call::emit, call::gradients_of, call::heads_of, call::kv_heads_of;
  using call::options_, call::problem_of, call::problem_of_keys;

 public:
  attention() = default;
  explicit attention(attention_options options) : call(options) {}
  template <class N>
    requires std::is_arithmetic_v<N>
  explicit attention(N) {
    static_assert(never<N>, "fovea: options are named: attention<float, 8>{{.scale = 0.1}}, or .heads");
  }

  /// Returns O, of the kind and storage order of q: an Eigen matrix for matrices and ragged, a tensor for
  /// tensors.
  template <class Q, class K, class V, class... Mods>
    requires(!key_value_cache<K>)
  auto operator()(const Q& q, const K& k, const V& v, const Mods&... mods) const {
    if constexpr (call::template check_types<Q, K, V, Mods...>()) {
      auto out = this->template result_for<T>(q, k, v);
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
    if constexpr (call::template check_types<Q, K, V, Mods...>())
      this->attend(view_of(o, heads_of(q), "o"), this->template no_lse<Q, K, V>(), q, k, v, mods...);
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
    if constexpr (call::template check_types<Q, K, V, Mods...>()) {
      using compute = compute_of<Q, K, V>;
      auto out = this->template result_for<T>(q, k, v);
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
    this->attend(view_of(o, heads_of(q), "o"), view_of(lse, heads_of(q), "lse"), q, k, v, mods...);
  }

  template <class O, class L, class Q, key_value_cache Cache, class... Mods>
  void with_lse_into(O&& o, L&& lse, const Q& q, const Cache& cache, const Mods&... mods) const {
    with_lse_into(o, lse, q, cache.keys(), cache.values(), mods...);
  }

  /// The probabilities softmax(score(scale * Q K^T)), batch x heads x Lq x Lk: memory O(Lq Lk).
  template <class Q, class K, class... Mods>
  auto weights(const Q& q, const K& k, const Mods&... mods) const {
    return emit(true, {0, heads_of(q)}, q, keys_of(k), mods...);
  }

  /// The probabilities of one query head, like q: Lq x Lk for matrices, batch x 1 x Lq x Lk for tensors. In
  /// the rows of a ragged batch, columns from a sequence's number of keys on are 0.
  template <class Q, class K, class... Mods>
  auto weights_of(index_type head, const Q& q, const K& k, const Mods&... mods) const {
    using compute = compute_of<Q, decltype(keys_of(k))>;
    const index_type heads = heads_of(q);
    if (head < 0 || head >= heads) reject("head ", head, " is not one of ", heads);
    const auto all = emit(true, {head, head + 1}, q, keys_of(k), mods...);
    auto one = make_like<compute>(q, 1, all.dim());
    auto&& jobs = shaped_like(q, one);
    const auto rows = as_sequences(jobs, 1, "weights");
    fill_rows_of_none(rows, compute(0));
    for (index_type b = 0; b < rows.batches(); ++b)
      for (index_type i = 0; i < rows.tokens(b); ++i)
        for (index_type j = 0; j < all.dim(); ++j) rows.head(b, 0)(i, j) = all(b, 0, i, j);
    return one;
  }

  /// What enters the softmax: score(scale * Q K^T), masked cells -inf; batch x heads x Lq x Lk.
  template <class Q, class K, class... Mods>
  auto scores(const Q& q, const K& k, const Mods&... mods) const {
    return emit(false, {0, heads_of(q)}, q, keys_of(k), mods...);
  }

  /// The LSE of each row, and entropy, mean distance and largest probability as inspect/rows.hpp says, in one
  /// sweep over blocks of keys: the numbers of statistics_of(weights(q, k, mods...)) in memory O(Lq).
  template <class Q, class K, class... Mods>
  row_statistics statistics(const Q& q, const K& k, const Mods&... mods) const {
    static_assert(check_operand<Q>());
    const auto& keys = keys_of(k);
    const auto p = problem_of_keys(sequences<compute_of<Q, decltype(keys)>>{}, q, keys, mods...);
    row_statistics rows(p.q.batches(), p.heads(), p.q.max_tokens());
    measure_all<Arch>(p, options_.executor, rows.writer());
    return rows;
  }

  /// sweep(state, q, k, mods...) and mix(mixer, q, k, mods...): folds over the logits of each row, and sums
  /// of the softmax's weights, of one's own (attention_folds.hpp).
  using call::sweep, call::mix;

  /// What each key receives, sum_ih P_hij over the queries and the query heads of its group, from 0: batch x
  /// kv_heads x Lk x 1. To sum over calls, or beside a result: add_received (received.hpp), which says more.
  template <class Q, class K, class... Mods>
  auto received(const Q& q, const K& k, const Mods&... mods) const {
    static_assert(check_operand<Q>());
    const auto& keys = keys_of(k);
    using compute = compute_of<Q, decltype(keys)>;
    const auto p = problem_of_keys(sequences<compute>{}, q, keys, mods...);
    tensor<compute> sums(p.k.batches(), p.k.heads(), p.k.max_tokens(), 1);
    const auto summed = with_received(p, add_received(sums));
    run<Arch>(summed, make_plan<Arch>(summed, options_.executor.workers()), options_.executor, {});
    return sums;
  }

  /// What the call attend(q, k, v, mods...) will do; allocates and computes nothing.
  template <class Q, class K, class V, class... Mods>
    requires(!key_value_cache<K>)
  plan plan_for(const Q& q, const K& k, const V& v, const Mods&... mods) const {
    const auto p = problem_of(sequences<T>{}, this->template no_lse<Q, K, V>(), q, k, v, mods...);
    auto plan = make_plan<Arch>(p, options_.executor.workers());
    count_coverage<Arch>(p, plan);
    return plan;
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
    const auto p =
        this->problem_into(view_of(o, heads_of(q), "o"), this->template no_lse<Q, K, V>(), q, k, v, mods...);
    auto plan = make_plan<Arch>(p, options_.executor.workers());
    count_coverage<Arch>(p, plan);
    return plan;
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
    const index_type heads = heads_of(q), kv_heads = kv_heads_of(heads);
    auto d_q = make_like<element_of<Q>>(q, heads, view_of(q, heads, "q").dim());
    auto d_k = make_like<element_of<K>>(k, kv_heads, view_of(k, kv_heads, "k").dim());
    auto d_v = make_like<element_of<V>>(v, kv_heads, view_of(v, kv_heads, "v").dim());
    backward_into(shaped_like(q, d_q), shaped_like(k, d_k), shaped_like(v, d_v), q, k, v, out, lse, d_out,
                  mods...);
    return gradients<decltype(d_q), decltype(d_k), decltype(d_v)>{std::move(d_q), std::move(d_k),
                                                                  std::move(d_v)};
  }

  /// Writes them into `d_q`, `d_k` and `d_v`, which have the sizes of q, k and v and any element. They and
  /// the gradients of parameters share no memory with each other or with what is read.
  template <class DQ, class DK, class DV, class Q, class K, class V, class O, class L, class G, class... Mods>
  void backward_into(DQ&& d_q, DK&& d_k, DV&& d_v, const Q& q, const K& k, const V& v, const O& out,
                     const L& lse, const G& d_out, const Mods&... mods) const {
    const auto g = gradients_of(d_q, d_k, d_v, q, k, v, out, lse, d_out, mods...);
    const auto plan = make_gradient_plan<Arch>(g, options_.executor.workers());
    const auto& p = g.forward;
    check_workspace(plan, "q", p.q, "k", p.k, "v", p.v, "out", g.out, "lse", g.lse, "d_out", g.d_out, "d_q",
                    g.d_q.all, "d_k", g.d_k.all, "d_v", g.d_v.all);
    const auto fill = [](const auto& x) {
      fill_rows_of_none(x, std::remove_cvref_t<decltype(*x.all.data)>{});
    };
    fill(g.d_q), fill(g.d_k), fill(g.d_v);
    differentiate<Arch>(g, plan, options_.executor, options_.workspace);
  }

  /// What a call of backward_into with the same arguments will do; writes and computes nothing.
  template <class DQ, class DK, class DV, class Q, class K, class V, class O, class L, class G, class... Mods>
  gradient_plan backward_plan_for(DQ&& d_q, DK&& d_k, DV&& d_v, const Q& q, const K& k, const V& v,
                                  const O& out, const L& lse, const G& d_out, const Mods&... mods) const {
    return make_gradient_plan<Arch>(gradients_of(d_q, d_k, d_v, q, k, v, out, lse, d_out, mods...),
                                    options_.executor.workers());
  }
};

FOVEA_NAMESPACE_END