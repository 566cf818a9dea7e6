// fovea/element/int8.hpp - the integers -127 to 127 that a cache stores keys and values as, beside scales.
#pragma once

#include <fovea/element/concept.hpp>

#include <cstdint>

FOVEA_NAMESPACE_BEGIN

/// Read only: what an integer stands for is known to who wrote its scale (kv_cache/store.hpp).
template <>
struct element_traits<std::int8_t> {
  using compute = float;
  static float load(std::int8_t x) noexcept { return static_cast<float>(x); }
  template <class Isa>
  static auto load_lanes(const std::int8_t* from) noexcept {
    return Isa::load_int8(from);
  }
};

FOVEA_NAMESPACE_END
