// fovea/projected/head_products.hpp - products of each head's rows with a matrix of its own, forward and
// backward.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/multi_head/products.hpp>
#include <fovea/plan/operands.hpp>

FOVEA_NAMESPACE_BEGIN
namespace projection {

/// Rows of a head, whatever their elements and strides, as a matrix of T; and back.
template <class T, class E>
row_matrix<T> rows_in(const matrix_view<E>& x) {
  row_matrix<T> rows(eigen_index(x.rows), eigen_index(x.cols));
  for (index_type i = 0; i < x.rows; ++i)
    load_elements(x.data + i * x.row_stride, x.col_stride, x.cols, rows.data() + i * x.cols);
  return rows;
}
template <class T, class E>
void store_rows(const row_matrix<T>& rows, const matrix_view<E>& to) noexcept {
  for (index_type i = 0; i < to.rows; ++i)
    store_elements(rows.data() + i * to.cols, to.cols, to.data + i * to.row_stride, to.col_stride);
}

/// The rows of a matrix, or the columns of a row, that are head number `head`'s.
template <class M>
auto of_head(M& m, index_type head, index_type each) {
  return m.middleRows(eigen_index(head * each), eigen_index(each));
}
template <class R>
auto columns_of_head(R& r, index_type head, index_type each) {
  return r.segment(eigen_index(r.size() == 0 ? 0 : head * each), eigen_index(r.size() == 0 ? 0 : each));
}

/// z = x W^T + b for each head and sequence; w: heads * z.dim() rows of x.dim(), b: heads * z.dim() or empty.
template <class T, class E>
void project_heads(const sequences<E>& x, const row_matrix<T>& w, const row_vector<T>& b,
                   const sequences<T>& z) {
  for (index_type s = 0; s < x.batches(); ++s)
    for (index_type h = 0; h < x.heads(); ++h)
      store_rows<T>(
          product<T>(rows_in<T>(x.head(s, h)), of_head(w, h, z.dim()), columns_of_head(b, h, z.dim())),
          z.head(s, h));
}

/// z = x W^T + b of each head, `dim` columns, of the kind of x, whose dimensions are `width` or it is
/// refused: `of` says whose option `option` that is, `name` what x is. Rows of no sequence are 0.
template <class T, class X>
auto projected(const X& x, const char* name, index_type heads, const char* of, const char* option,
               index_type width, const row_matrix<T>& w, const row_vector<T>& b, index_type dim) {
  const auto rows = read_only(view_of(x, heads, name));
  if (rows.dim() != width)
    reject(name, " has ", rows.dim(), " dimensions a head but ", of, "'s ", option, " is ", width);
  auto z = make_like<T>(x, heads, dim);
  std::fill_n(z.data(), z.size(), T(0));
  auto&& like_x = shaped_like(x, z);
  project_heads<T>(rows, w, b, view_of(like_x, heads, name));
  return z;
}

/// x, its rows 0 where those of d are: what passes no gradient on reaches no parameter, not even as a NaN.
template <class T>
row_matrix<T> rows_with_gradient(row_matrix<T> x, const row_matrix<T>& d) {
  for (Eigen::Index i = 0; i < x.rows(); ++i)
    if ((d.row(i).array() == T(0)).all()) x.row(i).setZero();
  return x;
}

/// Of the gradient by z: d_W += d_z^T x, d_b += sum of d_z; and d_x = d_z W.
template <class T, class E, class D>
void project_heads_backward(const sequences<const T>& d_z, const sequences<E>& x, const row_matrix<T>& w,
                            row_matrix<T>& d_w, row_vector<T>& d_b, const sequences<D>& d_x) {
  for (index_type s = 0; s < x.batches(); ++s)
    for (index_type h = 0; h < x.heads(); ++h) {
      const index_type dim = d_z.dim();
      const row_matrix<T> d = rows_in<T>(d_z.head(s, h));
      store_rows<T>(
          product_backward<T>(d, rows_with_gradient<T>(rows_in<T>(x.head(s, h)), d), of_head(w, h, dim),
                              of_head(d_w, h, dim), columns_of_head(d_b, h, dim)),
          d_x.head(s, h));
    }
}

/// The same, of what projected() was given and d_z, which is like its result; d_x is like x.
template <class T, class X, class DZ, class DX>
void projected_backward(const X& x, index_type heads, DZ& d_z, const row_matrix<T>& w, row_matrix<T>& d_w,
                        row_vector<T>& d_b, DX& d_x) {
  auto&& d_z_like_x = shaped_like(x, d_z);
  auto&& d_x_like_x = shaped_like(x, d_x);
  const auto to = view_of(d_x_like_x, heads, "d_x");
  fill_rows_of_none(to);
  project_heads_backward<T>(read_only(view_of(d_z_like_x, heads, "d_z")), read_only(view_of(x, heads, "x")),
                            w, d_w, d_b, to);
}

}  // namespace projection
FOVEA_NAMESPACE_END
