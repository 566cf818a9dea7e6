// fovea/attention_call.hpp - what the calls of an attention object have in common: its options, the heads,
// and the operands as a checked problem.
#pragma once

#include <fovea/element/same_format.hpp>
#include <fovea/executor/concept.hpp>
#include <fovea/lse_gradient.hpp>
#include <fovea/mask/intersection.hpp>
#include <fovea/plan/differentiate.hpp>
#include <fovea/plan/modifiers.hpp>
#include <fovea/plan/operands.hpp>
#include <fovea/plan/run.hpp>
#include <fovea/plan/wrong_arguments.hpp>
#include <fovea/received.hpp>
#include <fovea/view/tensor.hpp>

#include <cmath>
#include <optional>

FOVEA_NAMESPACE_BEGIN

struct attention_options {
  std::optional<double> scale = {};    // of Q K^T; 1 / sqrt(dim) without
  index_type heads = 0, kv_heads = 0;  // where the type leaves them dynamic_heads; kv_heads: 0 means heads
  executor_ref executor = {};          // who does the work; must outlive the attention object
  // At least plan_for(...).workspace_bytes(): calls then allocate nothing.
  borrowed_span<std::byte> workspace = {};
};

/// The base of attention<T, Heads, KVHeads>.
template <class T, int Heads, int KVHeads, class Arch>
class attention_call {
  static_assert(element<T>, "fovea: attention<T>: T is float, double, fovea::bf16 or fovea::fp16");
  static_assert(Heads == dynamic_heads || Heads > 0,
                "fovea: attention<T, Heads>: Heads is positive, or dynamic_heads");
  static_assert(KVHeads == dynamic_heads || (KVHeads > 0 && (Heads == dynamic_heads || Heads % KVHeads == 0)),
                "fovea: attention<T, Heads, KVHeads>: KVHeads divides Heads");

 protected:
  FOVEA_INLINE attention_call() = default;
  FOVEA_INLINE explicit attention_call(attention_options options) : options_(options) {
    agree("heads", options.heads, Heads), agree("kv_heads", options.kv_heads, KVHeads);
    if (options.scale && !std::isfinite(*options.scale))
      reject("scale is ", *options.scale, ", not a finite number");
  }

  template <class... X>
  using compute_of = common_compute_t<T, element_of<X>...>;

  FOVEA_INLINE static void agree(const char* name, index_type option, int fixed) {
    if (option < 0) reject("the option ", name, " is ", option, ", below 0");
    if (fixed != dynamic_heads && option != 0 && option != fixed)
      reject("the option ", name, " is ", option, ", but the type says ", fixed);
  }

  template <class Q, class K, class V>
  FOVEA_INLINE static auto no_lse() noexcept {
    return sequences<compute_of<Q, K, V>>{};
  }

  template <class Q>
  FOVEA_INLINE index_type heads_of(const Q& q) const {
    if (Heads != dynamic_heads) return Heads;
    if (options_.heads > 0) return options_.heads;
    return view_of(q, any_heads, "q").all.heads;  // a matrix: one
  }
  FOVEA_INLINE index_type kv_heads_of(index_type heads) const {
    const index_type kv_heads = KVHeads != dynamic_heads ? KVHeads
                                : options_.kv_heads > 0  ? options_.kv_heads
                                                         : heads;
    if (kv_heads <= 0 || heads % kv_heads != 0)
      reject(heads, " query heads can not share ", kv_heads, " key/value heads evenly");
    return kv_heads;
  }

  /// True, or an error that says which argument of attend(q, k, v, mods...) is none.
  template <class Q, class K, class V, class... Mods>
  static consteval bool check_types() {
    if constexpr (check_operand<Q>() && check_operand<K>() && check_operand<V>()) {
      static_assert(same_format<T, element_of<Q>>, "fovea: attention<T>: q has elements of type T");
      return (same_format<T, element_of<Q>> && ... && check_modifier<Mods>());
    }
    return false;
  }

  template <class E, class Q, class K, class V>
  FOVEA_INLINE auto result_for(const Q& q, const K& k, const V& v) const {
    const index_type heads = heads_of(q);
    static_cast<void>(view_of(k, kv_heads_of(heads), "k"));
    return make_like<E>(q, heads, view_of(v, kv_heads_of(heads), "v").dim());
  }

  /// The call as kernels know it, checked.
  template <class OE, class L, class Q, class K, class V, class... Mods>
  FOVEA_INLINE auto problem_of(const sequences<OE>& out, const sequences<L>& lse, const Q& q, const K& k,
                               const V& v, const Mods&... mods) const {
    static_assert(check_types<Q, K, V, Mods...>());
    const index_type heads = heads_of(q), kv_heads = kv_heads_of(heads);
    const auto queries = view_of(q, heads, "q");
    const auto keys = view_of(k, kv_heads, "k");
    const auto values = view_of(v, kv_heads, "v");
    return with_received(problem_from(out, lse, queries, keys, values, mods...), mods...);
  }

  template <class OE, class L, class QE, class Keys, class Values, class... Mods>
  FOVEA_INLINE auto problem_from(const sequences<OE>& out, const sequences<L>& lse, const sequences<QE>& q,
                                 const Keys& k, const Values& v, const Mods&... mods) const {
    check_same("q", "sequences", q.batches(), "k", k.batches());
    if (q.batches() > 0) check_same("q", "dimensions a head", q.dim(), "k", k.dim());
    check_same("k", "sequences", k.batches(), "v", v.batches());
    const auto rules = rules_of<mask_intersection>(mods...);
    decltype(auto) sink = sink_of(mods...);
    decltype(auto) dropout = dropout_of(mods...);
    for (index_type b = 0; b < q.batches(); ++b) {
      check_same("k", "tokens", k.tokens(b), "v", v.tokens(b));
      const place at{b, 0, q.batches(), q.heads(), q.tokens(b), k.tokens(b), Keys::in_cache};
      if constexpr (decltype(rules)::asks || std::remove_cvref_t<decltype(dropout)>::drops)
        check_positions(at);
      rules.check(at);
      if constexpr (sink_like<decltype(sink)>) check_score_at(sink, at);
      check_score_at(dropout, at);
    }
    const double scale =
        options_.scale.value_or(1 / std::sqrt(static_cast<double>(std::max<index_type>(q.all.dim, 1))));
    const auto queries = read_only(q);
    const auto keys = read_only(k);
    const auto values = read_only(v);
    using std::remove_const_t;
    return kernel::problem<L, remove_const_t<QE>, remove_const_t<decltype(keys)>,
                           remove_const_t<decltype(values)>, OE, remove_const_t<decltype(rules)>,
                           remove_const_t<decltype(sink)>, remove_const_t<decltype(dropout)>>{
        {queries, keys, values}, out, lse, static_cast<L>(scale), rules, sink, dropout};
  }

  template <class OE, class L, class Q, class K, class V, class... Mods>
  FOVEA_INLINE void attend(const sequences<OE>& out, const sequences<L>& lse, const Q& q, const K& k,
                           const V& v, const Mods&... mods) const {
    const auto p = problem_of(out, lse, q, k, v, mods...);
    check_result("o", out, "q", p.q, p.value_dim());
    if (p.wants_lse()) check_result("lse", lse, "q", p.q, 1);
    const auto made = make_plan<Arch>(p, options_.executor.workers());
    check_workspace(made);
    run<Arch>(p, made, options_.executor, options_.workspace);
  }

  template <class Plan>
  FOVEA_INLINE void check_workspace(const Plan& made) const {
    const auto given = static_cast<index_type>(options_.workspace.size());
    if (given > 0 && given < made.workspace_bytes())
      reject("workspace has ", given, " bytes, fewer than the ", made.workspace_bytes(), " of the plan");
  }

  /// A backward call as kernels know it, checked.
  template <class DQ, class DK, class DV, class Q, class K, class V, class O, class L, class G, class... Mods>
  FOVEA_INLINE auto gradients_of(DQ& d_q, DK& d_k, DV& d_v, const Q& q, const K& k, const V& v, const O& out,
                                 const L& lse, const G& d_out, const Mods&... mods) const {
    static_assert(check_operand<Q>() && check_operand<K>() && check_operand<V>() && check_operand<O>() &&
                  check_operand<L>() && check_operand<G>());
    using compute = compute_of<Q, K, V>;
    static_assert(std::is_same_v<element_of<L>, compute>,
                  "fovea: the LSE is float, or double where q, k or v is double");
    static_assert(same_format<T, element_of<Q>>, "fovea: attention<T>: q has elements of type T");
    static_assert(((modifier<Mods> || lse_gradient_like<Mods>)&&...),
                  "fovea: what follows d_out is a mask, a score, a sink, a dropout or lse_gradient(d_lse)");
    const index_type heads = heads_of(q), kv_heads = kv_heads_of(heads);
    const auto p = problem_from(sequences<const T>{}, sequences<compute>{}, view_of(q, heads, "q"),
                                view_of(k, kv_heads, "k"), view_of(v, kv_heads, "v"), mods...);
    static_assert(
        std::is_same_v<decltype(p.k.head(0, 0)), matrix_view<const element_of<K>>> &&
            std::is_same_v<decltype(p.v.head(0, 0)), matrix_view<const element_of<V>>>,
        "fovea: backward takes k and v as Eigen matrices, tensor_views, tensors or ragged batches: not a "
        "cache's, nor other heads that lie in pieces");
    const auto given_out = read_only(view_of(out, heads, "out"));
    const auto given_lse = read_only(view_of(lse, heads, "lse"));
    const auto given_d_out = read_only(view_of(d_out, heads, "d_out"));
    const auto given_d_lse = view_of_lse_gradient<compute>(heads, mods...);
    check_like("out", given_out, "q", p.q, p.value_dim()), check_like("lse", given_lse, "q", p.q, 1);
    check_like("d_out", given_d_out, "q", p.q, p.value_dim());
    if (given_d_lse.all.data != nullptr) check_like("d_lse", given_d_lse, "q", p.q, 1);
    const auto to_q = view_of(d_q, heads, "d_q");
    const auto to_k = view_of(d_k, kv_heads, "d_k"), to_v = view_of(d_v, kv_heads, "d_v");
    check_result("d_q", to_q, "q", p.q, p.dim()), check_result("d_k", to_k, "k", p.k, p.dim());
    check_result("d_v", to_v, "v", p.v, p.value_dim());
    return kernel::gradient_problem{p, given_out, given_lse, given_d_out, given_d_lse, to_q, to_k, to_v};
  }

  /// A call without values.
  template <class L, class Q, class K, class... Mods>
  FOVEA_INLINE auto problem_of_keys(const sequences<L>& lse, const Q& q, const K& k,
                                    const Mods&... mods) const {
    static_assert(check_types<Q, K, K, Mods...>());
    static_assert(!(received_like<Mods> || ...), "fovea: add_received goes with calls that make a result");
    const index_type heads = heads_of(q);
    const auto keys = view_of(k, kv_heads_of(heads), "k");
    const without_columns<std::remove_const_t<decltype(keys)>> values{keys};
    return problem_from(sequences<T>{}, lse, view_of(q, heads, "q"), keys, values, mods...);
  }

  /// The score matrices of some heads: probabilities, given the LSE of a run without values, or logits.
  template <class Q, class K, class... Mods>
  auto emit(bool probabilities, range heads, const Q& q, const K& k, const Mods&... mods) const {
    static_assert(check_types<Q, K, K, Mods...>());
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
