// fovea/feature_attention/backward.hpp - the gradients of attention by products of features, some tokens at
// a time.
//
//   N_i = phi(q_i) S, S of [v_j, 1]: its last column z is the normaliser      o = N / (z + epsilon)
//   d_N = d_o / (z + epsilon),  d_z = -(d_o . o) / (z + epsilon),  and by q, k and v those of N
//
// Causal ones need the state before each block, which are made first and kept: at most 64 of them.
#pragma once

#include <fovea/feature_attention/mapped_head.hpp>

FOVEA_NAMESPACE_BEGIN
namespace features {

/// A key/value head of a sequence with its query heads.
template <class Arch, class Call, class Features>
class backward_head : mapped_head<Arch, Call, Features> {
  using base = mapped_head<Arch, Call, Features>;
  using base::map_queries;
  using base::n, base::c_, base::features_, base::b_, base::h_, base::group_, base::d_, base::step_,
      base::block_, base::q_, base::k_;
  using typename base::T, typename base::R, typename base::matrix;
  static constexpr index_type least_block = 512, most_states = 64;

 public:
  backward_head(const Call& c, const Features& f, index_type job)
      : base(c, f, job, block_of(c, job / c.k.heads())),
        width_(c.v.dim() + 1),
        v_(block_, width_),
        sums_(group_ * block_, width_),
        by_q_(group_ * block_, step_),
        by_k_(block_, step_),
        by_v_(block_, width_) {}

  template <class G, class DQ, class DK, class DV>
  void run(const sequences<const G>& d_out, const sequences<DQ>& d_q, const sequences<DK>& d_k,
           const sequences<DV>& d_v) {
    c_.is_causal ? run_causal(d_out, d_q, d_k, d_v) : run_all(d_out, d_q, d_k, d_v);
  }

 private:
  static index_type block_of(const Call& c, index_type b) noexcept {
    const index_type tokens = std::max(c.q.tokens(b), c.k.tokens(b));
    return std::min(tokens, std::max(least_block, c.is_causal ? ceil_div(tokens, most_states) : 0));
  }

  template <class G, class DQ, class DK, class DV>
  void run_causal(const sequences<const G>& d_out, const sequences<DQ>& d_q, const sequences<DK>& d_k,
                  const sequences<DV>& d_v) {
    const index_type tokens = c_.k.tokens(b_), blocks = tokens == 0 ? 0 : ceil_div(tokens, block_);
    const linear_attention<T, dynamic_heads, dynamic_heads, Arch> attend(
        {.scale = 1, .heads = group_, .kv_heads = 1});
    std::vector<matrix> states(static_cast<std::size_t>(blocks), matrix::Zero(d_, width_));
    for (index_type i = 0; i + 1 < blocks; ++i) {
      map_keys(i * block_, block_);
      states[static_cast<std::size_t>(i + 1)] = states[static_cast<std::size_t>(i)];
      states[static_cast<std::size_t>(i + 1)].noalias() += k_.leftCols(d_).transpose() * v_;
    }
    matrix d_state = matrix::Zero(d_, width_), state;
    for (index_type i = blocks - 1; i >= 0; --i) {
      const index_type first = i * block_, count = std::min(block_, tokens - first);
      map_keys(first, count), map_queries(first, count);
      state = states[static_cast<std::size_t>(i)];
      const auto queries = rows_of(q_, count, d_), sums = rows_of(sums_, count, width_);
      const auto keys = rows_of(k_, count, d_, 1), values = rows_of(v_, count, width_, 1);
      attend.into(sums, queries, keys, values, linear_state(view(state)));
      for (index_type g = 0; g < group_; ++g) differentiate_rows(d_out, g, first, count);
      attend.backward_into(rows_of(by_q_, count, d_), rows_of(by_k_, count, d_, 1),
                           rows_of(by_v_, count, width_, 1), queries, keys, values, sums,
                           linear_state(view(states[static_cast<std::size_t>(i)]), view(d_state)));
      for (index_type g = 0; g < group_; ++g) store_queries(d_q, g, first, count);
      store_keys(d_k, d_v, first, count);
    }
  }

  template <class G, class DQ, class DK, class DV>
  void run_all(const sequences<const G>& d_out, const sequences<DQ>& d_q, const sequences<DK>& d_k,
               const sequences<DV>& d_v) {
    matrix state = matrix::Zero(d_, width_), d_state = matrix::Zero(d_, width_);
    const index_type keys = c_.k.tokens(b_), queries = c_.q.tokens(b_);
    if (keys == 0) return clear_queries(d_q);
    for (index_type first = 0; first < keys; first += block_) {
      const index_type count = std::min(block_, keys - first);
      map_keys(first, count);
      state.noalias() += k_.block(0, 0, count, d_).transpose() * v_.topRows(count);
    }
    for (index_type first = 0; first < queries; first += block_) {
      const index_type count = std::min(block_, queries - first);
      map_queries(first, count);
      for (index_type g = 0; g < group_; ++g) {
        const auto rows = q_.block(g * block_, 0, count, d_);
        sums_.middleRows(g * block_, count).noalias() = rows * state;
        differentiate_rows(d_out, g, first, count);
        d_state.noalias() += rows.transpose() * sums_.middleRows(g * block_, count);
        by_q_.block(g * block_, 0, count, d_).noalias() =
            sums_.middleRows(g * block_, count) * state.transpose();
        store_queries(d_q, g, first, count);
      }
    }
    for (index_type first = 0; first < keys; first += block_) {
      const index_type count = std::min(block_, keys - first);
      map_keys(first, count);
      by_k_.block(0, 0, count, d_).noalias() = v_.topRows(count) * d_state.transpose();
      by_v_.topRows(count).noalias() = k_.block(0, 0, count, d_) * d_state;
      store_keys(d_k, d_v, first, count);
    }
  }

  /// And values with a column of ones.
  void map_keys(index_type first, index_type count) {
    base::map_keys(first, count);
    const auto values = c_.v.head(b_, h_);
    for (index_type t = 0; t < count; ++t) {
      load_elements(values.at(first + t), values.col_stride, width_ - 1, v_.row(t).data());
      v_(t, width_ - 1) = T(1);
    }
  }

  /// The gradient by N in place of N, of query head g of the group. Where the normaliser is 0 (no weight, no
  /// epsilon), O is 0 and stays 0 nearby: gradients are 0, or NaN where N or d_o is.
  template <class G>
  void differentiate_rows(const sequences<const G>& d_out, index_type g, index_type first, index_type count) {
    const auto from = d_out.head(b_, h_ * group_ + g);
    const index_type dv = width_ - 1;
    T* const row = by_v_.data();  // which nobody needs yet
    for (index_type t = 0; t < count; ++t) {
      load_elements(from.at(first + t), from.col_stride, dv, row);
      T* const sum = sums_.row(g * block_ + t).data();
      const T norm = sum[dv] + static_cast<T>(c_.epsilon);
      T product = 0;
      if (norm == T(0)) {
        for (index_type c = 0; c < dv; ++c) sum[c] *= row[c];
        sum[dv] = 0;
        continue;
      }
      for (index_type c = 0; c < dv; ++c) product += row[c] * sum[c] / norm, sum[c] = row[c] / norm;
      sum[dv] = -product / norm;
    }
  }

  /// Gradients of queries that see no key: 0, whatever q and d_o are.
  template <class D>
  void clear_queries(const sequences<D>& d_q) {
    by_q_.setZero();
    for (index_type g = 0; g < group_; ++g) {
      const auto to = d_q.head(b_, h_ * group_ + g);
      for (index_type t = 0; t < c_.q.tokens(b_); ++t)
        store_elements(static_cast<const T*>(by_q_.data()), d_, to.at(t), to.col_stride);
    }
  }
  template <class D>
  void store_queries(const sequences<D>& d_q, index_type g, index_type first, index_type count) {
    unmap(c_.q.head(b_, h_ * group_ + g), first, count, by_q_.row(g * block_).data(),
          d_q.head(b_, h_ * group_ + g));
  }
  template <class DK, class DV>
  void store_keys(const sequences<DK>& d_k, const sequences<DV>& d_v, index_type first, index_type count) {
    unmap(c_.k.head(b_, h_), first, count, by_k_.data(), d_k.head(b_, h_));
    const auto to = d_v.head(b_, h_);
    for (index_type t = 0; t < count; ++t)
      store_elements(static_cast<const T*>(by_v_.row(t).data()), width_ - 1, to.at(first + t), to.col_stride);
  }
  /// Gradients by x from those by phi(x), `by`.
  template <class E, class D>
  void unmap(const matrix_view<E>& x, index_type first, index_type count, T* by, const matrix_view<D>& to) {
    T* const row = q_.data();  // q's features are not needed any more, nor are those of k
    for (index_type t = 0; t < count; ++t, by += step_) {
      load_elements(x.at(first + t), x.col_stride, d_, row);
      std::fill(row + d_, row + step_, T(0));
      for (index_type c = 0; c < step_; c += n) {
        const dual<R> at = features_(dual<R>(R::load_unaligned(row + c), R(T(1))));
        (at.slope * R::load_unaligned(by + c)).store_unaligned(by + c);
      }
      store_elements(static_cast<const T*>(by), d_, to.at(first + t), to.col_stride);
    }
  }

  /// The first `count` rows of each of `heads` blocks, all of the group unless it is said.
  auto rows_of(matrix& m, index_type count, index_type dim, index_type heads = 0) const {
    return tensor_view<T>{m.data(), 1, heads == 0 ? group_ : heads, count, dim, 0, block_ * m.cols(),
                          m.cols(), 1};
  }
  auto view(matrix& state) const { return tensor_view<T>{state.data(), 1, 1, d_, width_, 0, 0, width_, 1}; }

  index_type width_;
  matrix v_, sums_, by_q_, by_k_, by_v_;
};

}  // namespace features
FOVEA_NAMESPACE_END
