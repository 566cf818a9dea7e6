// fovea/position/frequencies.hpp - how fast each pair of dimensions turns: what a rotary table is made from.
#pragma once

#include <fovea/index.hpp>

#include <cmath>
#include <vector>

FOVEA_NAMESPACE_BEGIN

/// Pair i turns by values[i] a position (radians); `magnitude` is what cosines and sines are multiplied by
/// (YaRN's and LongRoPE's attention factor: queries and keys both have it, logits its square).
///
/// Where tokens have several coordinates (a picture's row and column; M-RoPE's time, height and width), pair
/// i turns with coordinate axes[i]; empty: all with the first. A plain value: numbers of one's own go in as
/// well as those of the scalings beside this file.
struct rotary_frequencies {
  std::vector<double> values;
  std::vector<index_type> axes = {};
  double magnitude = 1;
};

namespace position {

/// Whether x is a finite number above 0.
template <int = 0>
FOVEA_COLD static void check_positive(const char* owner, const char* what, double x) {
  if (!is_finite(x) || !(x > 0)) reject(owner, "'s ", what, " is ", x, ", not a finite number above 0");
}

template <int = 0>
FOVEA_COLD static void check_rotary_dim(const char* owner, index_type rotary_dim) {
  if (rotary_dim < 0 || rotary_dim % 2 != 0)
    reject(owner, "'s rotary_dim is ", rotary_dim, ", not an even number >= 0");
}

template <int = 0>
FOVEA_COLD static void check_original_context(const char* owner, index_type tokens, index_type least = 1) {
  if (tokens < least) reject(owner, "'s original_context is ", tokens, ", fewer tokens than ", least);
}

/// base^(-2i / rotary_dim) of the pairs i < rotary_dim / 2.
template <int = 0>
std::vector<double> powers_of(const char* owner, index_type rotary_dim, double base) {
  check_rotary_dim(owner, rotary_dim), check_positive(owner, "base", base);
  const index_type pairs = rotary_dim / 2;
  size_product(owner, pairs, sizeof(double));
  std::vector<double> powers(static_cast<std::size_t>(pairs));
  for (index_type i = 0; i < pairs; ++i)
    powers[static_cast<std::size_t>(i)] =
        std::pow(base, -static_cast<double>(i) / static_cast<double>(pairs));
  return powers;
}

}  // namespace position

/// The frequencies of Su et al., arXiv:2104.09864: base^(-2i / rotary_dim), i < rotary_dim / 2. Throws
/// std::invalid_argument where `rotary_dim` is odd or negative, or `base` not a finite number above 0.
template <int = 0>
rotary_frequencies plain_frequencies(index_type rotary_dim, double base = 10000.0) {
  return {position::powers_of("plain_frequencies", rotary_dim, base)};
}

FOVEA_NAMESPACE_END
