// fovea/element/f32.hpp - float, as it is.
#pragma once

#include <fovea/element/concept.hpp>

FOVEA_NAMESPACE_BEGIN

template <>
struct element_traits<float> {
  using compute = float;
  FOVEA_INLINE static float load(float x) noexcept { return x; }
  FOVEA_INLINE static float store(float x) noexcept { return x; }
};

FOVEA_NAMESPACE_END
