// One causal call and its gradient.
#include <fovea/attention.hpp>

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void attend(Matrix& d_q, Matrix& d_k, Matrix& d_v, const Matrix& q, const Matrix& k, const Matrix& v,
            const Matrix& d_o) {
  const fovea::attention<float, 8> attend;
  const auto [o, lse] = attend.with_lse(q, k, v, fovea::causal);
  attend.backward_into(d_q, d_k, d_v, q, k, v, o, lse, d_o, fovea::causal);
}
