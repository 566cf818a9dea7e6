// fovea/cosine.hpp - attention by the cosine of queries and keys, with a learned temperature a head.
//
//   s_ij = exp(min(log_scale, ln 100)) q_i . k_j / (|q_i| |k_j|)        O = softmax(s) V, for each head
//
//   fovea::cosine<float, 8> attend;                                   // log_scale at first ln 10
//   Matrix o = attend(q, k, v, fovea::bias(b));                       // as attention<float, 8>
//   auto [out, lse] = attend.with_lse(q, k, v);                       // training
//   auto d_log_scale = attend.zero_gradient();
//   auto [d_q, d_k, d_v] = attend.backward(q, k, v, out, lse, d_out, d_log_scale);
//
// Liu et al., "Swin Transformer V2", arXiv:2111.09883, section 3.3: tau = 1 / scale is not below 0.01.
//
// Masks, scores, views, elements, executors and errors are those of attention.hpp, and so is what is promised
// of bits.
#pragma once

#include <fovea/element/inverse_length.hpp>
#include <fovea/projected/calls.hpp>
#include <fovea/projected/head_products.hpp>

#include <cmath>

FOVEA_NAMESPACE_BEGIN

struct cosine_options {
  index_type heads = 0, kv_heads = 0;  // where the type leaves them dynamic_heads; kv_heads: 0 means heads
  executor_ref executor = {};          // who does the work; must outlive the attention object
};

/// T: float or double. q (Lq, d) a head, k (Lk, d), v (Lk, dv), o (Lq, dv); `mods`: masks, scores, at most
/// one sink and one dropout. Queries and keys are brought to length 1 once, O((Lq + Lk) d) operations and
/// memory on the calling thread; then attention at its full speed. A vector shorter than 1e-12 counts as 0,
/// with gradient 0.
template <class T, int Heads = dynamic_heads, int KVHeads = Heads, class Arch = xsimd::default_arch>
class cosine : public projected_calls<cosine<T, Heads, KVHeads, Arch>, T> {
  using calls = projected_calls<cosine, T>;
  friend calls;

 public:
  using row = projection::row_vector<T>;
  static constexpr double largest_log_scale = 4.605170185988091;  // ln 100

  row log_scale;  // of each query head

  explicit cosine(const cosine_options& options = {})
      : options_(with_heads<Heads, KVHeads>(options)),
        attend_({.scale = 1.0,
                 .heads = options.heads,
                 .kv_heads = options.kv_heads,
                 .executor = options.executor}) {
    check_numbers_of_heads("cosine", options_);
    log_scale.setConstant(eigen_index(options_.heads), static_cast<T>(std::log(10.0)));
  }

  const cosine_options& options() const noexcept { return options_; }

  /// A gradient of log_scale, 0.
  row zero_gradient() const { return row::Zero(eigen_index(options_.heads)); }

  using calls::operator();
  /// Queries that are the last tokens of a cache, which keeps what unit_keys makes of keys, and values.
  template <class Q, key_value_cache Cache, class... Mods>
  auto operator()(const Q& q, const Cache& cache, const Mods&... mods) const {
    auto u = scaled_queries(q);
    return attend_(shaped_like(q, u), cache, mods...);
  }

  /// k / |k| of each key/value head, of the kind of k: what a cache keeps in place of keys.
  template <class K>
  auto unit_keys(const K& k) const {
    return of_length(k, options_.kv_heads, "k", [](index_type) { return T(1); });
  }

  /// {d_q, d_k, d_v}, like q, k and v, as attention's backward gives them; that of log_scale is added to
  /// `d_log_scale` (0 from ln 100 on), with the same bits for any executor.
  template <class Q, class K, class V, class O, class L, class G, class... Mods>
  auto backward(const Q& q, const K& k, const V& v, const O& out, const L& lse, const G& d_out,
                row& d_log_scale, const Mods&... mods) const {
    check_scales("d_log_scale", d_log_scale);
    const auto& o = options_;
    auto d_q = make_like<element_of<Q>>(q, o.heads, view_of(q, o.heads, "q").dim());
    auto d_k = make_like<element_of<K>>(k, o.kv_heads, view_of(k, o.kv_heads, "k").dim());
    auto d_v = make_like<element_of<V>>(v, o.kv_heads, view_of(v, o.kv_heads, "v").dim());
    auto u_q = scaled_queries(q);
    auto u_k = unit_keys(k);
    auto d_u_q = u_q;
    auto d_u_k = u_k;
    attend_.backward_into(shaped_like(q, d_u_q), shaped_like(k, d_u_k), shaped_like(v, d_v),
                          shaped_like(q, u_q), shaped_like(k, u_k), v, out, lse, d_out, mods...);
    of_length_backward(
        q, o.heads, d_u_q, d_q, [&](index_type h) { return scale(h); },
        [&](index_type h, T d_scale) {
          if (static_cast<double>(log_scale[eigen_index(h)]) < largest_log_scale)
            d_log_scale[eigen_index(h)] += d_scale * scale(h);
        });
    of_length_backward(
        k, o.kv_heads, d_u_k, d_k, [](index_type) { return T(1); }, [](index_type, T) {});
    return gradients<decltype(d_q), decltype(d_k), decltype(d_v)>{std::move(d_q), std::move(d_k),
                                                                  std::move(d_v)};
  }

 private:
  using rows_type = projection::row_matrix<T>;
  using column = Eigen::Array<T, Eigen::Dynamic, 1>;

  void check_scales(const char* name, const row& of_heads) const {
    if (of_heads.size() != eigen_index(options_.heads))
      reject(name, " has ", of_heads.size(), " numbers, not one for each of ", options_.heads, " heads");
  }
  T scale(index_type h) const noexcept {
    const double given = static_cast<double>(log_scale[eigen_index(h)]);
    return static_cast<T>(std::exp(given < largest_log_scale || given != given ? given : largest_log_scale));
  }

  template <class Q, class K, class F>
  void called(const Q& q, const K& k, const F& f) const {
    auto u_q = scaled_queries(q);
    auto u_k = unit_keys(k);
    f(attend_, shaped_like(q, u_q), shaped_like(k, u_k));
  }
  template <class Q>
  auto scaled_queries(const Q& q) const {
    check_scales("cosine's log_scale", log_scale);
    return of_length(q, options_.heads, "q", [&](index_type h) { return scale(h); });
  }

  /// Makes rows of length 1, or of length 0; what they were multiplied by.
  static column to_length_1(rows_type& x) {
    column inverse(x.rows());
    for (Eigen::Index i = 0; i < x.rows(); ++i) {
      split_factor by = inverse_length(x.row(i).data(), x.cols());
      if (by.value() > 1e12) by = {0, 0};
      x.row(i) = x.row(i).unaryExpr([&](T number) { return by.times(number); });
      inverse[i] = static_cast<T>(by.value());
    }
    return inverse;
  }

  /// Rows of each head, of length length_of(head).
  template <class X, class F>
  static auto of_length(const X& x, index_type heads, const char* name, const F& length_of) {
    const auto rows = read_only(view_of(x, heads, name));
    auto u = make_like<T>(x, heads, rows.dim());
    auto&& like_x = shaped_like(x, u);
    const auto to = view_of(like_x, heads, name);
    for (index_type b = 0; b < rows.batches(); ++b)
      for (index_type h = 0; h < heads; ++h) {
        rows_type of_head = projection::rows_in<T>(rows.head(b, h));
        to_length_1(of_head);
        of_head *= length_of(h);
        projection::store_rows<T>(of_head, to.head(b, h));
      }
    return u;
  }
  /// Of u = length n, n = x / |x|, and d by u: d_x = length (d - (d . n) n) / |x|, and of the length d . n
  /// summed over rows and sequences, which take(head, d_length) is given.
  template <class X, class DU, class DX, class F, class Take>
  static void of_length_backward(const X& x, index_type heads, DU& d_u, DX& d_x, const F& length_of,
                                 const Take& take) {
    auto&& d_u_like_x = shaped_like(x, d_u);
    auto&& d_x_like_x = shaped_like(x, d_x);
    const auto rows = read_only(view_of(x, heads, "x")), from = read_only(view_of(d_u_like_x, heads, "d"));
    const auto to = view_of(d_x_like_x, heads, "d_x");
    fill_rows_of_none(to);
    for (index_type b = 0; b < rows.batches(); ++b)
      for (index_type h = 0; h < heads; ++h) {
        rows_type d = projection::rows_in<T>(from.head(b, h));
        rows_type n = projection::rows_with_gradient<T>(projection::rows_in<T>(rows.head(b, h)), d);
        const column inverse = to_length_1(n);
        const column along = (d.array() * n.array()).rowwise().sum();
        take(h, along.sum());
        d.array() -= n.array().colwise() * along;
        d.array().colwise() *= inverse * length_of(h);
        projection::store_rows<T>(d, to.head(b, h));
      }
  }

  cosine_options options_{};
  attention<T, Heads, KVHeads, Arch> attend_;
};

FOVEA_NAMESPACE_END
