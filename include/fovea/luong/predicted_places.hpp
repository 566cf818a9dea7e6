// fovea/luong/predicted_places.hpp - where a query of Luong's local-p attention looks, p = S sigmoid(v_p^T
// tanh(W_p h)), and back.
#pragma once

#include <fovea/projected/head_products.hpp>

FOVEA_NAMESPACE_BEGIN
namespace projection {

/// The places of the queries of one head of one sequence of S = `keys` keys, a row h each; w_p, v_p: the
/// head's.
template <class T>
struct predicted_places {
  using column = Eigen::Array<T, Eigen::Dynamic, 1>;
  row_matrix<T> hidden;  // tanh(W_p h)
  column places;
  T keys;

  predicted_places(const rows_ref<T>& h, const rows_ref<T>& w_p, const row_vector<T>& v_p,
                   index_type key_count)
      : hidden(product<T>(h, w_p, row_vector<T>())),
        keys(static_cast<T>(std::max<index_type>(key_count, 1))) {
    hidden = hidden.array().tanh();
    const column logits = (hidden * v_p.transpose()).array();
    places = static_cast<T>(key_count) / (1 + (-logits).exp());
  }

  /// Of the gradient by the places: d_v_p and d_w_p, added to, and returned what is by h.
  row_matrix<T> backward(const column& d_places, const rows_ref<T>& h, const rows_ref<T>& w_p,
                         const row_vector<T>& v_p, Eigen::Ref<row_matrix<T>, 0, Eigen::OuterStride<>> d_w_p,
                         Eigen::Ref<row_vector<T>> d_v_p) const {
    const Eigen::Matrix<T, Eigen::Dynamic, 1> d_logits = d_places * places * (1 - places / keys);
    d_v_p += d_logits.transpose() * hidden;
    row_vector<T> none;
    const row_matrix<T> d_sums = ((d_logits * v_p).array() * (1 - hidden.array().square())).matrix();
    return product_backward<T>(d_sums, h, w_p, d_w_p, none);
  }
};

}  // namespace projection
FOVEA_NAMESPACE_END
