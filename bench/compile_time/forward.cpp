// One causal call.
#include <fovea/attention.hpp>

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void attend(Matrix& o, const Matrix& q, const Matrix& k, const Matrix& v) {
  const fovea::attention<float, 8> attend;
  attend.into(o, q, k, v, fovea::causal);
}
