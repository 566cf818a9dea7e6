// fovea/element/concept.hpp - WHAT an element is: its storage type, and the type that sums are made in.
#pragma once

#include <fovea/index.hpp>

#include <limits>
#include <type_traits>

FOVEA_NAMESPACE_BEGIN

/// A storage type E is an element where element_traits<E> has
///   compute                      float or double: what it is converted to before anything is computed
///   load(E) -> compute           exact
///   store(compute) -> E          round to nearest, ties to even; without it, E is only read (of a cache)
///   load_lanes<Isa>(const E*)    a register of float from contiguous E, where compute is float
///   store_lanes<Isa>(x, E*)      the reverse, as store rounds; without it lane by lane
/// A type of your own specialises element_traits before the first call. Where query rows are few, keys and
/// values are converted as they are read: a register at a time by load_lanes, without it lane by lane, which
/// takes 6 times as long (2.7 ms, not 0.42, for one query, 32/8 heads x 2048 keys x 128 of the type below;
/// Zen 4, AVX-512). Isa stands for the instruction set that is compiled for. It has load_bf16(from),
/// load_fp16(from) and load_int8(from): a register of float, an xsimd batch, from as many contiguous values
/// as it has lanes (its ::size). What is stored in other bits is brought to those first; or the batch is
/// calculated with. So the upper half of an fp16, 5 bits of exponent and 2 of fraction
/// (tests/element/own_element_test.cpp compiles this):
///
///   struct fp8 {
///     std::uint8_t bits;
///   };
///   template <>
///   struct fovea::element_traits<fp8> {
///     using compute = float;
///     static float load(fp8 x) noexcept {
///       return std::bit_cast<fovea::fp16>(static_cast<std::uint16_t>(x.bits << 8));
///     }
///     template <class Isa>
///     static auto load_lanes(const fp8* from) noexcept {
///       std::uint16_t wide[decltype(Isa::load_fp16(from))::size];
///       for (std::size_t i = 0; i < std::size(wide); ++i)
///         wide[i] = static_cast<std::uint16_t>(from[i].bits << 8);
///       return Isa::load_fp16(wide);
///     }
///   };
template <class E>
struct element_traits {};

template <class E>
concept element = requires { typename element_traits<std::remove_cv_t<E>>::compute; };

/// Elements whose 16 bits are those of bfloat16: element_traits says so by `is_bf16`.
template <class E>
concept bf16_element = requires { requires element_traits<std::remove_cv_t<E>>::is_bf16; };

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
