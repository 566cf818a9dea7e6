// fovea/talking_heads.hpp - attention whose heads talk: logits are mixed before the softmax, and weights
// after it.
//
//   S_h = scale Q_h K_h^T       L_g = sum_h p_l(h, g) S_h       U_g = softmax(score(L_g))
//   W_h = sum_g p_w(g, h) U_g   O_h = W_h V_h
//
//   fovea::talking_heads<float, 8> attend;
//   attend.p_l = ..., attend.p_w = ...;                       // 8 x 8 each, the identity at first
//   Matrix o = attend(q, k, v, fovea::causal);
//   auto gradient = attend.zero_gradient();
//   auto [d_q, d_k, d_v] = attend.backward(q, k, v, d_o, gradient, fovea::causal);
//
// Shazeer et al., "Talking-Heads Attention", arXiv:2003.02436.
//
// A cell's logits of all heads are needed before the first of them is a weight, so that no head runs by
// itself: this is the textbook's way, a few query rows of all heads at a time, with Eigen's products. Masks
// and scores act on the mixed logits. Views, errors, what is hidden and what is promised of bits are as
// attention.hpp has them.
#pragma once

#include <fovea/projected/calls.hpp>
#include <fovea/projected/head_products.hpp>
#include <fovea/talking_heads/cells_of_heads.hpp>

FOVEA_NAMESPACE_BEGIN

struct talking_heads_options {
  std::optional<double> scale = {};    // of Q K^T; 1 / sqrt(dim) without
  index_type heads = 0, kv_heads = 0;  // where the type leaves them dynamic_heads; kv_heads: 0 means heads
  executor_ref executor = {};          // who does the work; must outlive the attention object
};

/// T: float or double. q (Lq, d), k (Lk, d), v (Lk, dv), o (Lq, dv) a head, of any elements; `mods`: masks
/// and scores.
///
/// Cost: 2 Lq Lk heads (d + dv + 2 heads) operations, and memory of heads x rows x Lk numbers, twice
/// (backward: four times), for each worker: as many rows as 2 MB hold of these, at least 1, at most 64. Each
/// such block of rows copies K and V, a head at a time. 8 heads of 64 take 2.3 times as long as attention of
/// 128 tokens, 2.9 times of 1,024, backward 2.8 and 3.9 times (Zen 5, AVX-512, one thread).
template <class T, int Heads = dynamic_heads, int KVHeads = Heads, class Arch = xsimd::default_arch>
class talking_heads {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>,
                "fovea: layers with weights compute in float or double");

 public:
  using matrix = projection::row_matrix<T>;
  /// What backward adds to.
  struct gradient_type {
    matrix p_l, p_w;
  };

  matrix p_l, p_w;  // heads x heads: from, to

  talking_heads() : talking_heads(talking_heads_options{}) {}
  /// Throws std::invalid_argument where heads do not fit.
  explicit talking_heads(const talking_heads_options& options)
      : options_(with_heads<Heads, KVHeads>(options)) {
    check_numbers_of_heads("talking_heads", options_);
    const auto n = eigen_index(options_.heads);
    p_l = matrix::Identity(n, n), p_w = p_l;
  }
  const talking_heads_options& options() const noexcept { return options_; }

  /// Gradients of p_l and p_w, 0.
  gradient_type zero_gradient() const {
    const matrix zero = matrix::Zero(p_l.rows(), p_l.cols());
    return {zero, zero};
  }

  /// O, of the kind and storage order of q.
  template <class Q, class K, class V, class... Mods>
  auto operator()(const Q& q, const K& k, const V& v, const Mods&... mods) const {
    auto out = make_like<T>(q, options_.heads, view_of(v, options_.kv_heads, "v").dim());
    into(shaped_like(q, out), q, k, v, mods...);
    return out;
  }
  /// Writes O into `o`, which has its size and any element, and may be q itself.
  template <class O, class Q, class K, class V, class... Mods>
  void into(O&& o, const Q& q, const K& k, const V& v, const Mods&... mods) const {
    const auto out = view_of(o, options_.heads, "o");
    const auto p = problem_of(out, q, k, v, mods...);
    check_results(p, mods...);
    fill_rows_of_none(out);
    each_block(p, 2, [&](auto& cells) {
      cells.mix(p_l, 0, 1), cells.softmax(p, 1), cells.mix(p_w, 1, 0);
      for (index_type h = 0; h < options_.heads; ++h)
        cells.store(seen_product<T>(cells.head(0, h), cells.values(p, h)), out.head(cells.batch, h));
    });
  }

  /// {d_q, d_k, d_v}, like q, k and v, of a loss whose gradient by O is `d_out`; those of p_l and p_w are
  /// added to `gradient`, with the same bits for any executor, which shares out the sequences. Nothing of the
  /// forward call is needed. Parameters of scores do not learn: their gradients are refused.
  template <class Q, class K, class V, class G, class... Mods>
  auto backward(const Q& q, const K& k, const V& v, const G& d_out, gradient_type& gradient,
                const Mods&... mods) const {
    const auto& o = options_;
    check_mix("the gradient's p_l", gradient.p_l), check_mix("the gradient's p_w", gradient.p_w);
    const auto p = problem_of(sequences<T>{}, q, k, v, mods...);
    p.rules.scores.each([](const auto& score) { check_learns_nothing(score); });
    const auto by_out = read_only(view_of(d_out, o.heads, "d_out"));
    check_like("d_out", by_out, "q", p.q, p.value_dim());
    auto d_q = make_like<element_of<Q>>(q, o.heads, p.dim());
    auto d_k = make_like<element_of<K>>(k, o.kv_heads, p.dim());
    auto d_v = make_like<element_of<V>>(v, o.kv_heads, p.value_dim());
    auto&& like_q = shaped_like(q, d_q);
    auto&& like_k = shaped_like(k, d_k);
    auto&& like_v = shaped_like(v, d_v);
    const auto to_q = view_of(like_q, o.heads, "d_q");
    const auto to_k = view_of(like_k, o.kv_heads, "d_k"), to_v = view_of(like_v, o.kv_heads, "d_v");
    fill_rows_of_none(to_q), fill_rows_of_none(to_k), fill_rows_of_none(to_v);
    std::vector<gradient_type> of_sequences(static_cast<std::size_t>(p.q.batches()), zero_gradient());
    o.executor.for_each(p.q.batches(), [&](index_type b, index_type) {
      gradient_type& sums = of_sequences[static_cast<std::size_t>(b)];
      std::vector<matrix> k_sums(static_cast<std::size_t>(o.kv_heads)), v_sums(k_sums);
      for (matrix& x : k_sums) x = matrix::Zero(eigen_index(p.k.tokens(b)), eigen_index(p.dim()));
      for (matrix& x : v_sums) x = matrix::Zero(eigen_index(p.k.tokens(b)), eigen_index(p.value_dim()));
      each_block_of(p, b, 4, [&](auto& cells) {
        cells.mix(p_l, 0, 1), cells.copy(1, 2), cells.softmax(p, 2), cells.mix(p_w, 2, 3);
        for (index_type h = 0; h < o.heads; ++h) {
          const auto group = static_cast<std::size_t>(h / p.group());
          const matrix d = cells.rows(by_out.head(b, h)), values = cells.values(p, h);
          v_sums[group] += seen_product<T>(cells.head(3, h).transpose(), d);
          cells.head(3, h).noalias() = d * values.transpose();
        }
        cells.clear_unseen(2, 3), cells.clear_unseen(2, 0);
        sums.p_w.noalias() += cells.all(2) * cells.all(3).transpose();
        cells.mix(p_w.transpose(), 3, 3), cells.softmax_backward(p, 1, 2, 3);
        sums.p_l.noalias() += cells.all(0) * cells.all(3).transpose();
        cells.mix(p_l.transpose(), 3, 3);
        for (index_type h = 0; h < o.heads; ++h) {
          const auto group = static_cast<std::size_t>(h / p.group());
          cells.store(p.scale * seen_product<T>(cells.head(3, h), cells.keys(p, h)), to_q.head(b, h));
          k_sums[group] +=
              p.scale * seen_product<T>(cells.head(3, h).transpose(), cells.rows(p.q.head(b, h)));
        }
      });
      for (index_type h = 0; h < o.kv_heads; ++h) {
        projection::store_rows<T>(k_sums[static_cast<std::size_t>(h)], to_k.head(b, h));
        projection::store_rows<T>(v_sums[static_cast<std::size_t>(h)], to_v.head(b, h));
      }
    });
    for (const gradient_type& one : of_sequences) gradient.p_l += one.p_l, gradient.p_w += one.p_w;
    return gradients<decltype(d_q), decltype(d_k), decltype(d_v)>{std::move(d_q), std::move(d_k),
                                                                  std::move(d_v)};
  }

 private:
  template <class Score>
  static void check_learns_nothing(const Score& score) {
    if (wants_gradient(score)) reject("talking_heads does not make ", gradient_name<Score>);
  }
  void check_mix(const char* name, const matrix& m) const {
    if (m.rows() != eigen_index(options_.heads) || m.cols() != m.rows())
      reject(name, " is ", m.rows(), " x ", m.cols(), ", not ", options_.heads, " x ", options_.heads);
  }
  template <class OE, class Q, class K, class V, class... Mods>
  auto problem_of(const sequences<OE>& out, const Q& q, const K& k, const V& v, const Mods&... mods) const {
    static_assert(((mask_like<Mods> || score_like<Mods>)&&...),
                  "fovea: talking_heads takes masks and scores");
    check_mix("talking_heads' p_l", p_l), check_mix("talking_heads' p_w", p_w);
    return build_problem<mask_intersection>(
        options_.scale, out, sequences<T>{}, view_of(q, options_.heads, "q"),
        view_of(k, options_.kv_heads, "k"), view_of(v, options_.kv_heads, "v"), mods...);
  }

  /// f(cells_of_heads) of each block of rows, with S in the first of so many buffers. What a block is depends
  /// on its sequence alone, as the bits of Eigen's products depend on their sizes.
  template <class Problem, class F>
  void each_block(const Problem& p, index_type buffers, const F& f) const {
    index_type blocks = 0;
    for (index_type b = 0; b < p.q.batches(); ++b) blocks = std::max(blocks, blocks_of(p, b));
    options_.executor.for_each(p.q.batches() * blocks, [&](index_type i, index_type) {
      if (i % blocks < blocks_of(p, i / blocks)) with_block(p, i / blocks, i % blocks, buffers, f);
    });
  }
  template <class Problem, class F>
  void each_block_of(const Problem& p, index_type b, index_type buffers, const F& f) const {
    for (index_type i = 0; i < blocks_of(p, b); ++i) with_block(p, b, i, buffers, f);
  }
  template <class Problem, class F>
  static void with_block(const Problem& p, index_type b, index_type block, index_type buffers, const F& f) {
    const index_type rows = rows_a_block(p, b), first = block * rows;
    cells_of_heads<Arch, T> cells(p, b, {first, std::min(first + rows, p.q.tokens(b))}, buffers);
    cells.dot(p), f(cells);
  }
  template <class Problem>
  static index_type blocks_of(const Problem& p, index_type b) noexcept {
    return ceil_div(p.q.tokens(b), rows_a_block(p, b));
  }
  template <class Problem>
  static index_type rows_a_block(const Problem& p, index_type b) noexcept {
    const index_type a_row = p.heads() * std::max<index_type>(p.k.tokens(b), 1) * index_type(sizeof(T));
    return std::clamp<index_type>((index_type(1) << 21) / a_row, 1, 64);
  }

  talking_heads_options options_{};
};

FOVEA_NAMESPACE_END
