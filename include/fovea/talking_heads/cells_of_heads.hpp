// fovea/talking_heads/cells_of_heads.hpp - the score matrices of all heads at a few query rows.
#pragma once

#include <fovea/kernel/rules/row_rules.hpp>
#include <fovea/kernel/softmax.hpp>
#include <fovea/kernel/tile/tile.hpp>
#include <fovea/projected/head_products.hpp>

#include <cmath>

FOVEA_NAMESPACE_BEGIN

/// p x, where a weight of 0 hides what it would be multiplied by: what no number is joins the sums of those
/// rows that see it, after the same product as without it, so that no other row gets other bits (nor, of
/// weights of 0 alone, another sign of 0).
template <class T, class P>
projection::row_matrix<T> seen_product(const P& p, const projection::row_matrix<T>& x) {
  const bool finite = x.allFinite();
  projection::row_matrix<T> sum;
  if (finite)
    sum.noalias() = p * x;
  else
    sum.noalias() = p * projection::row_matrix<T>(x.array().isFinite().select(x, T(0)));
  sum.array() += T(0);
  for (Eigen::Index j = 0; !finite && j < x.rows(); ++j)
    for (Eigen::Index c = 0; c < x.cols(); ++c) {
      if ((std::isfinite)(x(j, c))) continue;
      for (Eigen::Index i = 0; i < p.rows(); ++i)
        if (p(i, j) != T(0)) sum(i, c) += p(i, j) * x(j, c);
    }
  return sum;
}

/// Buffers of heads x rows x keys, rows a whole number of registers long; behind the last key numbers are
/// those of hidden cells once the softmax was taken.
template <class Arch, class T>
class cells_of_heads {
  using V = kernel::vec<Arch, T>;
  using row_matrix = projection::row_matrix<T>;
  static constexpr index_type n = kernel::lanes<Arch, T>;

 public:
  const index_type batch;
  const range queries;

  template <class Problem>
  cells_of_heads(const Problem& p, index_type b, range rows, index_type buffers)
      : batch(b),
        queries(rows),
        heads_(p.heads()),
        keys_(p.k.tokens(b)),
        width_(round_up(keys_, n)),
        each_(size_product("talking_heads' cells", heads_, rows.size(), width_)) {
    constexpr index_type aligned = 64 / sizeof(T);
    memory_ = std::vector<T>(
        static_cast<std::size_t>(size_product("talking_heads' cells", each_, buffers) + aligned));
    const auto over = reinterpret_cast<std::uintptr_t>(memory_.data()) % 64;
    first_ = memory_.data() + (over == 0 ? 0 : (64 - static_cast<index_type>(over)) / index_type(sizeof(T)));
  }
  cells_of_heads(const cells_of_heads&) = delete;

  /// A buffer, a row a head; and of a head, a row a query.
  auto all(index_type buffer) noexcept {
    return Eigen::Map<row_matrix>(at(buffer), eigen_index(heads_), eigen_index(queries.size() * width_));
  }
  auto head(index_type buffer, index_type h) noexcept {
    return Eigen::Map<row_matrix, 0, Eigen::OuterStride<>>(row(buffer, h, 0), eigen_index(queries.size()),
                                                           eigen_index(keys_),
                                                           Eigen::OuterStride<>(eigen_index(width_)));
  }

  /// These queries' rows of a head of q, O or its gradient; and back.
  template <class E>
  row_matrix rows(const matrix_view<E>& of_head) const {
    return projection::rows_in<T>(part(of_head));
  }
  template <class E>
  void store(const row_matrix& from, const matrix_view<E>& to) const noexcept {
    projection::store_rows<T>(from, part(to));
  }
  template <class Problem>
  row_matrix keys(const Problem& p, index_type h) const {
    return projection::rows_in<T>(p.k.head(batch, h / p.group()));
  }
  template <class Problem>
  row_matrix values(const Problem& p, index_type h) const {
    return projection::rows_in<T>(p.v.head(batch, h / p.group()));
  }

  /// Buffer 0: scale Q K^T.
  template <class Problem>
  void dot(const Problem& p) {
    for (index_type h = 0; h < heads_; ++h)
      head(0, h).noalias() = (p.scale * rows(p.q.head(batch, h))) * keys(p, h).transpose();
  }
  /// to_g = sum_h m(h, g) from_h.
  template <class M>
  void mix(const M& m, index_type from, index_type to) {
    if (from == to)
      all(to) = (m.transpose() * all(from)).eval();
    else
      all(to).noalias() = m.transpose() * all(from);
  }
  void copy(index_type from, index_type to) noexcept { std::copy_n(at(from), each_, at(to)); }

  /// Logits become weights, exactly 0 where hidden.
  template <class Problem>
  void softmax(const Problem& p, index_type buffer) noexcept {
    each_row(p, [&](const auto& rules, index_type h, index_type i) {
      T* const s = row(buffer, h, i);
      const V largest =
          kernel::apply_to_row<Arch>(rules, coverage::partial, queries.first + i, {0, keys_}, s);
      kernel::softmax_state<Arch, T, kernel::unit_of::natural> state{
          {kernel::max_over_lanes<Arch, T>(largest), V(T(0))}};
      V sum(T(0));
      for (index_type j = 0; j < width_; j += n) {
        const V weight = state.template probability<true>(V::load_aligned(s + j));
        weight.store_aligned(s + j), sum = sum + weight;
      }
      state.l = kernel::sum_over_lanes<Arch, T>(sum);
      const V factor = state.reciprocal();
      for (index_type j = 0; j < width_; j += n) (V::load_aligned(s + j) * factor).store_aligned(s + j);
    });
  }
  /// Gradients by weights become those by logits, of which `logits` has what scores were given:
  /// d L = U (d U - sum_j U d U) d score.
  template <class Problem>
  void softmax_backward(const Problem& p, index_type logits, index_type weights, index_type d) noexcept {
    each_row(p, [&](const auto& rules, index_type h, index_type i) {
      const T *const s = row(logits, h, i), *const u = row(weights, h, i);
      T* const to = row(d, h, i);
      const auto product = [&](index_type j) {
        const V w = V::load_aligned(u + j);
        return xsimd::select(w == V(T(0)), V(T(0)), w * V::load_aligned(to + j));
      };
      V sum(T(0));
      for (index_type j = 0; j < width_; j += n) sum = sum + product(j);
      const V delta = kernel::sum_over_lanes<Arch, T>(sum);
      for (index_type j = 0; j < width_; j += n) {
        const V w = V::load_aligned(u + j);
        V by_logit = product(j) - w * delta;
        if (j < keys_) {
          const kernel::cells<Arch, T, kernel::in_lanes::keys> here{queries.first + i, j, keys_ - j};
          by_logit = by_logit * rules.score_and_slope(V::load_aligned(s + j), here).second;
        }
        xsimd::select(w == V(T(0)), V(T(0)), by_logit).store_aligned(to + j);
      }
    });
  }
  /// 0 in place of what no head sees, where it may be a NaN.
  void clear_unseen(index_type weights, index_type buffer) noexcept {
    if (all(buffer).allFinite()) return;
    for (index_type i = 0; i < each_ / std::max<index_type>(heads_, 1); ++i)
      if ((all(weights).col(eigen_index(i)).array() == T(0)).all()) all(buffer).col(eigen_index(i)).setZero();
  }

 private:
  T* at(index_type buffer) noexcept { return first_ + buffer * each_; }
  T* row(index_type buffer, index_type h, index_type i) noexcept {
    return at(buffer) + (h * queries.size() + i) * width_;
  }
  template <class E>
  matrix_view<E> part(const matrix_view<E>& x) const noexcept {
    return {x.at(queries.first, 0), queries.size(), x.cols, x.row_stride, x.col_stride};
  }
  template <class Problem, class F>
  void each_row(const Problem& p, const F& f) const noexcept {
    for (index_type h = 0; h < heads_; ++h) {
      const auto rules = p.rules.bind(p.at(batch, h));
      for (index_type i = 0; i < queries.size(); ++i) f(rules, h, i);
    }
  }

  index_type heads_, keys_, width_, each_;
  std::vector<T> memory_;
  T* first_;
};

FOVEA_NAMESPACE_END
