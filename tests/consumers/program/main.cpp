// Somebody's program: two keys with equal logits share the attention evenly.
#include <fovea/attention.hpp>

#include <cmath>
#include <cstdio>

int main() {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(3, 4), k = Eigen::MatrixXf::Random(2, 4);
  Eigen::MatrixXf v(2, 4);
  v << 1, 2, 3, 4, 5, 6, 7, 8;
  const Eigen::MatrixXf o = fovea::attention<float, 2>()(q, k, v);
  const bool good = std::abs(o(2, 0) - 3) < 1e-6f && std::abs(o(0, 3) - 6) < 1e-6f;
  std::printf("fovea %d.%d: %s\n", FOVEA_VERSION_MAJOR, FOVEA_VERSION_MINOR, good ? "good" : "bad");
  return good ? 0 : 1;
}
