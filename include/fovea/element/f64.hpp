// fovea/element/f64.hpp - double, as it is; all sums are then made in double.
#pragma once

#include <fovea/element/concept.hpp>

FOVEA_NAMESPACE_BEGIN

template <>
struct element_traits<double> {
  using compute = double;
  static double load(double x) noexcept { return x; }
  static double store(double x) noexcept { return x; }
};

FOVEA_NAMESPACE_END
