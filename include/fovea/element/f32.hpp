// fovea/element/f32.hpp - float, as it is.
#pragma once

#include <fovea/element/concept.hpp>

FOVEA_NAMESPACE_BEGIN

template <>
struct element_traits<float> {
  using compute = float;
  static float load(float x) noexcept { return x; }
  static float store(float x) noexcept { return x; }
};

FOVEA_NAMESPACE_END
