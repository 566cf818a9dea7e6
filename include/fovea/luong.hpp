// fovea/luong.hpp - the attentions of Luong, Pham & Manning: four scores, and three windows of keys.
//
//   dot       s_ts = h_t . k_s                       global    all keys
//   general   s_ts = h_t^T W_a k_s                   local_m   |s - t| <= D
//   concat    s_ts = v_a^T tanh(W_a [h_t; k_s])      local_p   |s - p_t| <= D around a predicted place,
//   location  s_t  = W_a h_t                                   p_t = S sigmoid(v_p^T tanh(W_p h_t)),
//                                                              and with sigma = D / 2
//     o_t = sum_s softmax(s_t)_s exp(-(s - p_t)^2 / (2 sigma^2)) v_s
//
//   using fovea::luong_score, fovea::luong_window;
//   fovea::luong<float, luong_score::general, luong_window::local_p, 8> attend({.query_dim = 64});
//   attend.w_a.setRandom(), attend.w_p.setRandom(), attend.v_p.setRandom();  // or trained
//   Matrix o = attend(q, k, v);                                              // as attention<float, 8>
//   auto gradient = attend.zero_gradient();
//   auto [d_q, d_k, d_v] = attend.backward(q, k, v, out, lse, d_out, gradient);
//
// "Effective approaches to attention-based neural machine translation", arXiv:1508.04025, equations 7 to 10.
// The softmax is over the window alone; the Gaussian of local_p multiplies its weights, which then no longer
// add up to 1 (equation 10). Positions s and t count from 0; S is the number of keys of a sequence.
//
// Masks, scores, views, elements, executors and errors are those of attention.hpp, and so is what is promised
// of bits. Each head has its own parameters, of that head's columns.
#pragma once

#include <fovea/additive.hpp>
#include <fovea/luong/local_window.hpp>
#include <fovea/luong/location_rows.hpp>
#include <fovea/luong/predicted_places.hpp>
#include <fovea/luong/weights.hpp>

FOVEA_NAMESPACE_BEGIN

/// T: float or double. q (Lq, query_dim) a head, k (Lk, key_dim), v (Lk, dv), o (Lq, dv); location reads of k
/// its number of tokens. `mods`: masks, scores, at most one sink; and one dropout, but with local_p.
///
/// General and location are products made once a sequence, by Eigen on the calling thread, and then attention
/// at its full speed; concat is fovea::additive. Keys outside of the windows of a block of queries cost
/// nothing. local_p is one pass, its backward a forward call more.
template <class T, luong_score Score, luong_window Window = luong_window::global, int Heads = dynamic_heads,
          int KVHeads = Heads, class Arch = xsimd::default_arch>
class luong : public luong_weights<T>,
              public projected_calls<luong<T, Score, Window, Heads, KVHeads, Arch>, T> {
  using calls = projected_calls<luong, T>;
  friend calls;
  static constexpr bool general = Score == luong_score::general, concat = Score == luong_score::concat,
                        location = Score == luong_score::location, predicts = Window == luong_window::local_p;
  using network_type = additive<T, Heads, KVHeads, Arch>;
  using row = projection::row_vector<T>;

 public:
  /// What backward adds to.
  struct gradient_type : luong_weights<T> {
    additive_weights<T> network;
  };

  network_type network;  // concat's: w_q, w_k and v

  luong() = default;
  /// All parameters 0.
  explicit luong(const luong_options& options)
      : options_(completed(with_heads<Heads, KVHeads>(options), Score)),
        attend_({.scale = 1.0,
                 .heads = options.heads,
                 .kv_heads = options.kv_heads,
                 .executor = options.executor}) {
    const auto& o = options_;
    if constexpr (concat)
      network = network_type({.hidden = o.hidden,
                              .query_dim = o.query_dim,
                              .key_dim = o.key_dim,
                              .heads = o.heads,
                              .kv_heads = o.kv_heads,
                              .bias = false,
                              .executor = o.executor});
    static_cast<luong_weights<T>&>(*this) = zero();
  }

  /// The options with every 0 replaced by what it stands for.
  const luong_options& options() const noexcept { return options_; }

  /// A gradient for this, 0.
  gradient_type zero_gradient() const {
    gradient_type g{zero(), {}};
    if constexpr (concat) g.network = network.zero_gradient();
    return g;
  }

  /// The weights of O, batch x heads x Lq x Lk, for looking at: local_p's with their Gaussian.
  template <class Q, class K, class... Mods>
  tensor<T> weights(const Q& q, const K& k, const Mods&... mods) const {
    tensor<T> p = calls::weights(q, k, mods...);
    if constexpr (predicts) {
      auto centres = places(q, k);
      auto&& like_q = shaped_like(q, centres);
      const auto at = view_of(like_q, options_.heads, "p");
      for (index_type b = 0; b < at.batches(); ++b)
        for (index_type h = 0; h < at.heads(); ++h)
          for (index_type i = 0; i < at.tokens(b); ++i)
            for (index_type j = 0; j < p.dim(); ++j) {
              const T apart = (static_cast<T>(j) - at.head(b, h)(i, 0)) / sigma();
              p(b, h, i, j) *= std::exp(-apart * apart / 2);
            }
    }
    return p;
  }

  /// local_p's p_t, like q with a column a head.
  template <class Q, class K>
  auto places(const Q& q, const K& k) const {
    static_assert(predicts, "fovea: local_p alone predicts places");
    auto centres = make_like<T>(q, options_.heads, 1);
    auto&& like_q = shaped_like(q, centres);
    predict(q, k, view_of(like_q, options_.heads, "p"));
    return centres;
  }

  /// {d_q, d_k, d_v}, like q, k and v, as attention's backward gives them (location: d_k is 0); the gradients
  /// of the parameters are added to `gradient`, with the same bits for any executor.
  template <class Q, class K, class V, class O, class L, class G, class... Mods>
  auto backward(const Q& q, const K& k, const V& v, const O& out, const L& lse, const G& d_out,
                gradient_type& gradient, const Mods&... mods) const {
    static_assert(!predicts || !(lse_gradient_like<Mods> || ...), "fovea: local_p takes no lse_gradient");
    const auto& o = options_;
    gradient.check("the gradient", zero());
    auto d_q = make_like<element_of<Q>>(q, o.heads, o.query_dim);
    auto d_k =
        make_like<element_of<K>>(k, o.kv_heads, location ? view_of(k, o.kv_heads, "k").dim() : o.key_dim);
    auto d_v = make_like<element_of<V>>(v, o.kv_heads, view_of(v, o.kv_heads, "v").dim());
    called(q, k, [&](const auto& engine, const auto& x_q, const auto& x_k, const auto&... local) {
      if constexpr (concat) {
        auto d = engine.backward(q, k, v, out, lse, d_out, gradient.network, local..., mods...);
        d_q = std::move(d.d_q), d_k = std::move(d.d_k), d_v = std::move(d.d_v);
      } else {
        const auto into = [&](auto& d_x_q, auto& d_x_k) {
          engine.backward_into(shaped_like(q, d_x_q), shaped_like(k, d_x_k), shaped_like(v, d_v), x_q, x_k, v,
                               out, lse, d_out, local..., mods...);
        };
        if constexpr (general) {
          auto d_z = make_like<T>(q, o.heads, o.key_dim);
          row none;
          into(d_z, d_k);
          projection::projected_backward<T>(q, o.heads, d_z, this->w_a, gradient.w_a, none, d_q);
        } else if constexpr (location) {
          auto d_w = make_like<T>(k, o.kv_heads, o.query_dim);
          into(d_q, d_w), std::fill_n(d_k.data(), d_k.size(), store_element<element_of<K>>(T(0)));
          projection::add_location_gradient<T>(k, o.kv_heads, d_w, gradient.w_a, o.positions);
        } else {
          into(d_q, d_k);
        }
      }
    });
    if constexpr (predicts) add_prediction_gradient(q, k, v, d_out, gradient, d_q, mods...);
    return gradients<decltype(d_q), decltype(d_k), decltype(d_v)>{std::move(d_q), std::move(d_k),
                                                                  std::move(d_v)};
  }

 private:
  luong_weights<T> zero() const { return luong_weights<T>::zero(Score, Window, options_); }

  using calls::result_for;

  /// f(who attends, queries, keys, the window's modifiers...).
  template <class Q, class K, class F>
  void called(const Q& q, const K& k, const F& f) const {
    this->check("luong", zero());
    scored(q, k, [&](const auto& engine, const auto& x_q, const auto& x_k) {
      if constexpr (Window == luong_window::global) {
        f(engine, x_q, x_k);
      } else if constexpr (Window == luong_window::local_m) {
        const index_type d = options_.distance;
        f(engine, x_q, x_k, sliding_window{.left = d, .right = d, .offset = 0});
      } else {
        auto centres = places(q, k);
        auto&& like_q = shaped_like(q, centres);
        const auto at = read_only(view_of(like_q, options_.heads, "p"));
        f(engine, x_q, x_k, window(at), gaussian(at));
      }
    });
  }
  template <class Q, class K, class F>
  void scored(const Q& q, const K& k, const F& f) const {
    const auto& o = options_;
    check_dim(q, "q", o.heads, "query_dim", o.query_dim);
    if constexpr (!location) check_dim(k, "k", o.kv_heads, "key_dim", o.key_dim);
    if constexpr (concat) {
      f(network, q, k);
    } else if constexpr (general) {
      auto z = projection::projected<T>(q, "q", o.heads, "luong", "query_dim", o.query_dim, this->w_a, row(),
                                        o.key_dim);
      f(attend_, shaped_like(q, z), k);
    } else if constexpr (location) {
      auto w = projection::location_rows<T>(k, o.kv_heads, this->w_a, o.positions);
      f(attend_, q, shaped_like(k, w));
    } else {
      f(attend_, q, k);
    }
  }

  template <class X>
  static void check_dim(const X& x, const char* name, index_type heads, const char* option, index_type dim) {
    const auto rows = view_of(x, heads, name);
    if (rows.batches() > 0 && rows.dim() != dim)
      reject(name, " has ", rows.dim(), " dimensions a head but luong's ", option, " is ", dim);
  }

  /// (A longer distance than any from a centre hides nothing either, and its sum with one is an index.)
  window_around<T> window(const sequences<const T>& centres) const {
    return {centres, static_cast<T>(std::min(options_.distance, most_positions))};
  }
  gaussian_around<T> gaussian(const sequences<const T>& centres, bool moment = false) const {
    return {centres, sigma(), moment};
  }
  T sigma() const noexcept { return static_cast<T>(options_.distance) / 2; }

  /// Of one head of one sequence.
  auto predicted(const projection::row_matrix<T>& q, index_type h, index_type keys) const {
    const index_type rows = options_.predicted;
    return projection::predicted_places<T>(q, projection::of_head(this->w_p, h, rows),
                                           projection::columns_of_head(this->v_p, h, rows), keys);
  }
  template <class Q, class K>
  void predict(const Q& q, const K& k, const sequences<T>& centres) const {
    const auto rows = read_only(view_of(q, options_.heads, "q"));
    const auto keys = view_of(k, options_.kv_heads, "k");
    check_dim(q, "q", options_.heads, "query_dim", options_.query_dim);
    check_same("q", "sequences", rows.batches(), "k", keys.batches());
    for (index_type b = 0; b < rows.batches(); ++b)
      for (index_type h = 0; h < options_.heads; ++h) {
        const auto p = predicted(projection::rows_in<T>(rows.head(b, h)), h, keys.tokens(b)).places;
        const auto to = centres.head(b, h);
        for (index_type i = 0; i < to.rows; ++i) to(i, 0) = p[eigen_index(i)];
      }
  }

  /// dL / dp_t = dO_t . sum_s w_ts (s - p_t) v_s / sigma^2, w being the weights of O: the sum is a forward
  /// call with other factors; and back through p_t.
  template <class Q, class K, class V, class G, class DQ, class... Mods>
  void add_prediction_gradient(const Q& q, const K& k, const V& v, const G& d_out, gradient_type& gradient,
                               DQ& d_q, const Mods&... mods) const {
    const auto& o = options_;
    auto centres = places(q, k);
    auto moments = result_for(q, v);
    auto&& centres_like_q = shaped_like(q, centres);
    auto&& moments_like_q = shaped_like(q, moments);
    auto&& d_q_like_q = shaped_like(q, d_q);
    const auto at = read_only(view_of(centres_like_q, o.heads, "p"));
    scored(q, k, [&](const auto& engine, const auto& x_q, const auto& x_k) {
      engine.into(moments_like_q, x_q, x_k, v, window(at), gaussian(at, true), mods...);
    });
    const auto rows = read_only(view_of(q, o.heads, "q")),
               of_out = read_only(view_of(d_out, o.heads, "d_out"));
    const auto of_moments = read_only(view_of(moments_like_q, o.heads, "o"));
    const auto to = view_of(d_q_like_q, o.heads, "d_q");
    const auto keys = view_of(k, o.kv_heads, "k");
    for (index_type b = 0; b < rows.batches(); ++b)
      for (index_type h = 0; h < o.heads; ++h) {
        const typename projection::predicted_places<T>::column d_p =
            (projection::rows_in<T>(of_out.head(b, h)).array() *
             projection::rows_in<T>(of_moments.head(b, h)).array())
                .rowwise()
                .sum() /
            (sigma() * sigma());
        const index_type n = o.predicted;
        const projection::row_matrix<T> of_queries =
            projection::rows_with_gradient<T>(projection::rows_in<T>(rows.head(b, h)), d_p.matrix());
        const projection::row_matrix<T> by_query =
            predicted(of_queries, h, keys.tokens(b))
                .backward(d_p, of_queries, projection::of_head(this->w_p, h, n),
                          projection::columns_of_head(this->v_p, h, n),
                          projection::of_head(gradient.w_p, h, n),
                          projection::columns_of_head(gradient.v_p, h, n));
        projection::store_rows<T>(projection::rows_in<T>(to.head(b, h)) + by_query, to.head(b, h));
      }
  }

  luong_options options_{};
  attention<T, Heads, KVHeads, Arch> attend_;
};

FOVEA_NAMESPACE_END
