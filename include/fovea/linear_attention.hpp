// fovea/linear_attention.hpp - attention with a state in place of keys and values: linear in the tokens.
//
//   S_t = a_t S_{t-1} + k_t w_t^T       o_t = scale S_t^T q_t       S: d x dv, of a sequence's key/value head
//
//   w_t = v_t                                       a_t = 1           linear: attend(q, k, v)
//                                                   a_t = exp(g_t)    gated: attend(q, k, v, log_decay(g))
//   w_t = beta_t (v_t - (a_t S_{t-1})^T k_t)        a_t = 1           delta: attend(q, k, v, delta_rule(b))
//                                                   a_t = exp(g_t)    gated delta: both of these
//
// g_t is a number a head (RetNet, Mamba 2, Gated DeltaNet) or one a channel of k, diag(a_t) S (GLA, Kimi).
//
//   fovea::linear_attention<float, 8> attend;                         // 8 heads, scale 1/sqrt(d)
//   Matrix o = attend(q, k, v, fovea::log_decay(g), fovea::delta_rule(b));      // from the state 0
//   fovea::tensor<float> s(1, 8, d, dv);                              // a state to go on with
//   attend.into(o, q, k, v, fovea::log_decay(g), fovea::delta_rule(b), fovea::linear_state(s));
//   auto [d_q, d_k, d_v] = attend.backward(q, k, v, d_o, fovea::log_decay(g, d_g), fovea::delta_rule(b, d_b),
//                                          fovea::linear_state(s, d_s));   // s: before the first token
//
// Katharopoulos et al., "Transformers are RNNs", arXiv:2006.16236; Yang et al., "Gated Linear Attention
// Transformers", arXiv:2312.06635; Schlag et al., "Linear Transformers Are Secretly Fast Weight
// Programmers", arXiv:2102.11174; Yang et al., "Parallelizing Linear Transformers with the Delta Rule",
// arXiv:2406.06484, and "Gated Delta Networks", arXiv:2412.06464; Kimi Team, "Kimi Linear",
// arXiv:2510.26692. The operator is LinearAttention of ONNX, opset 27.
//
// Views, elements, executors and errors are those of attention.hpp. Results are the same bits for any
// executor, and for a sequence alone or in a batch. A NaN in a query shows in that row alone, one in k, v,
// decay or beta in the rows from its token on, and in the state.
#pragma once

#include <fovea/check_types.hpp>
#include <fovea/element.hpp>
#include <fovea/executor.hpp>
#include <fovea/linear/check.hpp>
#include <fovea/linear/differentiate.hpp>
#include <fovea/linear/run.hpp>
#include <fovea/plan/gradients.hpp>
#include <fovea/plan/heads.hpp>
#include <fovea/view.hpp>

FOVEA_NAMESPACE_BEGIN

/// T: the element of q and of returned results (float, double, bf16, fp16). Query head h reads the state of
/// key/value head h / (heads / kv_heads).
///
/// Sizes: q (L, d) a head, k (L, d), v (L, dv), o (L, dv): as many queries as keys. `mods`: at most one
/// each of log_decay, delta_rule, linear_state and linear_snapshots (linear/options.hpp) and a
/// workspace{bytes}, in any order. Sums are made in float, or in double where an element is double.
///
/// Cost: 4 L d dv operations a query head (delta rules 6), linear in L; memory O(d dv) a worker. Every
/// call throws std::invalid_argument, naming the argument and both values, before anything is written.
template <class T, int Heads = dynamic_heads, int KVHeads = Heads, class Arch = xsimd::default_arch>
class linear_attention {
  static_assert(element<T>, "fovea: linear_attention<T>: T is float, double, fovea::bf16 or fovea::fp16");
  static_assert(Heads == dynamic_heads || Heads > 0,
                "fovea: linear_attention<T, Heads>: Heads is positive, or dynamic_heads");
  static_assert(KVHeads == dynamic_heads || (KVHeads > 0 && (Heads == dynamic_heads || Heads % KVHeads == 0)),
                "fovea: linear_attention<T, Heads, KVHeads>: KVHeads divides Heads");

 public:
  linear_attention() = default;
  explicit linear_attention(const linear_attention_options& options) : options_(options) {
    check_heads("heads", options.heads, Heads), check_heads("kv_heads", options.kv_heads, KVHeads);
    if (options.scale && !is_finite(*options.scale))
      reject("scale is ", *options.scale, ", not a finite number");
  }

  /// Returns O, of the kind and storage order of q.
  template <class Q, class K, class V, class... Mods>
  auto operator()(const Q& q, const K& k, const V& v, const Mods&... mods) const {
    check_arguments<Q, K, V, Mods...>();
    const index_type heads = heads_of(q);
    auto out = make_like<T>(q, heads, view_of(v, kv_heads_of(heads), "v").dim());
    into(shaped_like(q, out), q, k, v, mods...);
    return out;
  }

  /// Writes O into `o`, which has its size and any element; o may be q itself, the same view, and otherwise
  /// shares no memory with what is read; nor does the state.
  template <class O, class Q, class K, class V, class... Mods>
  void into(O&& o, const Q& q, const K& k, const V& v, const Mods&... mods) const {
    const auto call = call_of(view_of(o, heads_of(q), "o"), q, k, v, mods...);
    linear::check_results(call);
    const auto plan = plan_of(call);
    const auto memory = memory_of(mods...);
    linear::check_memory(memory, plan, call, [&](const auto& bytes) {
      check_apart("workspace", bytes, "o", call.out.all);
      if (call.has_state) check_apart("workspace", bytes, "linear_state", call.state.all);
      if (call.has_snapshots) check_apart("workspace", bytes, "linear_snapshots", call.snapshots.all);
    });
    fill_rows_of_none(call.out);
    linear::run<Arch>(call, plan, options_.executor, memory);
  }

  /// What a call of into with the same arguments will do; writes and computes nothing.
  template <class O, class Q, class K, class V, class... Mods>
  linear_attention_plan into_plan_for(O&& o, const Q& q, const K& k, const V& v, const Mods&... mods) const {
    const auto call = call_of(view_of(o, heads_of(q), "o"), q, k, v, mods...);
    linear::check_results(call);
    return plan_of(call);
  }

  /// Returns {d_q, d_k, d_v}, like q, k and v: the gradients of a loss whose gradient by O is `d_out`; those
  /// of decays, delta rates and the state go where log_decay(g, d_g), delta_rule(b, d_b) and linear_state(s,
  /// d_s) say, d_s in and out; s is the state before the first token, and stays as it is.
  ///
  /// Nothing of the forward call is needed: states before each chunk of 32 tokens are made again, and kept,
  /// all of them in up to 16 MiB a worker, else a part at a time, made twice. Cost: 12 L d dv operations a
  /// query head (delta rules 18), linear in L; benchmarks count 10 of them for all rules, 8 that every
  /// program needs and 2 for the states. The gradient of a decay is a sum over the tokens after it, in a
  /// chunk with differences of products: its error is relative to the terms, not to their sum.
  /// (linear/chunk_gradient.hpp has the formulas; Yang et al., arXiv:2406.06484, appendix B, and
  /// arXiv:2312.06635, section 4.)
  template <class Q, class K, class V, class G, class... Mods>
  auto backward(const Q& q, const K& k, const V& v, const G& d_out, const Mods&... mods) const {
    check_arguments<Q, K, V, Mods...>();
    const index_type heads = heads_of(q);
    auto to = gradients_like(q, k, v, heads, kv_heads_of(heads));
    backward_into(shaped_like(q, to.d_q), shaped_like(k, to.d_k), shaped_like(v, to.d_v), q, k, v, d_out,
                  mods...);
    return to;
  }

  /// Writes them into `d_q`, `d_k` and `d_v`, which have the sizes of q, k and v and any element, and share
  /// no memory with each other, with the other gradients or with what is read.
  template <class DQ, class DK, class DV, class Q, class K, class V, class G, class... Mods>
  void backward_into(DQ&& d_q, DK&& d_k, DV&& d_v, const Q& q, const K& k, const V& v, const G& d_out,
                     const Mods&... mods) const {
    const auto g = gradients_of(d_q, d_k, d_v, q, k, v, d_out, mods...);
    const auto plan = linear::make_gradient_plan<Arch>(g, options_.executor.workers());
    const auto memory = memory_of(mods...);
    linear::check_memory(memory, plan, g.forward, [&](const auto& bytes) {
      linear::each_gradient(
          g, [&](const char* name, const auto& to) { check_apart("workspace", bytes, name, to.all); });
    });
    fill_rows_of_none(g.d_q), fill_rows_of_none(g.d_k), fill_rows_of_none(g.d_v);
    linear::differentiate<Arch>(g, plan, options_.executor, memory);
  }

  /// What a call of backward_into with the same arguments will do; writes and computes nothing.
  template <class DQ, class DK, class DV, class Q, class K, class V, class G, class... Mods>
  linear_attention_plan backward_plan_for(DQ&& d_q, DK&& d_k, DV&& d_v, const Q& q, const K& k, const V& v,
                                          const G& d_out, const Mods&... mods) const {
    return linear::make_gradient_plan<Arch>(gradients_of(d_q, d_k, d_v, q, k, v, d_out, mods...),
                                            options_.executor.workers());
  }

 private:
  template <class Q, class K, class V, class... Mods>
  static consteval void check_arguments() {
    static_assert(check_operand<Q>() && check_operand<K>() && check_operand<V>());
    static_assert(same_format<T, element_of<Q>>, "fovea: linear_attention<T>: q has elements of type T");
    static_assert(((log_decay_like<Mods> || delta_rule_like<Mods> || linear_state_like<Mods> ||
                    linear_snapshots_like<Mods> || workspace_like<Mods>)&&...),
                  "fovea: what follows v is log_decay(g), delta_rule(b), linear_state(s), "
                  "linear_snapshots(states, n) or "
                  "workspace{bytes}");
    static_assert((0 + ... + int(log_decay_like<Mods>)) <= 1 && (0 + ... + int(delta_rule_like<Mods>)) <= 1 &&
                      (0 + ... + int(linear_state_like<Mods>)) <= 1 &&
                      (0 + ... + int(linear_snapshots_like<Mods>)) <= 1,
                  "fovea: a call has at most one log_decay, delta_rule, linear_state and linear_snapshots");
  }

  attention_options head_options() const { return {.heads = options_.heads, .kv_heads = options_.kv_heads}; }
  template <class Q>
  index_type heads_of(const Q& q) const {
    return query_heads<Heads>(head_options(), q);
  }
  index_type kv_heads_of(index_type heads) const { return key_value_heads<KVHeads>(head_options(), heads); }

  template <class... Mods>
  std::span<std::byte> memory_of(const Mods&... mods) const {
    std::span<std::byte> memory = options_.workspace;
    (
        [&](const auto& m) {
          if constexpr (workspace_like<decltype(m)>) memory = m.bytes;
        }(mods),
        ...);
    return memory;
  }

  template <class Out, class Q, class K, class V, class... Mods>
  auto call_of(const Out& out, const Q& q, const K& k, const V& v, const Mods&... mods) const {
    check_arguments<Q, K, V, Mods...>();
    using compute = common_compute_t<element_of<Q>, element_of<K>, element_of<V>>;
    const index_type heads = heads_of(q), kv_heads = kv_heads_of(heads);
    const auto queries = read_only(view_of(q, heads, "q"));
    const auto keys = read_only(view_of(k, kv_heads, "k"));
    const auto values = read_only(view_of(v, kv_heads, "v"));
    const auto g = linear::operand_of<linear::operand::decay, const compute>(kv_heads, mods...);
    const auto b = linear::operand_of<linear::operand::beta, const compute>(kv_heads, mods...);
    const auto s = linear::operand_of<linear::operand::state, compute>(kv_heads, mods...);
    const auto past = linear::operand_of<linear::operand::snapshots, compute>(kv_heads, mods...);
    linear::call<compute, element_of<Q>, element_of<K>, element_of<V>, linear::element_in<Out>,
                 linear::element_in<decltype(g)>, linear::element_in<decltype(b)>,
                 linear::readable_in<decltype(s)>, linear::element_in<decltype(past)>>
        c{queries, keys, values, out, g, b, s, past};
    c.has_decay = (log_decay_like<Mods> || ...), c.has_beta = (delta_rule_like<Mods> || ...);
    c.has_state = (linear_state_like<Mods> || ...), c.l2_norm = options_.l2_norm;
    c.has_snapshots = (linear_snapshots_like<Mods> || ...);
    (
        [&](const auto& m) {
          if constexpr (linear_snapshots_like<decltype(m)>) c.every = m.every;
        }(mods),
        ...);
    const index_type d = queries.dim();
    c.scale = static_cast<compute>(
        options_.scale.value_or(1 / std::sqrt(static_cast<double>(std::max<index_type>(d, 1)))));
    linear::check_operands(c);
    return c;
  }

  template <class DQ, class DK, class DV, class Q, class K, class V, class G, class... Mods>
  auto gradients_of(DQ& d_q, DK& d_k, DV& d_v, const Q& q, const K& k, const V& v, const G& d_out,
                    const Mods&... mods) const {
    check_arguments<Q, K, V, Mods...>();
    static_assert(!(linear_snapshots_like<Mods> || ...), "fovea: backward takes no linear_snapshots");
    using compute = common_compute_t<element_of<Q>, element_of<K>, element_of<V>>;
    const index_type heads = heads_of(q), kv_heads = kv_heads_of(heads);
    const auto forward = call_of(sequences<compute>{}, q, k, v, mods...);
    const auto d_g = linear::gradient_of<linear::operand::decay, compute>(kv_heads, mods...);
    const auto d_b = linear::gradient_of<linear::operand::beta, compute>(kv_heads, mods...);
    const auto d_s = linear::gradient_of<linear::operand::state, compute>(kv_heads, mods...);
    linear::gradient_call<std::remove_const_t<decltype(forward)>, element_of<G>, element_of<DQ>,
                          element_of<DK>, element_of<DV>, linear::element_in<decltype(d_g)>,
                          linear::element_in<decltype(d_b)>, linear::element_in<decltype(d_s)>>
        g{forward,
          read_only(view_of(d_out, heads, "d_out")),
          view_of(d_q, heads, "d_q"),
          view_of(d_k, kv_heads, "d_k"),
          view_of(d_v, kv_heads, "d_v"),
          d_g,
          d_b,
          d_s};
    linear::check_gradients(g);
    return g;
  }

  template <class Call>
  linear_attention_plan plan_of(const Call& c) const {
    return linear::make_plan<Arch>(c, options_.engine, options_.executor.workers());
  }

  linear_attention_options options_{};
};

FOVEA_NAMESPACE_END
