// fovea/differential.hpp - differential attention: what two softmaxes have in common cancels out.
//
//   O_h = (softmax(S_2h) - lambda softmax(S_2h+1)) V_h        S_t = scale * Q_t K_t^T, scored and masked
//   lambda = exp(lambda_q1 . lambda_k1) - exp(lambda_q2 . lambda_k2) + lambda_init
//
//   fovea::differential<float, 8> attend({.dim = 32});         // q, k: 16 heads; v, o: 8
//   attend.lambda_q1.setRandom(), ...                          // or trained; at first 0
//   Matrix o = attend(q, k, v, fovea::causal);
//   auto [out, halves, lse] = attend.with_lse(q, k, v);        // training
//   auto gradient = attend.zero_gradient();
//   auto [d_q, d_k, d_v] = attend.backward(q, k, v, halves, lse, d_out, gradient);
//
// Ye et al., "Differential Transformer", arXiv:2410.05258, equations 1 and 2. What follows in their layer, an
// RMSNorm of each head and the factor 1 - lambda_init, is not part of it.
//
// Views, elements, executors, errors and what is promised of bits are those of attention.hpp.
#pragma once

#include <fovea/differential/paired_values.hpp>
#include <fovea/differential/weights.hpp>
#include <fovea/projected/calls.hpp>
#include <fovea/projected/head_products.hpp>

#include <vector>

FOVEA_NAMESPACE_BEGIN

/// What with_lse returns: O; the results of the 2 * heads softmaxes, and their LSE, both for backward.
template <class Out, class Halves, class Lse>
struct differential_result {
  Out out;
  Halves halves;
  Lse lse;
};

/// T: the element of q and of results. q (Lq, d) of 2 * heads heads, k (Lk, d) of 2 * kv_heads, v (Lk, dv) of
/// kv_heads, o (Lq, dv) of heads: head 2h of q is the first softmax of head h, 2h + 1 the one that is taken
/// off; head t of q reads head t / (heads / kv_heads) of k, and half that of v, as the paper's program has
/// it. No copy of v is made; a cache is not taken.
///
/// `mods` are those of an attention of 2 * heads heads and say what they say for each softmax: a mask hides
/// from both, a sink has 2 * heads logits, dropout drops from each by itself, what keys receive is of their
/// 2 * kv_heads heads. A gate is refused: multiply O.
///
/// |error| is at most that of the first half, and |lambda| times that of the second, as attention.hpp bounds
/// them, and 2 u (|O_2h| + |lambda O_2h+1|). Cost: 2 * heads heads of attention; halves are kept in the type
/// of the sums, 2 * heads * Lq * dv of them, and taken from each other by the calling thread.
template <class T, int Heads = dynamic_heads, int KVHeads = Heads, class Arch = xsimd::default_arch>
class differential : public differential_weights<compute_t<T>> {
  static constexpr int twice(int heads) { return heads == dynamic_heads ? heads : 2 * heads; }
  template <class... X>
  using compute_of = common_compute_t<T, element_of<X>...>;

 public:
  using weights_type = differential_weights<compute_t<T>>;

  differential() : differential(differential_options{}) {}
  explicit differential(const differential_options& options)
      : weights_type(checked_dim(options)),
        options_(with_heads<Heads, KVHeads>(options)),
        attend_({.scale = options_.scale,
                 .heads = 2 * options_.heads,
                 .kv_heads = 2 * options_.kv_heads,
                 .executor = options_.executor}) {
    check_numbers_of_heads("differential", options_);
    if (!is_finite(options_.lambda_init)) reject("lambda_init is ", options_.lambda_init, ", not finite");
  }

  const differential_options& options() const noexcept { return options_; }

  /// lambda, summed in double.
  double lambda() const {
    this->check_parameters("differential", options_.dim);
    return first() - second() + options_.lambda_init;
  }

  /// Gradients of lambda's vectors, 0.
  weights_type zero_gradient() const { return weights_type(options_.dim); }

  /// O, of the kind and storage order of q.
  template <class Q, class K, class V, class... Mods>
  auto operator()(const Q& q, const K& k, const V& v, const Mods&... mods) const {
    auto out = make_like<T>(q, options_.heads, dim_of(v));
    into(shaped_like(q, out), q, k, v, mods...);
    return out;
  }
  /// Writes O into `o`, which has its size and any element, and may lie anywhere.
  template <class O, class Q, class K, class V, class... Mods>
  void into(O&& o, const Q& q, const K& k, const V& v, const Mods&... mods) const {
    auto halves = make_like<compute_of<Q, K, V>>(q, 2 * options_.heads, dim_of(v));
    auto&& like_q = shaped_like(q, halves);
    check_out(o, q, v);
    const double l = lambda();
    check_mods<Mods...>();
    attend_.into(like_q, q, k, paired_values<V>{v}, mods...);
    subtract(like_q, l, o);
  }

  /// {O, halves, LSE}: halves and LSE are those of 2 * heads heads of attention, like q, in the type of the
  /// sums.
  template <class Q, class K, class V, class... Mods>
  auto with_lse(const Q& q, const K& k, const V& v, const Mods&... mods) const {
    using compute = compute_of<Q, K, V>;
    auto out = make_like<T>(q, options_.heads, dim_of(v));
    auto halves = make_like<compute>(q, 2 * options_.heads, dim_of(v));
    auto lse = make_like<compute>(q, 2 * options_.heads, 1);
    with_lse_into(shaped_like(q, out), shaped_like(q, halves), shaped_like(q, lse), q, k, v, mods...);
    return differential_result<decltype(out), decltype(halves), decltype(lse)>{
        std::move(out), std::move(halves), std::move(lse)};
  }

  /// Writes them, `o` of any element; the three lie apart.
  template <class O, class X, class L, class Q, class K, class V, class... Mods>
  void with_lse_into(O&& o, X&& halves, L&& lse, const Q& q, const K& k, const V& v,
                     const Mods&... mods) const {
    check_mods<Mods...>();
    const double l = lambda();
    check_out(o, q, v);
    const auto out = view_of(o, options_.heads, "o");
    check_apart("o", out.all, "halves", view_of(halves, 2 * options_.heads, "halves").all);
    check_apart("o", out.all, "lse", view_of(lse, 2 * options_.heads, "lse").all);
    attend_.with_lse_into(halves, lse, q, k, paired_values<V>{v}, mods...);
    subtract(halves, l, o);
  }

  /// softmax(S_2h) - lambda softmax(S_2h+1), batch x heads x Lq x Lk, for looking at.
  template <class Q, class K, class... Mods>
  auto weights(const Q& q, const K& k, const Mods&... mods) const {
    const double l = lambda();
    const auto p = attend_.weights(q, k, mods...);
    std::remove_const_t<decltype(p)> difference(p.batch(), options_.heads, p.tokens(), p.dim());
    subtract(p, l, difference);
    return difference;
  }

  /// What the call attend(q, k, v, mods...) will do; it takes a plan and a workspace among its arguments.
  template <class Q, class K, class V, class... Mods>
  plan plan_for(const Q& q, const K& k, const V& v, const Mods&... mods) const {
    check_mods<Mods...>();
    return attend_.plan_for(q, k, paired_values<V>{v}, mods...);
  }

  /// {d_q, d_k, d_v}, like q, k and v, of a loss whose gradient by O is `d_out`; halves and lse are what
  /// with_lse gave. The gradients of lambda's vectors are added to `gradient`, those of parameters among
  /// `mods` go where these say, with the same bits for any executor:
  ///   d lambda = -sum dO_h O_2h+1      d lambda_q1 = d lambda exp(lambda_q1 . lambda_k1) lambda_k1, ...
  /// Beside attention's own: gradients by the halves, and d_v of 2 * kv_heads heads.
  template <class Q, class K, class V, class O, class L, class G, class... Mods>
  auto backward(const Q& q, const K& k, const V& v, const O& halves, const L& lse, const G& d_out,
                weights_type& gradient, const Mods&... mods) const {
    auto d_q = make_like<element_of<Q>>(q, 2 * options_.heads, view_of(q, 2 * options_.heads, "q").dim());
    auto d_k =
        make_like<element_of<K>>(k, 2 * options_.kv_heads, view_of(k, 2 * options_.kv_heads, "k").dim());
    auto d_v = make_like<element_of<V>>(v, options_.kv_heads, dim_of(v));
    backward_into(shaped_like(q, d_q), shaped_like(k, d_k), shaped_like(v, d_v), q, k, v, halves, lse, d_out,
                  gradient, mods...);
    return gradients<decltype(d_q), decltype(d_k), decltype(d_v)>{std::move(d_q), std::move(d_k),
                                                                  std::move(d_v)};
  }
  /// Writes them into `d_q`, `d_k` and `d_v`, which have the sizes of q, k and v and any element.
  template <class DQ, class DK, class DV, class Q, class K, class V, class O, class L, class G, class... Mods>
  void backward_into(DQ&& d_q, DK&& d_k, DV&& d_v, const Q& q, const K& k, const V& v, const O& halves,
                     const L& lse, const G& d_out, weights_type& gradient, const Mods&... mods) const {
    using compute = compute_of<Q, K, V>;
    check_mods<Mods...>();
    const index_type heads = options_.heads, kv_heads = options_.kv_heads;
    const double l = lambda();
    gradient.check_parameters("the gradient", options_.dim);
    if (&gradient == this) reject("the gradient is the attention itself, not another value");
    const auto queries = read_only(view_of(q, 2 * heads, "q"));
    const auto by_out = read_only(view_of(d_out, heads, "d_out"));
    const auto given = read_only(view_of(halves, 2 * heads, "halves"));
    check_like("d_out", by_out, "q", queries, dim_of(v));
    check_like("halves", given, "q", queries, dim_of(v));
    const auto to_v = view_of(d_v, kv_heads, "d_v");
    const auto values = read_only(view_of(v, kv_heads, "v"));
    check_result("d_v", to_v, "v", values, dim_of(v));
    check_apart("d_v", to_v.all, "q", queries), check_apart("d_v", to_v.all, "v", values);
    check_apart("d_v", to_v.all, "k", read_only(view_of(k, 2 * kv_heads, "k")));
    check_apart("d_v", to_v.all, "d_q", view_of(d_q, 2 * heads, "d_q").all);
    check_apart("d_v", to_v.all, "d_k", view_of(d_k, 2 * kv_heads, "d_k").all);

    auto by_halves = make_like<compute>(q, 2 * heads, dim_of(v));
    auto&& by_halves_like_q = shaped_like(q, by_halves);
    const double d_lambda = split<compute>(by_out, given, l, view_of(by_halves_like_q, 2 * heads, "d"));

    auto d_pairs = make_like<compute>(v, 2 * kv_heads, dim_of(v));
    auto&& pairs_like_v = shaped_like(v, d_pairs);
    attend_.backward_into(d_q, d_k, pairs_like_v, q, k, paired_values<V>{v}, halves, lse, by_halves_like_q,
                          mods...);
    combine<compute>(read_only(view_of(pairs_like_v, 2 * kv_heads, "d_v")), compute(1), to_v);
    learn(d_lambda, gradient);
  }

 private:
  static index_type checked_dim(const differential_options& o) {
    if (o.dim < 0) reject("differential's dim is ", o.dim, ", below 0");
    return o.dim;
  }
  template <class... Mods>
  static constexpr void check_mods() {
    static_assert(!(gate_like<Mods> || ...), "fovea: differential takes no gate: multiply O");
  }
  double first() const { return std::exp(dot_of(this->lambda_q1, this->lambda_k1)); }
  double second() const { return std::exp(dot_of(this->lambda_q2, this->lambda_k2)); }
  template <class Row>
  static double dot_of(const Row& a, const Row& b) {
    return a.template cast<double>().dot(b.template cast<double>());
  }
  template <class V>
  index_type dim_of(const V& v) const {
    return view_of(v, options_.kv_heads, "v").dim();
  }
  template <class O, class Q, class V>
  void check_out(O& o, const Q& q, const V& v) const {
    const auto queries = read_only(view_of(q, 2 * options_.heads, "q"));
    check_result("o", view_of(o, options_.heads, "o"), "q", queries, dim_of(v));
  }

  template <class P, class O>
  void subtract(P& halves, double l, O&& o) const {
    const auto from = read_only(view_of(halves, 2 * options_.heads, "halves"));
    using compute = std::remove_const_t<std::remove_pointer_t<decltype(from.all.data)>>;
    combine<compute>(from, static_cast<compute>(-l), view_of(o, options_.heads, "o"));
  }
  /// to_h = x_2h + times x_2h+1; rows of no sequence are 0.
  template <class C, class E, class O>
  static void combine(const sequences<const E>& x, C times, const sequences<O>& to) {
    const index_type n = to.dim();
    std::vector<C> a(static_cast<std::size_t>(n)), b(a);
    fill_rows_of_none(to);
    for (index_type s = 0; s < to.batches(); ++s)
      for (index_type h = 0; h < to.heads(); ++h) {
        const auto one = x.head(s, 2 * h), other = x.head(s, 2 * h + 1);
        const auto rows = to.head(s, h);
        for (index_type i = 0; i < rows.rows; ++i) {
          load_elements(one.at(i), one.col_stride, n, a.data());
          load_elements(other.at(i), other.col_stride, n, b.data());
          for (std::size_t c = 0; c < a.size(); ++c) a[c] += times * b[c];
          store_elements(a.data(), n, rows.at(i), rows.col_stride);
        }
      }
  }
  /// d_2h = d_h, d_2h+1 = -lambda d_h; returns d lambda, to which a result of 0 adds nothing.
  template <class C, class G, class O, class D>
  static double split(const sequences<G>& d, const sequences<O>& halves, double l, const sequences<D>& to) {
    const index_type n = d.dim();
    std::vector<C> a(static_cast<std::size_t>(n)), b(a);
    double sum = 0;
    for (index_type s = 0; s < d.batches(); ++s)
      for (index_type h = 0; h < d.heads(); ++h) {
        const auto rows = d.head(s, h);
        const auto taken = halves.head(s, 2 * h + 1);
        const auto one = to.head(s, 2 * h), other = to.head(s, 2 * h + 1);
        for (index_type i = 0; i < rows.rows; ++i) {
          load_elements(rows.at(i), rows.col_stride, n, a.data());
          load_elements(taken.at(i), taken.col_stride, n, b.data());
          for (std::size_t c = 0; c < a.size(); ++c) {
            if (b[c] != C(0)) sum -= static_cast<double>(a[c]) * static_cast<double>(b[c]);
            b[c] = static_cast<C>(-l) * a[c];
          }
          store_elements(a.data(), n, one.at(i), one.col_stride);
          store_elements(b.data(), n, other.at(i), other.col_stride);
        }
      }
    return sum;
  }
  void learn(double d_lambda, weights_type& gradient) const {
    using C = compute_t<T>;
    const C one = static_cast<C>(d_lambda * first()), other = static_cast<C>(-d_lambda * second());
    gradient.lambda_q1 += one * this->lambda_k1, gradient.lambda_k1 += one * this->lambda_q1;
    gradient.lambda_q2 += other * this->lambda_k2, gradient.lambda_k2 += other * this->lambda_q2;
  }

  differential_options options_{};
  attention<T, twice(Heads), twice(KVHeads), Arch> attend_;
};

FOVEA_NAMESPACE_END
