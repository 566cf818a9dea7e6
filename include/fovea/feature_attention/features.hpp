// fovea/feature_attention/features.hpp - feature maps, and a key/value head of attention by their products.
#pragma once

#include <fovea/linear_attention.hpp>
#include <fovea/score/dual.hpp>
#include <fovea/view/eigen.hpp>

FOVEA_NAMESPACE_BEGIN

/// phi(x) = elu(x) + 1: x + 1 above 0, e^x below. (Katharopoulos et al. 2020.)
struct elu_plus_one_features {
  template <class V>
  V operator()(const V& x) const noexcept {
    using std::exp, std::min, std::max;
    return exp(min(x, V(0))) + max(x, V(0));
  }
};

/// phi(x) = max(x, 0).
struct relu_features {
  template <class V>
  V operator()(const V& x) const noexcept {
    using std::max;
    return max(x, V(0));
  }
};

namespace features {

template <class T, class Q, class K, class V>
struct call {
  using compute = T;
  sequences<const Q> q;
  sequences<const K> k;
  sequences<const V> v;
  bool is_causal;
  double epsilon;
};

/// to = phi(row t), whole registers, 0 beyond its columns before phi.
template <class Arch, class T, class Features, class E>
void map_row(const Features& f, const matrix_view<E>& rows, index_type t, T* to) {
  using R = xsimd::batch<T, Arch>;
  constexpr auto n = static_cast<index_type>(R::size);
  load_elements(rows.at(t), rows.col_stride, rows.cols, to);
  std::fill(to + rows.cols, to + round_up(rows.cols, n), T(0));
  for (index_type c = 0; c < rows.cols; c += n) R(f(R::load_unaligned(to + c))).store_unaligned(to + c);
}

/// A key/value head of a sequence with its query heads, copied for its gradient: features of q and k, and v
/// with a column of ones, whose results are the normaliser.
template <class Arch, class Call, class Features>
class head {
  using T = typename Call::compute;
  using R = xsimd::batch<T, Arch>;
  using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  static constexpr index_type n = static_cast<index_type>(R::size);

 public:
  head(const Call& c, const Features& features, index_type job)
      : c_(c),
        features_(features),
        b_(job / c.k.heads()),
        h_(job % c.k.heads()),
        group_(c.q.heads() / c.k.heads()),
        lq_(c.q.tokens(b_)),
        lk_(c.k.tokens(b_)),
        d_(c.k.dim()),
        dv_(c.v.dim()),
        q_(group_ * lq_, round_up(d_, n)),
        k_(lk_, round_up(d_, n)),
        v_(matrix::Ones(lk_, dv_ + 1)) {
    for (index_type g = 0; g < group_; ++g) {
      const auto rows = c.q.head(b_, h_ * group_ + g);
      for (index_type t = 0; t < lq_; ++t) map_row<Arch>(features_, rows, t, q_.row(g * lq_ + t).data());
    }
    const auto keys = c.k.head(b_, h_);
    const auto values = c.v.head(b_, h_);
    for (index_type t = 0; t < lk_; ++t) {
      map_row<Arch>(features_, keys, t, k_.row(t).data());
      load_elements(values.at(t), values.col_stride, dv_, &v_(t, 0));
    }
  }

  /// With N = phi(Q) S and z its last column: d_N = d_o / (z + epsilon), d_z = -(d_o . o) / (z + epsilon).
  template <class G, class DQ, class DK, class DV>
  void backward(const sequences<const G>& d_out, const sequences<DQ>& d_q, const sequences<DK>& d_k,
                const sequences<DV>& d_v) const {
    matrix d_sums = sums();
    std::vector<T> row(static_cast<std::size_t>(dv_));
    for (index_type g = 0; g < group_; ++g) {
      const auto from = d_out.head(b_, h_ * group_ + g);
      for (index_type t = 0; t < lq_; ++t) {
        load_elements(from.at(t), from.col_stride, dv_, row.data());
        const T norm = norm_of(d_sums, g, t);
        T* const sum = &d_sums(g * lq_ + t, 0);
        T product = 0;
        for (index_type c = 0; c < dv_; ++c) {
          product += row[static_cast<std::size_t>(c)] * sum[c] / norm;
          sum[c] = row[static_cast<std::size_t>(c)] / norm;
        }
        sum[dv_] = -product / norm;
      }
    }
    matrix by_q(group_ * lq_, k_.cols()), by_k(lk_, k_.cols()), by_v(lk_, dv_ + 1);
    if (c_.is_causal) {
      linear().backward_into(view(by_q, group_, d_), view(by_k, 1, d_), view(by_v, 1, dv_ + 1),
                             view(q_, group_, d_), view(k_, 1, d_), view(v_, 1, dv_ + 1),
                             view(d_sums, group_, dv_ + 1));
    } else {
      const matrix s = state(), d_s = q_.leftCols(d_).transpose() * d_sums;
      by_q.leftCols(d_).noalias() = d_sums * s.transpose();
      by_k.leftCols(d_).noalias() = v_ * d_s.transpose(), by_v.noalias() = k_.leftCols(d_) * d_s;
    }
    for (index_type g = 0; g < group_; ++g)
      unmap(c_.q.head(b_, h_ * group_ + g), lq_, &by_q(g * lq_, 0), d_q.head(b_, h_ * group_ + g));
    unmap(c_.k.head(b_, h_), lk_, by_k.data(), d_k.head(b_, h_));
    const auto to = d_v.head(b_, h_);
    for (index_type t = 0; t < lk_; ++t) store_elements(&by_v(t, 0), dv_, to.at(t), to.col_stride);
  }

 private:
  linear_attention<T, dynamic_heads, dynamic_heads, Arch> linear() const {
    return linear_attention<T, dynamic_heads, dynamic_heads, Arch>(
        {.scale = 1, .heads = group_, .kv_heads = 1});
  }
  template <class M>
  static auto view(M& m, index_type heads, index_type dim) {
    using E = std::remove_reference_t<decltype(*m.data())>;
    const index_type tokens = m.rows() / heads;
    return tensor_view<E>{m.data(),          1,        heads, tokens, dim, m.rows() * m.cols(),
                          tokens * m.cols(), m.cols(), 1};
  }

  matrix state() const { return k_.leftCols(d_).transpose() * v_; }

  /// phi(Q) S, or that of each token's own state.
  matrix sums() const {
    if (!c_.is_causal) return q_.leftCols(d_) * state();
    matrix o(group_ * lq_, dv_ + 1);
    linear().into(view(o, group_, dv_ + 1), view(q_, group_, d_), view(k_, 1, d_), view(v_, 1, dv_ + 1));
    return o;
  }
  T norm_of(const matrix& sums, index_type g, index_type t) const {
    return sums(g * lq_ + t, dv_) + static_cast<T>(c_.epsilon);
  }

  /// Gradients by x from those by phi(x), `by`.
  template <class E, class D>
  void unmap(const matrix_view<E>& x, index_type tokens, T* by, const matrix_view<D>& to) const {
    std::vector<T> row(static_cast<std::size_t>(round_up(d_, n)), T(0));
    for (index_type t = 0; t < tokens; ++t, by += k_.cols()) {
      load_elements(x.at(t), x.col_stride, d_, row.data());
      for (index_type c = 0; c < d_; c += n) {
        const dual<R> at = features_(dual<R>(R::load_unaligned(row.data() + c), R(T(1))));
        (at.slope * R::load_unaligned(by + c)).store_unaligned(by + c);
      }
      store_elements(by, d_, to.at(t), to.col_stride);
    }
  }

  const Call& c_;
  const Features& features_;
  index_type b_, h_, group_, lq_, lk_, d_, dv_;
  matrix q_, k_, v_;
};

}  // namespace features

FOVEA_NAMESPACE_END
