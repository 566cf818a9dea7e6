// fovea/additive.hpp - additive attention: what scores a query and a key is a small network.
//
//   s_ij = v^T tanh(W_q q_i + W_k k_j + b)        O = softmax(s) V, for each head
//   normalised: g v / |v| in place of v
//
//   fovea::additive<float, 8> attend({.hidden = 64, .query_dim = 64});
//   attend.w_q.setRandom(), attend.w_k.setRandom(), attend.v.setRandom();      // or trained
//   Matrix o = attend(q, k, v, fovea::causal);                                 // as attention<float, 8>
//   auto [out, lse] = attend.with_lse(q, k, v);                                // training
//   auto gradient = attend.zero_gradient();
//   auto [d_q, d_k, d_v] = attend.backward(q, k, v, out, lse, d_out, gradient);
//
// Bahdanau, Cho & Bengio, "Neural machine translation by jointly learning to align and translate",
// arXiv:1409.0473, A.1.2. Normalised: Salimans & Kingma, "Weight normalization", arXiv:1602.07868.
//
// Masks, scores, views, elements, executors and errors are those of attention.hpp, and so is what is promised
// of bits. Each head has its own W_q, b and v, and each key/value head its W_k, of that head's columns; where
// all heads read the whole token, give a tensor_view whose head_stride is 0.
#pragma once

#include <fovea/additive/scorer.hpp>
#include <fovea/additive/weights.hpp>
#include <fovea/projected/calls.hpp>

FOVEA_NAMESPACE_BEGIN

/// T: float or double. The parameters are members: see additive/weights.hpp. q (Lq, query_dim) a head, k (Lk,
/// key_dim), v (Lk, dv), o (Lq, dv); `mods`: masks, scores, at most one sink and one dropout.
///
/// W_q q + b and W_k k are made once, by Eigen on the calling thread: memory O((Lq + Lk) hidden) beyond the
/// arguments. Then Lq Lk hidden values of tanh a head, less what masks hide in whole blocks, in registers: of
/// exp(2 W_q q) exp(2 W_k k), or where a projected query of a sequence is beyond 17 (double: 166) of the sum,
/// to 4 or 6 units in the last place of 1. backward takes twice as many.
template <class T, int Heads = dynamic_heads, int KVHeads = Heads, class Arch = xsimd::default_arch>
class additive : public additive_weights<T>, public projected_calls<additive<T, Heads, KVHeads, Arch>, T> {
  using base = additive_weights<T>;
  using calls = projected_calls<additive, T>;
  friend calls;

 public:
  additive() = default;
  explicit additive(const additive_options& options)
      : base(with_heads<Heads, KVHeads>(options)),
        attend_({.heads = options.heads, .kv_heads = options.kv_heads, .executor = options.executor}) {}

  /// A gradient for this, 0.
  base zero_gradient() const {
    base gradient(this->options());
    gradient.g.setZero();
    return gradient;
  }

  using calls::operator();
  /// Queries that are the last tokens of a cache, which keeps what project_keys makes of keys, and values.
  template <class Q, key_value_cache Cache, class... Mods>
  auto operator()(const Q& q, const Cache& cache, const Mods&... mods) const {
    this->check_parameters("additive", this->options());
    const auto values = base::scored_v();
    auto z = projected<true>(q);
    return attend_(shaped_like(q, z), cache, tanh_scorer<T>{{this->options().hidden, values.data()}},
                   mods...);
  }

  /// W_k k of each key/value head, of the kind of k: what a cache keeps in place of keys, its dim being
  /// hidden.
  template <class K>
  auto project_keys(const K& k) const {
    this->check_parameters("additive", this->options());
    return projected<false>(k);
  }

  /// {d_q, d_k, d_v}, like q, k and v, as attention's backward gives them; the gradients of the parameters
  /// are added to `gradient`, with the same bits for any executor.
  template <class Q, class K, class V, class O, class L, class G, class... Mods>
  auto backward(const Q& q, const K& k, const V& values, const O& out, const L& lse, const G& d_out,
                base& gradient, const Mods&... mods) const {
    const auto& o = this->options();
    gradient.check_parameters("the gradient", o);
    if (&gradient == this) reject("the gradient is the attention itself, not another value");
    std::vector<double> d_scored(static_cast<std::size_t>(o.heads * o.hidden));
    auto d_q = make_like<element_of<Q>>(q, o.heads, o.query_dim);
    auto d_k = make_like<element_of<K>>(k, o.kv_heads, o.key_dim);
    auto d_v = make_like<element_of<V>>(values, o.kv_heads, view_of(values, o.kv_heads, "v").dim());
    auto d_z_q = make_like<T>(q, o.heads, o.hidden);
    auto d_z_k = make_like<T>(k, o.kv_heads, o.hidden);
    scored(q, k, d_scored.data(), [&](const auto& z_q, const auto& z_k, const auto& scorer) {
      attend_.backward_into(shaped_like(q, d_z_q), shaped_like(k, d_z_k), shaped_like(values, d_v), z_q, z_k,
                            values, out, lse, d_out, scorer, mods...);
    });
    typename base::row none;
    projection::projected_backward<T>(q, o.heads, d_z_q, this->w_q, gradient.w_q, gradient.b, d_q);
    projection::projected_backward<T>(k, o.kv_heads, d_z_k, this->w_k, gradient.w_k, none, d_k);
    this->add_v_gradient(d_scored, gradient);
    return gradients<decltype(d_q), decltype(d_k), decltype(d_v)>{std::move(d_q), std::move(d_k),
                                                                  std::move(d_v)};
  }

 private:
  /// W_q q + b, or W_k k.
  template <bool Queries, class X>
  auto projected(const X& x) const {
    const auto& o = this->options();
    if constexpr (Queries)
      return projection::projected<T>(x, "q", o.heads, "additive", "query_dim", o.query_dim, this->w_q,
                                      this->b, o.hidden);
    else
      return projection::projected<T>(x, "k", o.kv_heads, "additive", "key_dim", o.key_dim, this->w_k,
                                      typename base::row(), o.hidden);
  }

  template <class Q, class K, class F>
  void called(const Q& q, const K& k, const F& f) const {
    scored(q, k, nullptr,
           [&](const auto& z_q, const auto& z_k, const auto& scorer) { f(attend_, z_q, z_k, scorer); });
  }
  /// f(z_q, z_k, scorer), in whichever form these are.
  template <class Q, class K, class F>
  void scored(const Q& q, const K& k, double* d_v, const F& f) const {
    this->check_parameters("additive", this->options());
    const auto values = base::scored_v();
    auto z_q = projected<true>(q);
    auto z_k = projected<false>(k);
    auto&& z_q_like_q = shaped_like(q, z_q);
    auto&& z_k_like_k = shaped_like(k, z_k);
    const auto rows = view_of(z_q_like_q, this->options().heads, "q");
    const auto keys = view_of(z_k_like_k, this->options().kv_heads, "k");
    check_same("q", "sequences", rows.batches(), "k", keys.batches());
    std::vector<unsigned char> exponential(static_cast<std::size_t>(rows.batches()));
    for (index_type n = 0; n < rows.batches(); ++n)
      if (is_moderate(rows, n)) {  // of keys, which may be hidden, none decides
        exponentiate(rows, n), exponentiate(keys, n), exponential[static_cast<std::size_t>(n)] = 1;
      }
    f(z_q_like_q, z_k_like_k,
      additive_scorer<T>{{this->options().hidden, values.data(), d_v}, exponential.data()});
  }
  /// Whether all projected queries of a sequence can be exponents; NaN does not decide.
  static bool is_moderate(const sequences<T>& z, index_type n) {
    constexpr T largest = exponential_scorer<T>::largest_query;
    for (index_type h = 0; h < z.heads(); ++h) {
      const auto of_head = z.head(n, h);
      for (index_type i = 0; i < of_head.rows; ++i) {
        using row = projection::row_vector<T>;
        using strided = Eigen::Map<const row, 0, Eigen::InnerStride<>>;
        const auto wide = [](const auto& x) {
          return x.array().abs().template maxCoeff<Eigen::PropagateNumbers>() > largest;
        };
        const auto columns = eigen_index(of_head.cols);
        if (of_head.col_stride == 1 ? wide(Eigen::Map<const row>(of_head.at(i), columns))
                                    : wide(strided(of_head.at(i), columns,
                                                   Eigen::InnerStride<>(eigen_index(of_head.col_stride)))))
          return false;
      }
    }
    return true;
  }
  /// z -> exp(2 z), of the nearest number within largest_key, in a copy of a few rows that begins alike
  /// wherever z lies: Eigen's exp of registers and of what is left over differ in their last bits.
  static void exponentiate(const sequences<T>& z, index_type n) {
    constexpr index_type few = 16;
    constexpr T largest = exponential_scorer<T>::largest_key;
    projection::row_matrix<T> rows = projection::row_matrix<T>::Zero(few, eigen_index(z.dim()));
    for (index_type h = 0; h < z.heads(); ++h) {
      const auto of_head = z.head(n, h);
      const auto each_row = [&](index_type first, const auto& f) {
        for (index_type i = first; i < std::min(first + few, of_head.rows); ++i)
          f(of_head.at(i), rows.data() + (i - first) * of_head.cols);
      };
      for (index_type first = 0; first < of_head.rows; first += few) {
        each_row(first,
                 [&](const T* from, T* to) { load_elements(from, of_head.col_stride, of_head.cols, to); });
        rows = (rows.array() > largest).select(largest, rows);
        rows = (rows.array() < -largest).select(-largest, rows);
        rows = (2 * rows.array()).exp();
        each_row(first,
                 [&](T* to, const T* from) { store_elements(from, of_head.cols, to, of_head.col_stride); });
      }
    }
  }

  attention<T, Heads, KVHeads, Arch> attend_;
};

FOVEA_NAMESPACE_END
