// fovea/attention.hpp - scaled dot-product attention on CPUs: exact, fused, memory linear in the sequence.
//
//   O = softmax(score(scale * Q K^T)) V
//
//   fovea::attention<float, 8> attend;                          // 8 heads
//   auto o = attend(q, k, v, fovea::causal);                    // Eigen matrices: tokens x (8 * dim)
//
// Order of arithmetic: scale -> softcap -> bias and user scores, as listed -> mask -> sink -> softmax.
// Masks intersect. What is masked never reaches a result, not even as NaN. A row that sees no key is 0, with
// LSE -inf. Sums are made in float, or in double where an element is double. Results are the same bits for
// any executor, and for a sequence alone or in a batch. Query head h reads key/value head h / (heads /
// kv_heads).
//
// The algorithm: Dao, "FlashAttention-2", arXiv:2307.08691; grouped queries: Ainslie et al.,
// arXiv:2305.13245.
#pragma once

#include <fovea/element.hpp>
#include <fovea/executor.hpp>
#include <fovea/inspect/rows.hpp>
#include <fovea/mask.hpp>
#include <fovea/partial.hpp>
#include <fovea/plan/modifiers.hpp>
#include <fovea/plan/operands.hpp>
#include <fovea/plan/run.hpp>
#include <fovea/score.hpp>
#include <fovea/view.hpp>

#include <cmath>
#include <optional>

FOVEA_NAMESPACE_BEGIN

struct attention_options {
  std::optional<double> scale = {};     // of Q K^T; 1 / sqrt(dim) without
  index heads = 0, kv_heads = 0;        // where the type leaves them Dynamic; kv_heads: 0 means heads
  executor_ref executor = {};           // who does the work; must outlive the attention object
  std::span<std::byte> workspace = {};  // plan_for(...).workspace_bytes(): then calls allocate nothing
};

/// T: the element of q and of returned results (float, double, bf16, fp16). K and V may have other elements.
/// Heads, KVHeads: numbers of query and of key/value heads; Dynamic: as the options say.
///
/// q, k, v are all of one kind:
///   Eigen matrices, maps, blocks    one sequence, tokens x (heads * dim); any storage order and strides
///   tensor_view, tensor             batch x heads x tokens x dim; any strides
///   ragged                          sequences of different length, packed
/// Sizes: q (Lq, d) a head, k (Lk, d), v (Lk, dv), o (Lq, dv). `mods` are masks, scores and at most one sink,
/// in any order.
///
/// Every call throws std::invalid_argument, naming the argument and both values, before anything is written;
/// nothing else can go wrong but the allocation of results and scratch memory. Calls are const and may run at
/// the same time, unless they share a workspace. Cost: 2 Lq Lk (d + dv) operations a head, less what masks
/// hide in whole blocks; memory O(Lq + Lk) beyond the arguments, see plan.
template <class T, int Heads = Dynamic, int KVHeads = Heads, class Arch = xsimd::default_arch>
class attention {
  static_assert(element<T>, "fovea: attention<T>: T is float, double, fovea::bf16 or fovea::fp16");
  static_assert(Heads == Dynamic || Heads > 0, "fovea: attention<T, Heads>: Heads is positive, or Dynamic");
  static_assert(KVHeads == Dynamic || (KVHeads > 0 && (Heads == Dynamic || Heads % KVHeads == 0)),
                "fovea: attention<T, Heads, KVHeads>: KVHeads divides Heads");

 public:
  FOVEA_INLINE attention() = default;
  FOVEA_INLINE explicit attention(attention_options options) : options_(options) {
    agree("heads", options.heads, Heads), agree("kv_heads", options.kv_heads, KVHeads);
    if (options.scale && !std::isfinite(*options.scale))
      reject("scale is ", *options.scale, ", not a finite number");
  }

  /// Returns O, of the kind and storage order of q: an Eigen matrix for matrices and ragged, a tensor for
  /// tensors.
  template <class Q, class K, class V, class... Mods>
    requires(!key_value_cache<K>)
  auto operator()(const Q& q, const K& k, const V& v, const Mods&... mods) const {
    auto out = result_for<T>(q, k, v);
    into(cut_like(q, out), q, k, v, mods...);
    return out;
  }

  /// Queries that are the last tokens of a cache (kv_cache.hpp) in place of k and v, here and below.
  template <class Q, key_value_cache Cache, class... Mods>
  auto operator()(const Q& q, const Cache& cache, const Mods&... mods) const {
    return (*this)(q, cache.keys(), cache.values(), mods...);
  }

  /// Writes O into `o`, which has its size and any element.
  template <class O, class Q, class K, class V, class... Mods>
    requires(!key_value_cache<K>)
  void into(O&& o, const Q& q, const K& k, const V& v, const Mods&... mods) const {
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
    using compute = compute_of<Q, K, V>;
    auto out = result_for<T>(q, k, v);
    auto lse = make_like<compute>(q, heads_of(q), 1);
    with_lse_into(cut_like(q, out), cut_like(q, lse), q, k, v, mods...);
    return partial<decltype(out), decltype(lse)>{std::move(out), std::move(lse)};
  }

  template <class Q, key_value_cache Cache, class... Mods>
  auto with_lse(const Q& q, const Cache& cache, const Mods&... mods) const {
    return with_lse(q, cache.keys(), cache.values(), mods...);
  }

  /// Writes O and LSE; `lse` has the compute type: float, or double where an element is double.
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

  /// The probabilities softmax(score(scale * Q K^T)), batch x heads x Lq x Lk: memory O(Lq Lk).
  template <class Q, class K, class... Mods>
  auto weights(const Q& q, const K& k, const Mods&... mods) const {
    return emit(true, {0, heads_of(q)}, q, keys_of(k), mods...);
  }

  /// The probabilities of one query head of one sequence (Eigen matrices only), Lq x Lk.
  template <class Q, class K, class... Mods>
  auto weights_of(index head, const Q& q, const K& k, const Mods&... mods) const {
    using compute = compute_of<Q, K>;
    const index heads = heads_of(q);
    if (head < 0 || head >= heads) reject("head ", head, " is not one of ", heads);
    const auto all = emit(true, {head, head + 1}, q, k, mods...);
    auto one = make_like<compute>(q, 1, all.dim());
    const auto to = as_sequences(one, 1, "weights").head(0, 0);
    for (index i = 0; i < all.tokens(); ++i)
      for (index j = 0; j < all.dim(); ++j) to(i, j) = all(0, 0, i, j);
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
    const auto& keys = keys_of(k);
    const auto p = problem_of_keys(sequences<compute_of<Q, decltype(keys)>>{}, q, keys, mods...);
    row_statistics rows(p.q.batches(), p.heads(), p.q.max_tokens());
    measure_all<Arch>(p, options_.executor, rows.writer());
    return rows;
  }

  /// What the call attend(q, k, v, mods...) will do; allocates and computes nothing.
  template <class Q, class K, class V, class... Mods>
    requires(!key_value_cache<K>)
  plan plan_for(const Q& q, const K& k, const V& v, const Mods&... mods) const {
    const auto p = problem_of(sequences<T>{}, no_lse<Q, K, V>(), q, k, v, mods...);
    auto made = make_plan<Arch>(p, options_.executor.workers());
    count_coverage<Arch>(p, made);
    return made;
  }
  template <class Q, key_value_cache Cache, class... Mods>
  plan plan_for(const Q& q, const Cache& cache, const Mods&... mods) const {
    return plan_for(q, cache.keys(), cache.values(), mods...);
  }

 private:
  template <class... X>
  using compute_of = common_compute_t<T, element_of<X>...>;

  FOVEA_INLINE static void agree(const char* name, index option, int fixed) {
    if (option < 0) reject("the option ", name, " is ", option, ", below 0");
    if (fixed != Dynamic && option != 0 && option != fixed)
      reject("the option ", name, " is ", option, ", but the type says ", fixed);
  }

  template <class Q, class K, class V>
  FOVEA_INLINE static auto no_lse() noexcept {
    return sequences<compute_of<Q, K, V>>{};
  }

  template <class Q>
  FOVEA_INLINE index heads_of(const Q& q) const {
    if (Heads != Dynamic) return Heads;
    if (options_.heads > 0) return options_.heads;
    return view_of(q, any_heads, "q").all.heads;  // a matrix: one
  }
  FOVEA_INLINE index kv_heads_of(index heads) const {
    const index kv_heads = KVHeads != Dynamic ? KVHeads : options_.kv_heads > 0 ? options_.kv_heads : heads;
    if (kv_heads <= 0 || heads % kv_heads != 0)
      reject(heads, " query heads can not share ", kv_heads, " key/value heads evenly");
    return kv_heads;
  }

  template <class E, class Q, class K, class V>
  FOVEA_INLINE auto result_for(const Q& q, const K& k, const V& v) const {
    const index heads = heads_of(q);
    static_cast<void>(view_of(k, kv_heads_of(heads), "k"));
    return make_like<E>(q, heads, view_of(v, kv_heads_of(heads), "v").dim());
  }

  /// The call as kernels know it, checked.
  template <class OE, class L, class Q, class K, class V, class... Mods>
  FOVEA_INLINE auto problem_of(const sequences<OE>& out, const sequences<L>& lse, const Q& q, const K& k,
                               const V& v, const Mods&... mods) const {
    static_assert(same_format<T, element_of<Q>>, "fovea: attention<T>: q has elements of type T");
    static_assert((modifier<Mods> && ...),
                  "fovea: what follows q, k, v is a mask, a score or a sink (see mask.hpp, score.hpp)");
    const index heads = heads_of(q), kv_heads = kv_heads_of(heads);
    const auto queries = view_of(q, heads, "q");
    const auto keys = view_of(k, kv_heads, "k"), values = view_of(v, kv_heads, "v");
    return problem_from(out, lse, queries, keys, values, mods...);
  }

  template <class OE, class L, class QE, class Keys, class Values, class... Mods>
  FOVEA_INLINE auto problem_from(const sequences<OE>& out, const sequences<L>& lse, const sequences<QE>& q,
                                 const Keys& k, const Values& v, const Mods&... mods) const {
    check_same("q", "dimensions a head", q.dim(), "k", k.dim());
    check_same("q", "sequences", q.batches(), "k", k.batches());
    check_same("k", "sequences", k.batches(), "v", v.batches());
    const auto rules = rules_of<all_of>(mods...);
    const auto sink = sink_of(mods...);
    for (index b = 0; b < q.batches(); ++b) {
      check_same("k", "tokens", k.tokens(b), "v", v.tokens(b));
      const place at{b, 0, q.batches(), q.heads(), q.tokens(b), k.tokens(b), Keys::in_cache};
      rules.check(at);
      if constexpr (sink_like<decltype(sink)>) check_score_at(sink, at);
    }
    const double scale =
        options_.scale.value_or(1 / std::sqrt(static_cast<double>(std::max<index>(q.all.dim, 1))));
    const auto queries = read_only(q);
    const auto keys = read_only(k);
    const auto values = read_only(v);
    using std::remove_const_t;
    return kernel::problem<L, remove_const_t<QE>, remove_const_t<decltype(keys)>,
                           remove_const_t<decltype(values)>, OE, remove_const_t<decltype(rules)>,
                           remove_const_t<decltype(sink)>>{
        queries, keys, values, out, lse, static_cast<L>(scale), rules, sink};
  }

  template <class OE, class L, class Q, class K, class V, class... Mods>
  FOVEA_INLINE void attend(const sequences<OE>& out, const sequences<L>& lse, const Q& q, const K& k,
                           const V& v, const Mods&... mods) const {
    const auto p = problem_of(out, lse, q, k, v, mods...);
    check_result("o", out, p.q, p.value_dim());
    if (p.wants_lse()) check_result("lse", lse, p.q, 1);
    const auto made = make_plan<Arch>(p, options_.executor.workers());
    const auto given = static_cast<index>(options_.workspace.size());
    if (given > 0 && given < made.workspace_bytes())
      reject("workspace has ", given, " bytes, fewer than the ", made.workspace_bytes(), " of the plan");
    run<Arch>(p, made, options_.executor, options_.workspace);
  }

  /// A call without values.
  template <class L, class Q, class K, class... Mods>
  FOVEA_INLINE auto problem_of_keys(const sequences<L>& lse, const Q& q, const K& k,
                                    const Mods&... mods) const {
    const index heads = heads_of(q);
    const auto keys = view_of(k, kv_heads_of(heads), "k");
    const without_columns<std::remove_const_t<decltype(keys)>> values{keys};
    return problem_from(sequences<T>{}, lse, view_of(q, heads, "q"), keys, values, mods...);
  }

  /// The score matrices of some heads: probabilities, given the LSE of a run without values, or logits.
  template <class Q, class K, class... Mods>
  FOVEA_INLINE auto emit(bool probabilities, range heads, const Q& q, const K& k, const Mods&... mods) const {
    using compute = compute_of<Q, K>;
    const auto queries = view_of(q, heads_of(q), "q");
    tensor<compute> lse(queries.batches(), queries.heads(), queries.max_tokens(), 1);
    const auto p = problem_of_keys(as_sequences(lse, any_heads, "lse"), q, k, mods...);
    tensor<compute> result(queries.batches(), heads.size(), queries.max_tokens(), p.k.max_tokens());
    if (probabilities) run<Arch>(p, make_plan<Arch>(p, 1), {}, {});
    emit_all<Arch>(p, heads, as_sequences(result, any_heads, "result"), probabilities);
    return result;
  }

  attention_options options_{};
};

FOVEA_NAMESPACE_END
