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

/// A register to contiguous elements, converted by instructions where there are some.
template <class Arch, class T, class E>
FOVEA_INLINE void store_register(const vec<Arch, T>& x, E* to) noexcept {
  if constexpr (std::is_same_v<T, E>) {
    x.store_unaligned(to);
  } else if constexpr (std::is_same_v<T, float> &&
                       requires { element_traits<E>::template store_lanes<isa<Arch>>(x, to); }) {
    element_traits<E>::template store_lanes<isa<Arch>>(x, to);
  } else {
    alignas(64) T part[lanes<Arch, T>];
    x.store_aligned(part);
    store_elements(part, index_type(lanes<Arch, T>), to, index_type(1));
  }
}

/// to[i * stride] = from[i], n numbers.
template <class Arch, class T, class E>
void store_row(const T* from, index_type n, E* to, index_type stride) noexcept {
  constexpr index_type at_once = lanes<Arch, T>;
  index_type i = 0;
  if (stride == 1)
    for (; i + at_once <= n; i += at_once)
      store_register<Arch, T>(vec<Arch, T>::load_unaligned(from + i), to + i);
  if (i < n) store_elements(from + i, n - i, to + i * stride, stride);
}

}  // namespace kernel
FOVEA_NAMESPACE_END
