// fovea/multi_head/products.hpp - products of tokens with weights, forward and backward, and blocks of their
// results.
#pragma once

#include <fovea/multi_head/token_rows.hpp>

FOVEA_NAMESPACE_BEGIN
namespace projection {

/// Some columns of m, const where m is.
template <class M>
auto columns(M& m, index_type first, index_type count) {
  return Eigen::Map<M, 0, Eigen::OuterStride<>>(m.size() > 0 ? m.data() + first : m.data(), m.rows(),
                                                eigen_index(count), Eigen::OuterStride<>(m.cols()));
}

/// Columns [q | k | v] of one matrix, or [q] of one and [k | v] of another.
template <class Block>
struct parts {
  Block q, k, v;
};

// The three products take references to rows, whatever matrix or block these are: each is compiled once an
// element (a step of training compiled for as long again with one for each type of operand).
template <class T>
using row_matrix = typename token_rows<T>::matrix;
template <class T>
using rows_ref = typename token_rows<T>::rows_ref;
template <class T>
using row_vector = Eigen::Matrix<T, 1, Eigen::Dynamic, Eigen::RowMajor>;

/// y = x W^T + b, b perhaps empty.
template <class T>
row_matrix<T> product(const rows_ref<T>& x, const rows_ref<T>& w, const Eigen::Ref<const row_vector<T>>& b) {
  row_matrix<T> y(x.rows(), w.rows());
  y.noalias() = x * w.transpose();
  if (b.size() > 0) y.rowwise() += b;
  return y;
}

/// d_x = d_y W
template <class T>
row_matrix<T> input_gradient(const rows_ref<T>& d_y, const rows_ref<T>& w) {
  row_matrix<T> d_x(d_y.rows(), w.cols());
  d_x.noalias() = d_y * w;
  return d_x;
}

/// d_W += d_y^T x   d_b += sum of the rows of d_y
template <class T>
void add_weight_gradient(const rows_ref<T>& d_y, const rows_ref<T>& x,
                         Eigen::Ref<row_matrix<T>, 0, Eigen::OuterStride<>> d_w,
                         Eigen::Ref<row_vector<T>> d_b) {
  d_w.noalias() += d_y.transpose() * x;
  if (d_b.size() > 0) d_b += d_y.colwise().sum();
}

/// Both; returns d_x.
template <class T>
row_matrix<T> product_backward(const rows_ref<T>& d_y, const rows_ref<T>& x, const rows_ref<T>& w,
                               Eigen::Ref<row_matrix<T>, 0, Eigen::OuterStride<>> d_w,
                               Eigen::Ref<row_vector<T>> d_b) {
  add_weight_gradient<T>(d_y, x, d_w, d_b);
  return input_gradient<T>(d_y, w);
}

#ifdef FOVEA_EXTERN_KERNELS  // see kernels.hpp
FOVEA_KERNEL row_matrix<float> product<float>(const rows_ref<float>&, const rows_ref<float>&,
                                              const Eigen::Ref<const row_vector<float>>&);
FOVEA_KERNEL row_matrix<float> input_gradient<float>(const rows_ref<float>&, const rows_ref<float>&);
FOVEA_KERNEL void add_weight_gradient<float>(const rows_ref<float>&, const rows_ref<float>&,
                                             Eigen::Ref<row_matrix<float>, 0, Eigen::OuterStride<>>,
                                             Eigen::Ref<row_vector<float>>);
#endif

}  // namespace projection
FOVEA_NAMESPACE_END
