// fovea/plan/build_problem.hpp - the call as kernels know it, from views and modifiers, checked.
#pragma once

#include <fovea/plan/last_cache.hpp>
#include <fovea/plan/modifiers.hpp>
#include <fovea/plan/operands.hpp>

#include <numbers>

FOVEA_NAMESPACE_BEGIN

/// A problem with the weights that one of `mods` says in place of the softmax, if one does.
template <class Problem, class... Mods>
auto weighed(const Problem& p, const Mods&... mods) {
  if constexpr ((weighing_like<Mods> || ...)) {
    static_assert((0 + ... + int(weighing_like<Mods>)) == 1 && !(sink_like<Mods> || ...),
                  "fovea: sigmoids have no sum that a sink would join");
    static_assert(!((received_like<Mods> || weights_like<Mods>) || ...),
                  "fovea: add_received and weights_into are of the softmax");
    const double bias = keep<is_weighing>(mods...).first.bias;
    if (!is_finite(static_cast<typename Problem::compute>(bias * std::numbers::log2e)))
      reject("sigmoid attention's bias is ", bias, ", not finite");
    if (p.wants_lse()) reject("sigmoids have no LSE");
    return kernel::with_sigmoid<Problem>{p, bias};
  } else {
    return p;
  }
}

/// Whether sizes fit each other, masks, scores, sink and dropout fit all sequences, and numbers the type of
/// the sums. Masks: the intersection to build. `out` and `lse` are not looked at: see check_results.
template <template <class...> class Masks, class Out, class L, class QE, class Keys, class Values,
          class... Mods>
auto build_problem(const std::optional<double>& scale_option, const Out& out, const sequences<L>& lse,
                   const sequences<QE>& q, const Keys& k, const Values& v, const Mods&... mods) {
  check_same("q", "sequences", q.batches(), "k", k.batches());
  if (q.batches() > 0) check_same("q", "dimensions a head", q.dim(), "k", k.dim());
  check_same("k", "sequences", k.batches(), "v", v.batches());
  const auto rules = rules_of<Masks>(mods...);
  decltype(auto) sink = sink_of(mods...);
  decltype(auto) dropout = dropout_of(mods...);
  decltype(auto) scorer = scorer_of(mods...);
  index_type keys_at_most = 0;  // a cache's lie in memory
  if constexpr (requires { k.all.tokens; }) keys_at_most = k.all.tokens;
  if (((q.all.tokens | keys_at_most) >> 22) + ((q.dim() | v.dim()) >> 12) +
          ((q.batches() | q.heads()) >> 10) >
      0)
    check_countable(q.batches(), q.heads(), q.all.tokens, keys_at_most, q.dim(), v.dim());
  index_type keys_of_all = 0;
  for (index_type b = 0; b < q.batches(); ++b) {
    const index_type keys_of_one = k.tokens(b);
    keys_of_all += keys_of_one;
    check_same("k", "tokens", keys_of_one, "v", v.tokens(b));
    const place at{b, 0, q.batches(), q.heads(), q.tokens(b), keys_of_one, k.in_cache};
    if constexpr (decltype(rules)::asks || std::remove_cvref_t<decltype(dropout)>::drops) check_positions(at);
    rules.check(at);
    if constexpr (sink_like<decltype(sink)>) check_score_at(sink, at);
    check_score_at(dropout, at), check_score_at(scorer, at);
  }
  if constexpr (sink_like<decltype(sink)>)
    if (q.batches() == 0) check_score_at(sink, {.batches = 0, .heads = q.heads()});
  rules.template check_numbers<L>(), check_numbers_of<L>(sink);
  if constexpr (requires { scorer.channels(); })
    if (q.batches() > 0) check_same("q", "dimensions a head", q.dim(), "the scorer", scorer.channels());
  const double scale = scale_for(scorer, scale_option, q.all.dim);
  if (!is_finite(static_cast<L>(scale * std::numbers::log2e)))
    reject("scale is ", scale, ", which times log2(e) is no finite ",
           std::is_same_v<L, double> ? "double" : "float");
  const auto queries = read_only(q);
  const auto keys = read_only(k);
  const auto values = read_only(v);
  using std::remove_const_t;
  const double bytes = static_cast<double>(keys_of_all) * (bytes_a_token(k) + bytes_a_token(v));
  const kernel::problem<L, remove_const_t<QE>, remove_const_t<decltype(keys)>,
                        remove_const_t<decltype(values)>, Out, remove_const_t<decltype(rules)>,
                        remove_const_t<decltype(sink)>, remove_const_t<decltype(dropout)>,
                        remove_const_t<decltype(scorer)>>
      problem{{queries, keys, values},
              out,
              lse,
              static_cast<L>(scale),
              rules,
              sink,
              dropout,
              scorer,
              lies_beyond_caches(bytes),
              comes_from_memory(bytes)};
  return weighed(problem, mods...);
}

/// A problem without values: of keys alone.
template <template <class...> class Masks, class OE, class L, class QE, class Keys, class... Mods>
auto build_problem_of_keys(const std::optional<double>& scale_option, const sequences<OE>& out,
                           const sequences<L>& lse, const sequences<QE>& q, const Keys& k,
                           const Mods&... mods) {
  const auto keys = read_only(k);
  const without_columns<std::remove_const_t<decltype(keys)>> values{keys};
  return build_problem<Masks>(scale_option, out, lse, q, keys, values, mods...);
}

template <class E, class Problem, class... Mods>
void check_apart_from_keys(const char* name, const tensor_view<E>& written, const Problem& p,
                           const Mods&... mods) {
  check_apart(name, written, "k", p.k), check_apart(name, written, "v", p.v);
  [[maybe_unused]] const auto check = [&](const char* other, const auto& operand) {
    check_apart(name, written, other, operand);
  };
  (each_operand_of(mods, check), ...);
}

/// Whether the results have the sizes of the call, can be written, and lie apart from what is read and from
/// each other; O may be Q itself.
template <class Problem, class... Mods>
void check_results(const Problem& p, const Mods&... mods) {
  const auto& out = p.out;
  const auto& lse = p.lse;
  check_result("o", out, "q", p.q, p.value_dim());
  check_apart_or_same("o", out, "q", p.q), check_apart_from_keys("o", out.all, p, mods...);
  if (p.wants_lse()) {
    check_result("lse", lse, "q", p.q, 1);
    check_apart("lse", lse.all, "o", out.all), check_apart("lse", lse.all, "q", p.q);
    check_apart_from_keys("lse", lse.all, p, mods...);
  }
  if constexpr (Problem::keeps_weights) {
    const auto& weights = p.weights.all;
    check_result("weights", p.weights, "q", p.q, p.k.max_tokens());
    check_apart("weights", weights, "o", out.all), check_apart("weights", weights, "q", p.q);
    if (p.wants_lse()) check_apart("weights", weights, "lse", lse.all);
    check_apart_from_keys("weights", weights, p, mods...);
  }
  if constexpr (Problem::receives) {
    const auto& sums = p.received.all;
    check_apart("received", sums, "o", out.all), check_apart("received", sums, "q", p.q);
    if (p.wants_lse()) check_apart("received", sums, "lse", lse.all);
    if constexpr (Problem::keeps_weights) check_apart("received", sums, "weights", p.weights.all);
    check_apart_from_keys("received", sums, p, mods...);
  }
}

FOVEA_NAMESPACE_END
