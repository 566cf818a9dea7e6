// fovea/luong/location_rows.hpp - the keys of attention by location: rows of a matrix, s_t = W_a h_t.
#pragma once

#include <fovea/projected/head_products.hpp>

FOVEA_NAMESPACE_BEGIN
namespace projection {

/// For each head and sequence the first rows of the head's `positions` of w, as many as k has tokens.
template <class T, class K>
auto location_rows(const K& k, index_type heads, const row_matrix<T>& w, index_type positions) {
  auto rows = make_like<T>(k, heads, w.cols());
  auto&& like_k = shaped_like(k, rows);
  const auto to = view_of(like_k, heads, "k");
  for (index_type b = 0; b < to.batches(); ++b) {
    if (to.tokens(b) > positions)
      reject("k has ", to.tokens(b), " tokens but luong's positions is ", positions);
    for (index_type h = 0; h < heads; ++h)
      store_rows<T>(w.middleRows(eigen_index(h * positions), eigen_index(to.tokens(b))), to.head(b, h));
  }
  return rows;
}

/// d_w += the gradient by what location_rows gave, d.
template <class T, class K, class D>
void add_location_gradient(const K& k, index_type heads, D& d, row_matrix<T>& d_w, index_type positions) {
  auto&& like_k = shaped_like(k, d);
  const auto from = read_only(view_of(like_k, heads, "d_w"));
  for (index_type b = 0; b < from.batches(); ++b)
    for (index_type h = 0; h < heads; ++h)
      d_w.middleRows(eigen_index(h * positions), eigen_index(from.tokens(b))) += rows_in<T>(from.head(b, h));
}

}  // namespace projection
FOVEA_NAMESPACE_END
