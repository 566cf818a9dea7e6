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
  attention_call() = default;
  explicit attention_call(attention_options options) : options_(options) {
    agree("heads", options.heads, Heads), agree("kv_heads", options.kv_heads, KVHeads);
    if (options.scale && !is_finite(*options.scale))
      reject("scale is ", *options.scale, ", not a finite number");
  }

  template <class... X>
  using compute_of = common_compute_t<T, element_of<X>...>;

  static void agree(const char* name, index_type option, int fixed) {
    if (option < 0) reject("the option ", name, " is ", option, ", below 0");
    if (fixed != dynamic_heads && option != 0 && option != fixed)
      reject("the option ", name, " is ", option, ", but the type says ", fixed);
  }

  template <class Q, class K, class V>
  static auto no_lse() noexcept {
    return sequences<compute_of<Q, K, V>>{};
  }

  template <class Q>
  index_type heads_of(const Q& q) const {
    if (Heads != dynamic_heads) return Heads;
    if (options_.heads > 0) return options_.heads;
    if constexpr (!tells_heads<Q>)
      reject(
          "q is a matrix, which does not tell how many heads it holds; give their number as an option, "
          "attention<T>{{.heads = 8}}, or in the type, attention<T, 8> (1, where it holds one)");
    return view_of(q, any_heads, "q").all.heads;
  }
  index_type kv_heads_of(index_type heads) const {
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
  auto result_for(const Q& q, const K& k, const V& v) const {
    const index_type heads = heads_of(q);
    static_cast<void>(view_of(k, kv_heads_of(heads), "k"));
    return make_like<E>(q, heads, view_of(v, kv_heads_of(heads), "v").dim());
  }

  /// The call as kernels know it, checked.
  template <class OE, class L, class Q, class K, class V, class... Mods>
  auto problem_of(const sequences<OE>& out, const sequences<L>& lse, const Q& q, const K& k, const V& v,
                  const Mods&... mods) const {
    static_assert(check_types<Q, K, V, Mods...>());
    const index_type heads = heads_of(q), kv_heads = kv_heads_of(heads);
    const auto queries = view_of(q, heads, "q");
    const auto keys = view_of(k, kv_heads, "k");
    const auto values = view_of(v, kv_heads, "v");
    return with_received(problem_from(out, lse, queries, keys, values, mods...), mods...);
  }

  template <class OE, class L, class QE, class Keys, class Values, class... Mods>
  auto problem_from(const sequences<OE>& out, const sequences<L>& lse, const sequences<QE>& q, const Keys& k,
                    const Values& v, const Mods&... mods) const {
    check_same("q", "sequences", q.batches(), "k", k.batches());
    if (q.batches() > 0) check_same("q", "dimensions a head", q.dim(), "k", k.dim());
    check_same("k", "sequences", k.batches(), "v", v.batches());
    const auto rules = rules_of<mask_intersection>(mods...);
    decltype(auto) sink = sink_of(mods...);
    decltype(auto) dropout = dropout_of(mods...);
    decltype(auto) scorer = scorer_of(mods...);
    constexpr bool scores_dots = std::is_same_v<std::remove_cvref_t<decltype(scorer)>, dot_product>;
    index_type keys_at_most = 0;  // a cache's lie in memory
    if constexpr (requires { k.all.tokens; }) keys_at_most = k.all.tokens;
    if (((q.all.tokens | keys_at_most) >> 22) + ((q.dim() | v.dim()) >> 12) +
            ((q.batches() | q.heads()) >> 10) >
        0)
      check_countable(q.batches(), q.heads(), q.all.tokens, keys_at_most, q.dim(), v.dim());
    for (index_type b = 0; b < q.batches(); ++b) {
      check_same("k", "tokens", k.tokens(b), "v", v.tokens(b));
      const place at{b, 0, q.batches(), q.heads(), q.tokens(b), k.tokens(b), Keys::in_cache};
      if constexpr (decltype(rules)::asks || std::remove_cvref_t<decltype(dropout)>::drops)
        check_positions(at);
      rules.check(at);
      if constexpr (sink_like<decltype(sink)>) check_score_at(sink, at);
      check_score_at(dropout, at);
    }
    if constexpr (sink_like<decltype(sink)>)
      if (q.batches() == 0) check_score_at(sink, {.batches = 0, .heads = q.heads()});
    rules.template check_numbers<L>(), check_numbers_of<L>(sink);
    const double scale = scale_for(scorer, options_.scale, q.all.dim);
    if (!is_finite(static_cast<L>(scale * std::numbers::log2e)))
      reject("scale is ", scale, ", which times log2(e) is no finite ",
             std::is_same_v<L, double> ? "double" : "float");
    const auto queries = read_only(q);
    const auto keys = read_only(k);
    const auto values = read_only(v);
    using std::remove_const_t;
    return kernel::problem<L, remove_const_t<QE>, remove_const_t<decltype(keys)>,
                           remove_const_t<decltype(values)>, OE, remove_const_t<decltype(rules)>,
                           remove_const_t<decltype(sink)>, remove_const_t<decltype(dropout)>,
                           remove_const_t<decltype(scorer)>>{
        {queries, keys, values, !scores_dots}, out, lse, static_cast<L>(scale), rules, sink, dropout, scorer};
  }

  /// The same with a result, which can be written and lies apart from what is read, or is q itself.
  template <class OE, class L, class Q, class K, class V, class... Mods>
  auto problem_into(const sequences<OE>& out, const sequences<L>& lse, const Q& q, const K& k, const V& v,
                    const Mods&... mods) const {
    const auto p = problem_of(out, lse, q, k, v, mods...);
    check_result("o", out, "q", p.q, p.value_dim());
    check_apart_or_same("o", out, "q", p.q), check_apart_from_keys("o", out.all, p, mods...);
    if (p.wants_lse()) {
      check_result("lse", lse, "q", p.q, 1);
      check_apart("lse", lse.all, "o", out.all), check_apart("lse", lse.all, "q", p.q);
      check_apart_from_keys("lse", lse.all, p, mods...);
    }
    if constexpr (std::remove_const_t<decltype(p)>::receives) {
      const auto& sums = p.received.all;
      check_apart("received", sums, "o", out.all), check_apart("received", sums, "q", p.q);
      if (p.wants_lse()) check_apart("received", sums, "lse", lse.all);
      check_apart_from_keys("received", sums, p, mods...);
    }
    return p;
  }
  template <class E, class P, class... Mods>
  static void check_apart_from_keys(const char* name, const tensor_view<E>& written, const P& p,
                                    const Mods&... mods) {
    check_apart(name, written, "k", p.k), check_apart(name, written, "v", p.v);
    [[maybe_unused]] const auto check = [&](const char* other, const auto& operand) {
      check_apart(name, written, other, operand);
    };
    (each_operand_of(mods, check), ...);
  }

  template <class OE, class L, class Q, class K, class V, class... Mods>
  void attend(const sequences<OE>& out, const sequences<L>& lse, const Q& q, const K& k, const V& v,
              const Mods&... mods) const {
    const auto p = problem_into(out, lse, q, k, v, mods...);
    const auto plan = make_plan<Arch>(p, options_.executor.workers());
    check_workspace(plan, "q", p.q, "k", p.k, "v", p.v, "o", out.all, "lse", lse.all);
    fill_rows_of_none(out, OE{});
    if (p.wants_lse()) fill_rows_of_none(lse, -std::numeric_limits<L>::infinity());
    run<Arch>(p, plan, options_.executor, options_.workspace);
  }

  /// Whether a workspace, if given, is as large as a plan needs, and apart from some named operands.
  template <class Plan, class... Named>
  void check_workspace(const Plan& plan, const Named&... operands) const {
    const auto given = static_cast<index_type>(options_.workspace.size());
    if (given == 0) return;
    if (given < plan.workspace_bytes())
      reject("workspace has ", given, " bytes, fewer than the ", plan.workspace_bytes(), " of the plan");
    check_workspace_apart(operands...);
  }
  void check_workspace_apart() const noexcept {}
  template <class X, class... Named>
  void check_workspace_apart(const char* name, const X& x, const Named&... operands) const {
    check_apart("workspace", view_of_list(options_.workspace), name, x);
    check_workspace_apart(operands...);
  }

  /// A backward call as kernels know it, checked.
  template <class DQ, class DK, class DV, class Q, class K, class V, class O, class L, class G, class... Mods>
  auto gradients_of(DQ& d_q, DK& d_k, DV& d_v, const Q& q, const K& k, const V& v, const O& out, const L& lse,
                    const G& d_out, const Mods&... mods) const {
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
    check_gradients_apart<3 + sizeof...(Mods)>(p, to_q, to_k, to_v, [&](const auto& read) {
      read("q", p.q), read("k", p.k), read("v", p.v), read("out", given_out), read("lse", given_lse);
      read("d_out", given_d_out), read("d_lse", given_d_lse), (each_operand_of(mods, read), ...);
    });
    return kernel::gradient_problem{p, given_out, given_lse, given_d_out, given_d_lse, to_q, to_k, to_v};
  }

  /// Whether gradients, those of parameters among them, can be written, and share nothing with each other or
  /// with what is read: each_read(f) calls f(name, operand) for that.
  template <std::size_t Most, class P, class DQ, class DK, class DV, class F>
  static void check_gradients_apart(const P& p, const sequences<DQ>& d_q, const sequences<DK>& d_k,
                                    const sequences<DV>& d_v, const F& each_read) {
    results<Most> gradients;
    gradients.add("d_q", d_q.all), gradients.add("d_k", d_k.all), gradients.add("d_v", d_v.all);
    p.rules.scores.each([&](const auto& score) {
      if constexpr (learning_score<decltype(score)>)
        if (const auto to = score.gradient(); to.data != nullptr)
          gradients.add(gradient_name<std::remove_cvref_t<decltype(score)>>, view_of_gradient(to));
    });
    if constexpr (requires { p.sink.gradient(); })
      gradients.add("sink's d_logits", view_of_list(p.sink.gradient()));
    each_read([&](const char* name, const auto& x) { gradients.check_apart_from(name, x); });
  }
  template <class E>
  static tensor_view<E> view_of_gradient(const parameter_gradient<E>& to) noexcept {
    return {to.data,         to.batch,       to.heads,        to.queries,   to.keys,
            to.batch_stride, to.head_stride, to.query_stride, to.key_stride};
  }

  /// A call without values.
  template <class L, class Q, class K, class... Mods>
  auto problem_of_keys(const sequences<L>& lse, const Q& q, const K& k, const Mods&... mods) const {
    static_assert(check_types<Q, K, K, Mods...>());
    static_assert(!(received_like<Mods> || ...), "fovea: add_received goes with calls that make a result");
    const index_type heads = heads_of(q);
    const auto keys = read_only(view_of(k, kv_heads_of(heads), "k"));
    const without_columns<std::remove_const_t<decltype(keys)>> values{keys};
    return problem_from(sequences<T>{}, lse, view_of(q, heads, "q"), keys, values, mods...);
  }

  /// The score matrices of some heads: probabilities, given the LSE of a run without values, or logits.
  template <class Q, class K, class... Mods>
  auto emit(bool probabilities, range heads, const Q& q, const K& k, const Mods&... mods) const {
    static_assert(check_types<Q, K, K, Mods...>());
    using compute = compute_of<Q, K>;
    auto p = problem_of_keys(sequences<compute>{}, q, k, mods...);
    tensor<compute> result(p.q.batches(), heads.size(), p.q.max_tokens(), p.k.max_tokens());
    tensor<compute> lse(p.q.batches(), p.heads(), p.q.max_tokens(), 1);
    p.lse = as_sequences(lse, any_heads, "lse");
    if (probabilities) run<Arch>(p, make_plan<Arch>(p, 1), {}, {});
    emit_all<Arch>(p, heads, as_sequences(result, any_heads, "result"), probabilities);
    return result;
  }

  attention_options options_{};
};

FOVEA_NAMESPACE_END
