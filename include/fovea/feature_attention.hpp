// fovea/feature_attention.hpp - attention with a product of features in place of the softmax's exponential.
//
//   O_i = sum_j phi(q_i) . phi(k_j) v_j / (sum_j phi(q_i) . phi(k_j) + epsilon)    over all j, or j <= i
//
//   fovea::feature_attention<float, 8> attend;                   // phi(x) = elu(x) + 1
//   Matrix o = attend(q, k, v);                                  // phi(Q) (phi(K)^T V): linear in the tokens
//   Matrix c = attend(q, k, v, fovea::causal);                   // linear_attention.hpp's chunks
//   fovea::feature_attention<float, 8, 8, fovea::relu_features> with_relu;
//   auto [d_q, d_k, d_v] = attend.backward(q, k, v, d_o, fovea::causal);
//
// Katharopoulos et al., "Transformers are RNNs", arXiv:2006.16236, equations 4 to 7. Views, elements,
// executors and errors are those of attention.hpp.
#pragma once

#include <fovea/feature_attention/backward.hpp>
#include <fovea/feature_attention/forward.hpp>
#include <fovea/mask/causal.hpp>
#include <fovea/plan/gradients.hpp>

FOVEA_NAMESPACE_BEGIN

/// epsilon: added to the normaliser, which is 0 where no feature is.
struct feature_options {
  index_type heads = 0, kv_heads = 0;  // where the type leaves them dynamic_heads; kv_heads: 0 means heads
  double epsilon = 1e-6;
  executor_ref executor = {};  // who does the work; must outlive the attention object
};

/// T: the element of q and of returned results. Sizes: q (Lq, d) a head, k (Lk, d), v (Lk, dv), o (Lq, dv);
/// with `causal`, Lq = Lk. Features: any function of a number or a SIMD batch (features.hpp has two), applied
/// to each channel; it should not be negative. No scale: put one into the features.
///
/// Cost: 4 L d dv operations a query head, backward three times that. Memory a worker: 512 tokens and a
/// state; backward as well, causal at most 64 states and a 64th of the tokens, if that is more. A row that
/// sees no key, or none of a weight above 0, is 0 and so are its gradients, with an epsilon of 0 as well. A
/// NaN in a query shows in its row alone, one in k or v in the rows that see it. Results are the same bits
/// for any executor. Every call throws std::invalid_argument, naming the argument and both values, before
/// anything is written.
template <class T, int Heads = dynamic_heads, int KVHeads = Heads, class Features = elu_plus_one_features,
          class Arch = xsimd::default_arch>
class feature_attention {
 public:
  explicit feature_attention(const feature_options& options = {}, const Features& features = {})
      : options_(options), features_(features) {
    check_heads("heads", options.heads, Heads), check_heads("kv_heads", options.kv_heads, KVHeads);
    if (!(options.epsilon >= 0) || !is_finite(options.epsilon))
      reject("epsilon is ", options.epsilon, ", not a finite number of at least 0");
  }

  /// Returns O, of the kind and storage order of q; `mask`: causal, or nothing.
  template <class Q, class K, class V, class... Mask>
  auto operator()(const Q& q, const K& k, const V& v, const Mask&... mask) const {
    const index_type heads = heads_of(q);
    auto out = make_like<T>(q, heads, view_of(v, kv_heads_of(heads), "v").dim());
    into(shaped_like(q, out), q, k, v, mask...);
    return out;
  }

  /// Writes O into `o`, which has its size and any element, and shares no memory with q, k and v.
  template <class O, class Q, class K, class V, class... Mask>
  void into(O&& o, const Q& q, const K& k, const V& v, const Mask&...) const {
    const auto c = call_of<Mask...>(q, k, v);
    const auto out = view_of(o, c.q.heads(), "o");
    check_result("o", out, "q", c.q, c.v.dim());
    check_apart("o", out.all, "q", c.q), check_apart("o", out.all, "k", c.k);
    check_apart("o", out.all, "v", c.v);
    fill_rows_of_none(out);
    options_.executor.for_each(c.k.batches() * c.k.heads(), [&](index_type job, index_type) {
      features::forward_head<Arch, std::remove_const_t<decltype(c)>, Features>(c, features_, job).run(out);
    });
  }

  /// Returns {d_q, d_k, d_v}, like q, k and v: the gradients of a loss whose gradient by O is `d_out`, with
  /// the derivatives of the features, found by dual numbers. Nothing of the forward call is needed.
  template <class Q, class K, class V, class G, class... Mask>
  auto backward(const Q& q, const K& k, const V& v, const G& d_out, const Mask&... mask) const {
    const index_type heads = heads_of(q);
    auto to = gradients_like(q, k, v, heads, kv_heads_of(heads));
    backward_into(shaped_like(q, to.d_q), shaped_like(k, to.d_k), shaped_like(v, to.d_v), q, k, v, d_out,
                  mask...);
    return to;
  }

  /// Writes them into `d_q`, `d_k` and `d_v`, which have the sizes of q, k and v and any element, and share
  /// no memory with each other or with what is read.
  template <class DQ, class DK, class DV, class Q, class K, class V, class G, class... Mask>
  void backward_into(DQ&& d_q, DK&& d_k, DV&& d_v, const Q& q, const K& k, const V& v, const G& d_out,
                     const Mask&...) const {
    const auto c = call_of<Mask...>(q, k, v);
    const auto by_out = read_only(view_of(d_out, c.q.heads(), "d_out"));
    const auto by_q = view_of(d_q, c.q.heads(), "d_q");
    const auto by_k = view_of(d_k, c.k.heads(), "d_k");
    const auto by_v = view_of(d_v, c.k.heads(), "d_v");
    check_like("d_out", by_out, "q", c.q, c.v.dim());
    check_result("d_q", by_q, "q", c.q, c.q.dim()), check_result("d_k", by_k, "k", c.k, c.k.dim());
    check_result("d_v", by_v, "v", c.v, c.v.dim());
    results<3> written;
    written.add("d_q", by_q.all), written.add("d_k", by_k.all), written.add("d_v", by_v.all);
    written.check_apart_from("q", c.q), written.check_apart_from("k", c.k);
    written.check_apart_from("v", c.v), written.check_apart_from("d_out", by_out);
    fill_rows_of_none(by_q), fill_rows_of_none(by_k), fill_rows_of_none(by_v);
    options_.executor.for_each(c.k.batches() * c.k.heads(), [&](index_type job, index_type) {
      features::backward_head<Arch, std::remove_const_t<decltype(c)>, Features>(c, features_, job)
          .run(by_out, by_q, by_k, by_v);
    });
  }

 private:
  attention_options head_options() const { return {.heads = options_.heads, .kv_heads = options_.kv_heads}; }
  template <class Q>
  index_type heads_of(const Q& q) const {
    return query_heads<Heads>(head_options(), q);
  }
  index_type kv_heads_of(index_type heads) const { return key_value_heads<KVHeads>(head_options(), heads); }

  template <class... Mask, class Q, class K, class V>
  auto call_of(const Q& q, const K& k, const V& v) const {
    static_assert(check_operand<Q>() && check_operand<K>() && check_operand<V>());
    static_assert(same_format<T, element_of<Q>>, "fovea: feature_attention<T>: q has elements of type T");
    static_assert(sizeof...(Mask) <= 1 && (std::is_same_v<Mask, causal_mask> && ...),
                  "fovea: feature_attention takes causal, or no mask");
    const index_type heads = heads_of(q), kv_heads = kv_heads_of(heads);
    const auto queries = read_only(view_of(q, heads, "q"));
    const auto keys = read_only(view_of(k, kv_heads, "k"));
    const auto values = read_only(view_of(v, kv_heads, "v"));
    features::call<common_compute_t<element_of<Q>, element_of<K>, element_of<V>>, element_of<Q>,
                   element_of<K>, element_of<V>>
        c{queries, keys, values, sizeof...(Mask) == 1, options_.epsilon};
    check_same("k", "sequences", keys.batches(), "q", queries.batches());
    if (keys.dim() != queries.dim() && queries.batches() > 0)
      reject("k has ", keys.dim(), " columns a head, but q has ", queries.dim());
    check_like("v", values, "k", keys, values.dim());
    for (index_type b = 0; c.is_causal && b < queries.batches(); ++b)
      check_same("k", "tokens", keys.tokens(b), "q", queries.tokens(b));
    return c;
  }

  feature_options options_;
  Features features_;
};

FOVEA_NAMESPACE_END
