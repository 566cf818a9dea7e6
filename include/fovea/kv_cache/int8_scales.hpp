// fovea/kv_cache/int8_scales.hpp - which int8 keys share their scales, and how numbers become integers.
#pragma once

#include <fovea/index.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace caching {

/// The tokens of a page whose int8 keys share their scales: the sinks, then 32 at a time.
struct scale_blocks {
  static constexpr index_type tokens = 32;
  index_type page_tokens, sinks;

  index_type count() const noexcept {
    return (sinks > 0 ? ceil_div(sinks, tokens) : 0) + ceil_div(page_tokens - sinks, tokens);
  }
  index_type of(index_type token) const noexcept {
    return token < sinks ? token / tokens : ceil_div(sinks, tokens) + (token - sinks) / tokens;
  }
  /// The tokens that share their scales with `token`.
  range around(index_type token) const noexcept {
    const index_type origin = token < sinks ? 0 : sinks, end = token < sinks ? sinks : page_tokens;
    const index_type first = origin + (token - origin) / tokens * tokens;
    return {first, std::min(first + tokens, end)};
  }
};

/// The newest keys of a sequence in an int8 cache, unquantised until their block is full: a scale a channel
/// needs all tokens of its block.
struct open_block {
  range slots = {0, 0};     // of the store that they will have
  std::vector<float> rows;  // [head][scale_blocks::tokens][dim]
};

/// to[i] = round(from[i * stride] / scale); returns the scale. Numbers of which the largest is so small
/// that the scale would not be a normal float become 0; 127 times the largest scale is still a float.
template <class T>
float quantise(const T* from, index_type stride, index_type count, std::int8_t* to) noexcept {
  constexpr T least = T(127) * static_cast<T>(std::numeric_limits<float>::min());
  constexpr float largest_scale = 0x1.020406p+121f;  // the largest of which 127 are a float
  T most = 0;
  for (index_type i = 0; i < count; ++i) most = std::max(most, std::abs(from[i * stride]));
  const T inverse = most >= least ? 127 / most : 0;
  for (index_type i = 0; i < count; ++i)
    to[i * stride] =
        static_cast<std::int8_t>(std::clamp<T>(std::nearbyint(from[i * stride] * inverse), -127, 127));
  return most >= least ? std::min(static_cast<float>(most / 127), largest_scale) : 0.f;
}

}  // namespace caching
FOVEA_NAMESPACE_END
