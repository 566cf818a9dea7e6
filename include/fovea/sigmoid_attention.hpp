// fovea/sigmoid_attention.hpp - attention by sigmoids: each weight by itself, none divided by their sum.
//
//   O = sigmoid(score(scale * Q K^T) + bias) V
//
//   fovea::sigmoid_attention<float, 8> attend({.bias = -std::log(n)});     // n: keys of a training sequence
//   Matrix o = attend(q, k, v, fovea::causal);
//   auto [d_q, d_k, d_v] = attend.backward(q, k, v, d_o, fovea::causal);
//
// Ramapuram et al., "Theory, Analysis, and Best Practices for Sigmoid Self-Attention", arXiv:2409.04431: with
// a bias of -ln n the sum of n weights begins near 1, as a softmax's is.
//
// Masks, scores, views, elements, caches, executors and errors are those of attention.hpp, and so is what is
// promised of bits. A row that sees no key is 0. There is no LSE: the results of parts over different keys
// add up. A bias that is learnt, a number a head, is the score bias(m, d_m) of a 1 x heads x 1 x 1 tensor.
#pragma once

#include <fovea/attention.hpp>

FOVEA_NAMESPACE_BEGIN

/// What an attention object takes among its modifiers to make weights of sigmoids, and reference too.
struct sigmoid_weights {
  using is_weighing = void;
  double bias = 0;
};

struct sigmoid_options {
  double bias = 0;                     // added to all logits, after scores
  std::optional<double> scale = {};    // of Q K^T; 1 / sqrt(dim) without
  index_type heads = 0, kv_heads = 0;  // where the type leaves them dynamic_heads; kv_heads: 0 means heads
  executor_ref executor = {};          // who does the work; must outlive the attention object
};

/// T, Heads, KVHeads, q, k, v and `mods` as attention.hpp has them; neither a sink nor add_received or
/// weights_into are among `mods`, which are of the softmax.
///
/// |error| <= 3 u (P |V|) (4 + A) as there, A with |bias| added. Cost: that of attention, with a reciprocal a
/// cell and no maxima: of 8 heads of 64, 128 and 1,024 tokens, whole and causal, take 0 to 7 % more time,
/// backward 2 to 8 %, a query of 4,096 keys 1 to 2 % (Zen 5, AVX-512 and AVX2). Memory as attention's.
template <class T, int Heads = dynamic_heads, int KVHeads = Heads, class Arch = xsimd::default_arch>
class sigmoid_attention {
 public:
  sigmoid_attention() : sigmoid_attention(sigmoid_options{}) {}
  /// Throws std::invalid_argument where heads do not fit the type, a call where the bias is not finite.
  explicit sigmoid_attention(const sigmoid_options& options)
      : by_{options.bias},
        options_{.scale = options.scale,
                 .heads = options.heads,
                 .kv_heads = options.kv_heads,
                 .executor = options.executor},
        attend_(options_) {}

  /// O, of the kind and storage order of q; a cache (kv_cache.hpp) stands for k and v.
  template <class Q, class K, class... Rest>
  auto operator()(const Q& q, const K& k, const Rest&... v_and_mods) const {
    return attend_(q, k, v_and_mods..., by_);
  }
  /// Writes O into `o`, which has its size and any element, and may be q itself.
  template <class O, class Q, class K, class... Rest>
  void into(O&& o, const Q& q, const K& k, const Rest&... v_and_mods) const {
    attend_.into(o, q, k, v_and_mods..., by_);
  }
  /// What such a call will do; it takes a plan and a workspace among its arguments.
  template <class Q, class K, class... Rest>
  plan plan_for(const Q& q, const K& k, const Rest&... v_and_mods) const {
    return attend_.plan_for(q, k, v_and_mods..., by_);
  }

  /// sigmoid(S + bias), 0 where hidden, batch x heads x Lq x Lk, for looking at.
  template <class Q, class K, class... Mods>
  auto weights(const Q& q, const K& k, const Mods&... mods) const {
    auto p = attend_.scores(q, k, mods...);
    using compute = std::remove_reference_t<decltype(*p.data())>;
    for (index_type i = 0; i < p.size(); ++i)
      p.data()[i] = static_cast<compute>(1 / (1 + std::exp(-(static_cast<double>(p.data()[i]) + by_.bias))));
    return p;
  }

  /// {d_q, d_k, d_v}, like q, k and v: the gradients of a loss whose gradient by O is `d_out`; those of
  /// parameters among `mods` go where these say.
  ///   dV = P^T dO       dS = P (1 - P) (dO V^T)       dQ = scale dS K        dK = scale dS^T Q
  /// Nothing of the forward call is needed. Memory O(Lq).
  template <class Q, class K, class V, class G, class... Mods>
  auto backward(const Q& q, const K& k, const V& v, const G& d_out, const Mods&... mods) const {
    return with_no_lse<Q, K, V, Mods...>(
        q, [&](const auto& lse) { return attend_.backward(q, k, v, d_out, lse, d_out, mods..., by_); });
  }
  /// Writes them into `d_q`, `d_k` and `d_v`, which have the sizes of q, k and v and any element.
  template <class DQ, class DK, class DV, class Q, class K, class V, class G, class... Mods>
  void backward_into(DQ&& d_q, DK&& d_k, DV&& d_v, const Q& q, const K& k, const V& v, const G& d_out,
                     const Mods&... mods) const {
    with_no_lse<Q, K, V, Mods...>(q, [&](const auto& lse) {
      attend_.backward_into(d_q, d_k, d_v, q, k, v, d_out, lse, d_out, mods..., by_);
    });
  }

 private:
  /// f(an LSE like q, which is not read).
  template <class Q, class K, class V, class... Mods, class F>
  auto with_no_lse(const Q& q, const F& f) const {
    static_assert(!(gate_like<Mods> || ...),
                  "fovea: backward of sigmoid_attention takes no gate: multiply O");
    using compute = common_compute_t<T, element_of<Q>, element_of<K>, element_of<V>>;
    auto lse = make_like<compute>(q, query_heads<Heads>(options_, q), 1);
    return f(shaped_like(q, lse));
  }

  sigmoid_weights by_;
  attention_options options_;
  attention<T, Heads, KVHeads, Arch> attend_;
};

FOVEA_NAMESPACE_END
