#include <fovea/attention.hpp>

int main() {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(2, 8), k = q, v = Eigen::MatrixXf::Ones(2, 8);
  const Eigen::MatrixXf o = fovea::attention<float, 2>()(q, k, v, fovea::causal);
  return o.isApproxToConstant(1.0f) ? 0 : 1;
}
