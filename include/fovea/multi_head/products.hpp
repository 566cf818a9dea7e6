// fovea/multi_head/products.hpp - products of tokens with weights, forward and backward, and blocks of their
// results.
#pragma once

#include <fovea/view/eigen.hpp>

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

/// y = x W^T + b, b perhaps empty.
template <class X, class W, class B>
auto product(const X& x, const W& w, const B& b) {
  Eigen::Matrix<typename X::Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> y(x.rows(), w.rows());
  y.noalias() = x * w.transpose();
  if (b.size() > 0) y.rowwise() += b;
  return y;
}

/// d_W += d_y^T x   d_b += sum of the rows of d_y; returns d_x = d_y W.
template <class D, class X, class W, class DW, class DB>
auto product_backward(const D& d_y, const X& x, const W& w, DW&& d_w, DB&& d_b) {
  d_w.noalias() += d_y.transpose() * x;
  if (d_b.size() > 0) d_b += d_y.colwise().sum();
  Eigen::Matrix<typename X::Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> d_x(d_y.rows(),
                                                                                         w.cols());
  d_x.noalias() = d_y * w;
  return d_x;
}

}  // namespace projection
FOVEA_NAMESPACE_END
