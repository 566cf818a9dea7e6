// One step of training of a layer: forward, backward.
#include <fovea/multi_head.hpp>

using Layer = fovea::multi_head<float, 8>;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Matrix step(const Layer& layer, const Matrix& x, const Matrix& wanted) {
  Layer::saved saved;
  auto gradient = layer.zero_gradient();
  const Matrix o = layer(x, saved, fovea::causal);
  return layer.backward(o - wanted, saved, gradient, fovea::causal).x;
}
