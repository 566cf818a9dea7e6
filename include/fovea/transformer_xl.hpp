// fovea/transformer_xl.hpp - attention with vectors of distances: Transformer-XL's, and the Conformer's.
//
//   s_ij = scale ((q_i + u) . k_j + (q_i + v) . r_{i - j})       u, v: of a head    r: of a head and distance
//   O = softmax(s) V
//
//   fovea::transformer_xl<float, 8> attend({.dim = 64, .reach = 1023});
//   attend.u = ..., attend.v = ...;                       // 8 x 64
//   attend.r = ...;                                       // (2 * 1023 + 1) x (8 * 64), row 1023 + i - j
//   Matrix o = attend(q, k, v);                                          // as attention<float, 8>
//   auto gradient = attend.zero_gradient();
//   auto [d_q, d_k, d_v] = attend.backward(q, k, v, out, lse, d_out, gradient);
//
// Dai et al., "Transformer-XL", arXiv:1901.02860, section 3.3, where r is W_R times sinusoids; Gulati et al.,
// "Conformer", arXiv:2005.08100. Both shift a product of all queries and all distances; here it is made a
// block of cells at a time, at the distances of the block.
//
// Masks, scores, views, elements, executors and errors are those of attention.hpp, and so is what is promised
// of bits.
#pragma once

#include <fovea/transformer_xl/vectors.hpp>

FOVEA_NAMESPACE_BEGIN

/// T: float or double. q, k (Lq or Lk, dim) a head, v (Lk, dv), o (Lq, dv); `mods`: masks, scores, at most
/// one sink and one dropout. A sequence whose distances i + offset - j exceed reach is refused.
///
/// Cost: dim operations a cell beside those of q . k, each with a number of r that is loaded for it. 8 heads
/// of 64, 256 and 1,024 tokens, take 2.3 to 2.4 times as long as attention without these terms, backward 4.4
/// to 7.4 times, as logits and dS are made once more for them (Zen 5, AVX-512; one thread). A call lays out
/// those rows of r that it has distances for. Of up to 16 queries of a sequence r is read where it lies: one
/// query of 1,024 keys takes 1.8 times as long as without, 16 take 3.3 times. O(Lq + Lk) dim numbers of
/// memory a head, and for up to 16 queries their products with r, a number a query and key; never Lq x Lk of
/// more.
template <class T, int Heads = dynamic_heads, int KVHeads = Heads, class Arch = xsimd::default_arch>
class transformer_xl : public projected_calls<transformer_xl<T, Heads, KVHeads, Arch>, T> {
  using calls = projected_calls<transformer_xl, T>;
  friend calls;

 public:
  using matrix = projection::row_matrix<T>;
  /// What backward adds to.
  struct gradient_type {
    matrix u, v, r;
  };

  matrix u, v, r;  // heads x dim, and (2 reach + 1) x (heads dim); 0 at first

  /// Throws std::invalid_argument where dim is below 1, reach below 0, or heads do not fit.
  explicit transformer_xl(const transformer_xl_options& options)
      : options_(with_heads<Heads, KVHeads>(options)),
        scale_(
            options.scale.value_or(1 / std::sqrt(static_cast<double>(std::max<index_type>(options.dim, 1))))),
        attend_({.scale = scale_,
                 .heads = options.heads,
                 .kv_heads = options.kv_heads,
                 .executor = options.executor}) {
    const auto& o = options_;
    check_at_least_one("transformer_xl", "dim", o.dim), check_numbers_of_heads("transformer_xl", o);
    if (o.reach < 0 || o.reach > most_positions)
      reject("transformer_xl's reach is ", o.reach, ", not from 0 to ", most_positions);
    size_product("transformer_xl's r", o.heads, o.dim, 2 * o.reach + 1, sizeof(T));
    const gradient_type zero = zero_gradient();
    u = zero.u, v = zero.v, r = zero.r;
  }

  const transformer_xl_options& options() const noexcept { return options_; }

  /// Gradients of u, v and r, 0.
  gradient_type zero_gradient() const {
    const auto& o = options_;
    const matrix of_heads = matrix::Zero(eigen_index(o.heads), eigen_index(o.dim));
    return {of_heads, of_heads, matrix::Zero(eigen_index(positions()), eigen_index(o.heads * o.dim))};
  }

  /// {d_q, d_k, d_v}, like q, k and v, as attention's backward gives them; those of u, v and r are added to
  /// `gradient`, with the same bits for any executor (the heads are what it shares out).
  template <class Q, class K, class V, class O, class L, class G, class... Mods>
  auto backward(const Q& q, const K& k, const V& values, const O& out, const L& lse, const G& d_out,
                gradient_type& gradient, const Mods&... mods) const {
    const auto& o = options_;
    check_parameters("the gradient's ", gradient);
    const auto rows = checked_queries(q);
    auto d_q = make_like<element_of<Q>>(q, o.heads, o.dim);
    auto d_x = make_like<T>(q, o.heads, o.dim);
    auto d_k = make_like<element_of<K>>(k, o.kv_heads, view_of(k, o.kv_heads, "k").dim());
    auto d_v = make_like<element_of<V>>(values, o.kv_heads, view_of(values, o.kv_heads, "v").dim());
    const vectors of(o, scale_, v, r, rows, read_only(view_of(k, o.kv_heads, "k")), true);
    tensor<T> d_terms(rows.batches(), o.heads, rows.max_tokens(), of.width());
    auto x = with_u(q, rows);
    attend_.backward_into(shaped_like(q, d_x), shaped_like(k, d_k), shaped_like(values, d_v),
                          shaped_like(q, x), k, values, out, lse, d_out, of.score(d_terms.view()), mods...);
    auto&& d_x_like_q = shaped_like(q, d_x);
    auto&& d_q_like_q = shaped_like(q, d_q);
    const auto sums = read_only(view_of(d_x_like_q, o.heads, "d_q"));
    const auto to = view_of(d_q_like_q, o.heads, "d_q");
    fill_rows_of_none(to);
    matrix d, by_terms;
    for (index_type b = 0; b < rows.batches(); ++b)
      for (index_type h = 0; h < o.heads; ++h) {
        d = projection::rows_in<T>(sums.head(b, h));
        const T* const terms = d_terms.data() + (b * o.heads + h) * d_terms.tokens() * of.width();
        by_terms = projection::rows_in<T>(matrix_view<const T>{terms, d.rows(), o.dim, of.width(), 1}) *
                   static_cast<T>(scale_);
        gradient.u.row(eigen_index(h)) += d.colwise().sum();
        gradient.v.row(eigen_index(h)) += by_terms.colwise().sum();
        projection::store_rows<T>(d + by_terms, to.head(b, h));
      }
    of.add_gradient(gradient.r);
    return gradients<decltype(d_q), decltype(d_k), decltype(d_v)>{std::move(d_q), std::move(d_k),
                                                                  std::move(d_v)};
  }

 private:
  using vectors = transformer_xl_vectors<T, Arch>;

  index_type positions() const noexcept { return 2 * options_.reach + 1; }

  template <class Q, class K, class F>
  void called(const Q& q, const K& k, const F& f) const {
    const auto rows = checked_queries(q);
    const vectors of(options_, scale_, v, r, rows, read_only(view_of(k, options_.kv_heads, "k")), false);
    auto x = with_u(q, rows);
    f(attend_, shaped_like(q, x), k, of.score(tensor_view<T>()));
  }
  template <class Q>
  auto checked_queries(const Q& q) const {
    check_parameters("transformer_xl's ", *this);
    const auto rows = read_only(view_of(q, options_.heads, "q"));
    if (rows.batches() > 0 && rows.dim() != options_.dim)
      reject("q has ", rows.dim(), " dimensions a head but transformer_xl's dim is ", options_.dim);
    return rows;
  }
  template <class Parameters>
  void check_parameters(const char* whose, const Parameters& of) const {
    const auto& o = options_;
    const auto check = [&](const char* name, const matrix& m, index_type rows, index_type columns) {
      if (m.rows() != eigen_index(rows) || m.cols() != eigen_index(columns))
        reject(whose, name, " is ", m.rows(), " x ", m.cols(), ", not ", rows, " x ", columns);
    };
    check("u", of.u, o.heads, o.dim), check("v", of.v, o.heads, o.dim);
    check("r", of.r, positions(), o.heads * o.dim);
  }
  /// q + u, like q.
  template <class Q, class Rows>
  auto with_u(const Q& q, const Rows& rows) const {
    auto x = make_like<T>(q, options_.heads, options_.dim);
    auto&& like_q = shaped_like(q, x);
    const auto to = view_of(like_q, options_.heads, "q");
    fill_rows_of_none(to);
    for (index_type b = 0; b < rows.batches(); ++b)
      for (index_type h = 0; h < options_.heads; ++h) {
        matrix of_head = projection::rows_in<T>(rows.head(b, h));
        of_head.rowwise() += u.row(eigen_index(h));
        projection::store_rows<T>(of_head, to.head(b, h));
      }
    return x;
  }

  transformer_xl_options options_{};
  double scale_;
  attention<T, Heads, KVHeads, Arch> attend_;
};

FOVEA_NAMESPACE_END
