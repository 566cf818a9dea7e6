// fovea/hard/gumbel.hpp - noise that makes the largest logit a sample of the softmax.
//
// If G_j are independent with P(G < x) = exp(-exp(-x)), then argmax_j (s_j + G_j) is j with probability
// softmax(s)_j: Gumbel, "Statistical theory of extreme values", 1954; Maddison, Tarlow & Minka, "A*
// sampling", arXiv:1411.0030.
#pragma once

#include <fovea/kernel/arch/generic.hpp>
#include <fovea/roles/concept.hpp>
#include <fovea/score/dual.hpp>
#include <fovea/score/threefry.hpp>

#include <bit>
#include <numbers>
#include <type_traits>

FOVEA_NAMESPACE_BEGIN

/// The bits of an integer as a number of the same width: of one, or of SIMD batches, lane by lane.
template <class V, class I>
V number_with_bits(const I& bits) noexcept {
  if constexpr (std::is_arithmetic_v<V>)
    return std::bit_cast<V>(bits);
  else
    return kernel::bits_as<typename V::value_type>(bits);
}

template <class V>
inline constexpr bool in_float = sizeof(number_in<V>) == sizeof(float);

/// A word's upper 23 bits as a number from 0 on, below 1.
template <class V, class I>
V fraction_of(const I& word) noexcept {
  const I bits = (word >> 9) & I(0x7fffff);
  if constexpr (in_float<V>)
    return number_with_bits<V>(bits | I(0x3f800000)) - V(1);
  else
    return number_with_bits<V>((bits << 29) | I(0x3ff0000000000000)) - V(1);
}

/// 2 artanh(x) = ln((1 + x) / (1 - x)) for |x| <= 0.172, by its series.
template <class V>
V twice_artanh(const V& x) noexcept {
  constexpr int terms = in_float<V> ? 5 : 11;
  const V square = x * x;
  V sum(0);
  for (int n = terms - 1; n >= 0; --n) sum = sum * square + V(static_cast<number_in<V>>(2 / (2.0 * n + 1)));
  return sum * x;
}

/// ln x of normal numbers: x = 2^e m, m from sqrt(1/2) to sqrt(2). (xsimd 8's log does not compile at -O0 for
/// AVX-512.)
template <class V, class I>
V natural_logarithm(const V& x) noexcept {
  using T = number_in<V>;
  using word = kernel::position_t<T>;
  constexpr int digits = in_float<V> ? 23 : 52;
  constexpr word one = std::bit_cast<word>(T(1)), root = std::bit_cast<word>(std::numbers::sqrt2_v<T> / 2);
  constexpr T big = in_float<V> ? T(0x1p23) : T(0x1p52);
  const I bits = number_with_bits<I>(x) + I(one - root);
  const V exponent = number_with_bits<V>((bits >> digits) | I(std::bit_cast<word>(big))) -
                     V(big + T(in_float<V> ? 127 : 1023));
  const V m = number_with_bits<V>((bits & I((word(1) << digits) - 1)) + I(root));
  return exponent * V(std::numbers::ln2_v<T>) + twice_artanh((m - V(1)) / (m + V(1)));
}

/// One head's noise: a function of the seed, the sequence's number, the head and the two positions.
struct gumbel_noise {
  std::uint32_t key0, key1;

  /// G = -ln E, E = -ln(1 - u): u has 46 bits and is fine near 0, where the largest G come from; G lies
  /// between -2.9 and 32.7.
  template <class V, class I>
  V at(const I& query, const I& key) const noexcept {
    using std::min;
    using T = number_in<V>;
    const auto [upper, lower] = threefry<I>(key0, key1, query, key);
    const V fine = fraction_of<V>(upper) + (fraction_of<V>(lower) + V(T(0x1p-24))) * V(T(0x1p-23));
    const V u = min(fine, V(T(1 - 0x1p-24)));
    const V e = choose(u < V(T(0.25)), twice_artanh(u / (V(2) - u)), -natural_logarithm<V, I>(V(1) - u));
    return -natural_logarithm<V, I>(e);
  }
};

FOVEA_NAMESPACE_END
