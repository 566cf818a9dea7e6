// fovea/element/concept.hpp - WHAT an element is: its storage type, and the type that sums are made in.
#pragma once

#include <fovea/index.hpp>

#include <limits>
#include <type_traits>

FOVEA_NAMESPACE_BEGIN

/// A storage type E is an element where element_traits<E> has
///   compute                   float or double: what it is converted to before anything is computed
///   load(E) -> compute        exact
///   store(compute) -> E       round to nearest, ties to even; without it, E is only read (of a cache)
///   load_lanes<Isa>(const E*) a register of float from contiguous E: for types that instructions convert
template <class E>
struct element_traits {};

template <class E>
concept element = requires { typename element_traits<std::remove_cv_t<E>>::compute; };

template <element E>
using compute_t = typename element_traits<std::remove_cv_t<E>>::compute;

/// The wider of the compute types of several elements.
template <element... E>
using common_compute_t = std::conditional_t<(std::is_same_v<compute_t<E>, double> || ...), double, float>;

template <class T, element E>
T load_element(const E& x) noexcept {
  return static_cast<T>(element_traits<std::remove_cv_t<E>>::load(x));
}

template <element E, class T>
E store_element(T x) noexcept {
  return element_traits<E>::store(static_cast<compute_t<E>>(x));
}

/// dst[i] = src[i * stride], n elements: plain loops, which compilers vectorise where stride is 1.
template <class T, element E>
void load_elements(const E* src, index_type stride, index_type n, T* FOVEA_RESTRICT dst) noexcept {
  if (stride == 1)
    for (index_type i = 0; i < n; ++i) dst[i] = load_element<T>(src[i]);
  else
    for (index_type i = 0; i < n; ++i) dst[i] = load_element<T>(src[i * stride]);
}

template <class T, element E>
void store_elements(const T* FOVEA_RESTRICT src, index_type n, E* dst, index_type stride) noexcept {
  if (stride == 1)
    for (index_type i = 0; i < n; ++i) dst[i] = store_element<E>(src[i]);
  else
    for (index_type i = 0; i < n; ++i) dst[i * stride] = store_element<E>(src[i]);
}

FOVEA_NAMESPACE_END
