// How far results are from what they should be, NaN included.
#pragma once

#include <Eigen/Core>

namespace fovea_test {

/// The largest absolute value of x: NaN where one is, which Eigen's own maxCoeff() passes over, and which is in
/// no bound.
template <class X>
auto max_abs(const Eigen::DenseBase<X>& x) {
  return x.derived().cwiseAbs().template maxCoeff<Eigen::PropagateNaN>();
}

}  // namespace fovea_test
