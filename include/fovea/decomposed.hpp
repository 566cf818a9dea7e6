// fovea/decomposed.hpp - attention over a picture with a relative bias in two factors, made of the queries.
//
//   s_ij = scale q_i . k_j + q_i . R_h[y_i - y_j + height - 1] + q_i . R_w[x_i - x_j + width - 1]
//   O = softmax(s) V, for each head; token t = y width + x
//
//   fovea::decomposed<float, 12> attend({.height = 64, .width = 64, .dim = 64});
//   attend.r_h = ..., attend.r_w = ...;                       // (2 height - 1) x dim, (2 width - 1) x dim
//   Matrix o = attend(q, k, v);                                          // as attention<float, 12>
//   auto gradient = attend.zero_gradient();
//   auto [d_q, d_k, d_v] = attend.backward(q, k, v, out, lse, d_out, gradient);
//
// Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection" (ViTDet), arXiv:2203.16527,
// after MViTv2, arXiv:2112.01526, section 4.1; the image encoder of SAM, arXiv:2304.02643, has the same: its
// rel_pos_h and rel_pos_w are r_h and r_w. q is not scaled in the two products.
//
// Masks, scores, views, elements, executors and errors are those of attention.hpp, and so is what is promised
// of bits.
#pragma once

#include <fovea/decomposed/grid_products.hpp>
#include <fovea/projected/calls.hpp>
#include <fovea/projected/head_products.hpp>
#include <fovea/score/grid_terms.hpp>

FOVEA_NAMESPACE_BEGIN

struct decomposed_options {
  index_type height = 0, width = 0;    // of the grid of tokens: sequences have height x width
  index_type dim = 0;                  // of a head of q
  index_type heads = 0, kv_heads = 0;  // where the type leaves them dynamic_heads; kv_heads: 0 means heads
  std::optional<double> scale = {};    // of q . k: 1 / sqrt(dim) without it
  executor_ref executor = {};          // who does the work; must outlive the attention object
};

/// T: float or double. q, k (height width, dim) a head, v (height width, dv), o (height width, dv); `mods`:
/// masks, scores, at most one sink and one dropout. All heads share the two tables.
///
/// Cost: two products a query once a call, Lq (height + 2 width) dim operations and Lq (height + width)
/// numbers of memory a head, and two loads a register of logits: never Lq x Lk. A grid of 64 x 64 takes 1.2
/// times as long as without the bias, windows of 14 x 14, where the products weigh more, 1.34 to 1.46 times
/// (Zen 5, AVX-512, one thread). Backward makes the logits once more.
template <class T, int Heads = dynamic_heads, int KVHeads = Heads, class Arch = xsimd::default_arch>
class decomposed : public projected_calls<decomposed<T, Heads, KVHeads, Arch>, T> {
  using calls = projected_calls<decomposed, T>;
  friend calls;

 public:
  using matrix = projection::row_matrix<T>;
  /// What backward adds to.
  struct gradient_type {
    matrix r_h, r_w;
  };

  matrix r_h, r_w;  // 0 at first

  /// Throws std::invalid_argument where the grid or dim have no size, or heads do not fit.
  explicit decomposed(const decomposed_options& options)
      : options_(with_heads<Heads, KVHeads>(options)),
        attend_({.scale = options.scale,
                 .heads = options.heads,
                 .kv_heads = options.kv_heads,
                 .executor = options.executor}) {
    const auto& o = options_;
    check_at_least_one("decomposed", "height", o.height), check_at_least_one("decomposed", "width", o.width);
    check_at_least_one("decomposed", "dim", o.dim), check_numbers_of_heads("decomposed", o);
    size_product("decomposed's products", o.heads, o.height, o.width, saturated_sum(o.height, o.width),
                 sizeof(T));
    places_ = grid_places(o.height, o.width);
    r_h = matrix::Zero(eigen_index(2 * o.height - 1), eigen_index(o.dim));
    r_w = matrix::Zero(eigen_index(2 * o.width - 1), eigen_index(o.dim));
  }

  const decomposed_options& options() const noexcept { return options_; }

  /// A gradient of the tables, 0.
  gradient_type zero_gradient() const {
    return {matrix::Zero(r_h.rows(), r_h.cols()), matrix::Zero(r_w.rows(), r_w.cols())};
  }

  /// {d_q, d_k, d_v}, like q, k and v, as attention's backward gives them; those of the tables are added to
  /// `gradient`, with the same bits for any executor.
  template <class Q, class K, class V, class O, class L, class G, class... Mods>
  auto backward(const Q& q, const K& k, const V& v, const O& out, const L& lse, const G& d_out,
                gradient_type& gradient, const Mods&... mods) const {
    const auto& o = options_;
    check_tables("the gradient's r_h", gradient.r_h, "the gradient's r_w", gradient.r_w);
    const auto rows = read_only(view_of(q, o.heads, "q"));
    check_queries(rows);
    auto d_q = make_like<element_of<Q>>(q, o.heads, rows.dim());
    auto d_x = make_like<T>(q, o.heads, rows.dim());
    auto d_k = make_like<element_of<K>>(k, o.kv_heads, view_of(k, o.kv_heads, "k").dim());
    auto d_v = make_like<element_of<V>>(v, o.kv_heads, view_of(v, o.kv_heads, "v").dim());
    const terms of_rows(*this, rows, grid_layout::rows(o.height + o.width));
    tensor<T> d_terms(rows.batches(), o.heads, o.height * o.width, o.height + o.width);
    attend_.backward_into(shaped_like(q, d_x), shaped_like(k, d_k), shaped_like(v, d_v), q, k, v, out, lse,
                          d_out, of_rows.score(places_, d_terms.view()), mods...);
    auto&& d_x_like_q = shaped_like(q, d_x);
    auto&& d_q_like_q = shaped_like(q, d_q);
    const auto sums = view_of(d_x_like_q, o.heads, "d_q"), to = view_of(d_q_like_q, o.heads, "d_q");
    pull_back(rows, d_terms, sums, gradient);
    fill_rows_of_none(to);
    for (index_type i = 0; i < rows.batches() * o.heads; ++i)
      projection::store_rows<T>(projection::rows_in<T>(sums.head(i / o.heads, i % o.heads)),
                                to.head(i / o.heads, i % o.heads));
    return gradients<decltype(d_q), decltype(d_k), decltype(d_v)>{std::move(d_q), std::move(d_k),
                                                                  std::move(d_v)};
  }

 private:
  /// The queries of a row of the grid (axis 0) or of a column (1), the rows of a table, read backwards, that
  /// they are multiplied by, and the first of these products' columns.
  struct line {
    index_type axis, first, step, count, table, others, column;
    index_type query(index_type i) const noexcept { return first + i * step; }
  };
  index_type lines() const noexcept { return options_.height + options_.width; }
  line line_at(index_type i) const noexcept {
    const index_type height = options_.height, width = options_.width, x = i - height;
    return i < height ? line{0, i * width, 1, width, height - 1 - i, height, 0}
                      : line{1, x, width, height, width - 1 - x, width, height};
  }
  static auto rows_of(matrix& table, const line& l) {
    return table.middleRows(eigen_index(l.table), eigen_index(l.others));
  }
  /// A line's queries of one head. (Products of all heads' at a time are faster for small grids, but the bits
  /// of Eigen's depend on how many rows there are.)
  template <class Head>
  static void load_queries(const Head& head, const line& l, matrix& to) {
    to.resize(eigen_index(l.count), eigen_index(head.cols));
    for (index_type i = 0; i < l.count; ++i)
      load_elements(head.at(l.query(i)), head.col_stride, head.cols, to.data() + i * head.cols);
  }

  /// q_i . R_h and q_i . R_w of all queries.
  class terms {
   public:
    template <class Rows>
    terms(const decomposed& of, const Rows& q, const grid_layout& layout) : layout_(layout) {
      const auto& o = of.options_;
      const index_type room = o.width + 2 * grid_layout::tile;
      head_stride_ = round_up(o.height * o.width, grid_layout::tile) * of.lines();
      const index_type all =
          size_product("decomposed's products", q.batches(), o.heads, head_stride_) + 2 * room;
      numbers_ = std::vector<T>(static_cast<std::size_t>(all));
      first_ = numbers_.data() + room;
      constexpr index_type n = kernel::lanes<Arch, T>;
      static_assert(grid_layout::tile % n == 0);
      o.executor.for_each(q.batches() * o.heads, [&](index_type i, index_type) {
        grid_products<Arch, T> products(of.places_, o.dim, of.r_h.data(), of.r_w.data());
        for (index_type first = 0; first < o.height * o.width; first += n)
          products.write(q.head(i / o.heads, i % o.heads), first, layout, first_ + i * head_stride_);
      });
    }
    template <class Sums>
    auto score(const grid_places& places, const Sums& sums) const noexcept {
      return grid_score<T, Sums>{first_, head_stride_, layout_, &places, sums};
    }

   private:
    grid_layout layout_;
    index_type head_stride_;
    std::vector<T> numbers_;
    T* first_;
  };

  void check_tables(const char* name_h, const matrix& h, const char* name_w, const matrix& w) const {
    const auto check = [&](const char* name, const matrix& table, index_type size) {
      if (table.rows() != eigen_index(2 * size - 1) || table.cols() != eigen_index(options_.dim))
        reject("decomposed: ", name, " is ", table.rows(), " x ", table.cols(), ", not ", 2 * size - 1, " x ",
               options_.dim);
    };
    check(name_h, h, options_.height), check(name_w, w, options_.width);
  }

  template <class Q, class K, class F>
  void called(const Q& q, const K& k, const F& f) const {
    const auto rows = read_only(view_of(q, options_.heads, "q"));
    check_queries(rows);
    const terms products(*this, rows, grid_layout::tiles(lines()));
    f(attend_, q, k, products.score(places_, tensor_view<T>()));
  }
  template <class Rows>
  void check_queries(const Rows& q) const {
    check_tables("r_h", r_h, "r_w", r_w);
    const index_type tokens = options_.height * options_.width;
    if (q.dim() != options_.dim)
      reject("q has ", q.dim(), " dimensions a head but decomposed's dim is ", options_.dim);
    for (index_type b = 0; b < q.batches(); ++b)
      if (q.tokens(b) != tokens)
        reject("q has ", q.tokens(b), " tokens, not the ", tokens, " of a grid of ", options_.height, " x ",
               options_.width);
  }

  /// d_q += d_terms R, gradient += d_terms^T q, line by line on the calling thread.
  template <class Rows, class DQ>
  void pull_back(const Rows& q, const tensor<T>& d_terms, const DQ& d_q, gradient_type& gradient) const {
    matrix tables[] = {r_h.colwise().reverse(), r_w.colwise().reverse()};
    matrix d_tables[] = {matrix::Zero(r_h.rows(), r_h.cols()), matrix::Zero(r_w.rows(), r_w.cols())};
    for (index_type number = 0; number < lines(); ++number) {
      const line l = line_at(number);
      matrix x, d(eigen_index(l.count), eigen_index(l.others)), by_q(d.rows(), r_h.cols());
      for (index_type head = 0; head < q.batches() * options_.heads; ++head) {
        const index_type b = head / options_.heads, h = head % options_.heads;
        for (index_type i = 0; i < l.count; ++i)
          std::copy_n(&d_terms(b, h, l.query(i), l.column), l.others, d.data() + i * l.others);
        load_queries(q.head(b, h), l, x);
        x = projection::rows_with_gradient<T>(std::move(x), d);
        by_q.noalias() = d * rows_of(tables[l.axis], l);
        rows_of(d_tables[l.axis], l).noalias() += d.transpose() * x;
        const auto to = d_q.head(b, h);
        for (index_type i = 0; i < l.count; ++i)
          for (index_type c = 0; c < to.cols; ++c) to(l.query(i), c) += by_q.data()[i * to.cols + c];
      }
    }
    gradient.r_h += d_tables[0].colwise().reverse();
    gradient.r_w += d_tables[1].colwise().reverse();
  }

  decomposed_options options_{};
  grid_places places_{0, 0};
  attention<T, Heads, KVHeads, Arch> attend_;
};

FOVEA_NAMESPACE_END
