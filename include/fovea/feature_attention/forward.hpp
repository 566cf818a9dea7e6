// fovea/feature_attention/forward.hpp - attention by products of features, some tokens at a time.
#pragma once

#include <fovea/feature_attention/mapped_head.hpp>

#include <limits>

FOVEA_NAMESPACE_BEGIN
namespace features {

/// A key/value head of a sequence with its query heads, forward, some tokens at a time: their features are
/// made in memory of its own, values are read where they lie, 512 tokens a call of linear attention, 128 a
/// product of Eigen's (fewer took longer, of Eigen's more as well). The normaliser phi(q) . sum phi(k) is a
/// product of vectors. (Values with a column of ones, whose results it then is, are a copy of a width that
/// fits no registers: twice the time.)
template <class Arch, class Call, class Features>
class forward_head : mapped_head<Arch, Call, Features> {
  using base = mapped_head<Arch, Call, Features>;
  using base::map_keys, base::map_queries;
  using base::n, base::c_, base::b_, base::h_, base::group_, base::d_, base::step_, base::q_, base::k_;
  using typename base::T, typename base::R, typename base::matrix;
  static constexpr index_type block = 512, a_product = 128, a_sum = 32;

 public:
  forward_head(const Call& c, const Features& f, index_type job)
      : base(c, f, job, block), dv_(c.v.dim()), o_(group_ * block, dv_), sums_(3, step_) {
    sums_.setZero();
  }

  template <class O>
  void run(const sequences<O>& out) {
    c_.is_causal ? run_causal(out) : run_all(out);
  }

 private:
  template <class O>
  void run_causal(const sequences<O>& out) {
    tensor<T> state(1, 1, d_, dv_);
    const linear_attention<T, dynamic_heads, dynamic_heads, Arch> attend(
        {.scale = 1, .heads = group_, .kv_heads = 1});
    const index_type tokens = c_.k.tokens(b_);
    for (index_type first = 0; first < tokens; first += block) {
      const index_type count = std::min(block, tokens - first);
      map_keys(first, count), map_queries(first, count);
      attend.into(tensor_view<T>{o_.data(), 1, group_, count, dv_, 0, block * dv_, dv_, 1},
                  tensor_view<const T>{q_.data(), 1, group_, count, d_, 0, block * step_, step_, 1},
                  tensor_view<const T>{k_.data(), 1, 1, count, d_, 0, 0, step_, 1}, values(first, count),
                  linear_state(state));
      for (index_type t = 0; t < count; ++t) {
        add_key(t, first + t);
        for (index_type g = 0; g < group_; ++g) write(out, g, first, t);
      }
    }
  }

  template <class O>
  void run_all(const sequences<O>& out) {
    matrix state = matrix::Zero(d_, dv_), v(a_product, dv_);
    const index_type keys = c_.k.tokens(b_), queries = c_.q.tokens(b_);
    const auto rows = c_.v.head(b_, h_);
    for (index_type first = 0; first < keys; first += a_product) {
      const index_type count = std::min(a_product, keys - first);
      map_keys(first, count);
      for (index_type t = 0; t < count; ++t) {
        add_key(t, first + t);
        load_elements(rows.at(first + t), rows.col_stride, dv_, v.row(t).data());
      }
      state.noalias() += k_.block(0, 0, count, d_).transpose() * v.topRows(count);
    }
    for (index_type first = 0; first < queries; first += a_product) {
      const index_type count = std::min(a_product, queries - first);
      if (keys == 0)  // O is 0, whatever q is
        q_.setZero();
      else
        map_queries(first, count);
      for (index_type g = 0; g < group_; ++g) {
        o_.middleRows(g * block, count).noalias() = q_.block(g * block, 0, count, d_) * state;
        for (index_type t = 0; t < count; ++t) write(out, g, first, t);
      }
    }
  }

  auto values(index_type first, index_type count) const {
    const auto rows = c_.v.head(b_, h_);
    return tensor_view<std::remove_pointer_t<decltype(rows.data)>>{
        rows.at(first), 1, 1, count, dv_, 0, 0, rows.row_stride, rows.col_stride};
  }

  /// Row 0 of the sums becomes that of all keys up to `key`, row t of the block. Sums of 32 (row 2) are added
  /// to what is before them (row 1), so that few bits are lost where keys are many.
  void add_key(index_type t, index_type key) {
    T *const all = sums_.row(0).data(), *const before = sums_.row(1).data(),
             *const some = sums_.row(2).data();
    const bool full = key % a_sum == a_sum - 1;
    for (index_type c = 0; c < step_; c += n) {
      const R sum = R::load_unaligned(some + c) + R::load_unaligned(k_.row(t).data() + c);
      const R total = R::load_unaligned(before + c) + sum;
      total.store_unaligned(all + c);
      if (full) total.store_unaligned(before + c);
      (full ? R(T(0)) : sum).store_unaligned(some + c);
    }
  }

  /// O of query head g of the group at token t of the block.
  template <class O>
  void write(const sequences<O>& out, index_type g, index_type first, index_type t) {
    const T* const q = q_.row(g * block + t).data();
    T* const o = o_.row(g * block + t).data();
    R products(T(0));
    index_type c = 0;
    for (; c + n <= d_; c += n)
      products = kernel::isa<Arch>::fma(R::load_unaligned(q + c), R::load_unaligned(sums_.row(0).data() + c),
                                        products);
    T norm = static_cast<T>(c_.epsilon) + linear::total<Arch, T>(products);
    for (; c < d_; ++c) norm += q[c] * sums_(0, c);
    if (norm == T(0)) norm = std::numeric_limits<T>::min();  // no weight, no epsilon: 0 stays 0, NaN NaN
    for (index_type column = 0; column < dv_; ++column) o[column] /= norm;
    const auto to = out.head(b_, h_ * group_ + g);
    store_elements(static_cast<const T*>(o), dv_, to.at(first + t), to.col_stride);
  }

  index_type dv_;
  matrix o_, sums_;
};

}  // namespace features
FOVEA_NAMESPACE_END
