// fovea/kernel/tile/load_store.hpp - registers from elements, and elements from registers.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/kernel/arch.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// A register of T from contiguous elements, converted by an instruction where there is one.
template <class Arch, class T, class E>
FOVEA_INLINE vec<Arch, T> load_lanes(const E* from) noexcept {
  if constexpr (std::is_same_v<T, E>) {
    return vec<Arch, T>::load_unaligned(from);
  } else if constexpr (std::is_same_v<T, float> &&
                       requires { element_traits<E>::template load_lanes<isa<Arch>>(from); }) {
    return element_traits<E>::template load_lanes<isa<Arch>>(from);
  } else {
    alignas(64) T value[lanes<Arch, T>];
    for (int i = 0; i < lanes<Arch, T>; ++i) value[i] = load_element<T>(from[i]);
    return vec<Arch, T>::load_aligned(value);
  }
}

/// A register to contiguous elements.
template <class Arch, class T, class E>
FOVEA_INLINE void store_register(const vec<Arch, T>& x, E* to) noexcept {
  if constexpr (std::is_same_v<T, E>) {
    x.store_unaligned(to);
  } else {
    alignas(64) T part[lanes<Arch, T>];
    x.store_aligned(part);
    store_elements(part, index_type(lanes<Arch, T>), to, index_type(1));
  }
}

}  // namespace kernel
FOVEA_NAMESPACE_END
