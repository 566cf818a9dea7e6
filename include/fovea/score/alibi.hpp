// fovea/score/alibi.hpp - attention with linear biases.
#pragma once

#include <fovea/score/concept.hpp>

#include <cmath>
#include <span>

FOVEA_NAMESPACE_BEGIN

/// One head's bias: s -> s - slope * |q + offset - k|.
struct linear_bias {
  static constexpr score_stage stage = score_stage::bias;
  static constexpr bool hides = false;
  float slope;
  index_type offset;

  template <class V>
  FOVEA_INLINE V apply(const V& s, const V& q, const V& k) const noexcept {
    using std::abs;
    return s - number_as<V>(slope) * abs(q + number_as<V>(offset) - k);
  }
  template <class V>
  FOVEA_INLINE V derivative(const V&, const V&, const V&) const noexcept {
    return V(1);
  }
  template <class V>
  FOVEA_INLINE V parameter_slope(const V&, const V& q, const V& k) const noexcept {
    using std::abs;
    return -abs(q + number_as<V>(offset) - k);
  }
};

/// s -> s - slopes[h] * |q + offset - k|, a slope a query head. (Press et al., arXiv:2108.12409; the slopes
/// there are 2^(-8 (h + 1) / heads).) The offset places the first query among the keys: Lk - Lq when the
/// queries are the last; where the keys are a cache's, they stand so already.
struct alibi {
  static constexpr score_stage stage = score_stage::bias;
  static constexpr bool hides = false;
  std::span<const float> slopes;
  index_type offset = 0;
  std::span<float> d_slopes = {};  // where a backward call writes their gradient, if wanted

  FOVEA_INLINE parameter_gradient<float> gradient() const noexcept {
    return {.data = d_slopes.empty() ? nullptr : d_slopes.data(),
            .heads = static_cast<index_type>(d_slopes.size()),
            .head_stride = 1};
  }
  FOVEA_INLINE void check(const place& at) const {
    if (!d_slopes.empty() && d_slopes.size() != slopes.size())
      reject("alibi has ", slopes.size(), " slopes but d_slopes has ", d_slopes.size());
    if (static_cast<index_type>(slopes.size()) != at.heads)
      reject("alibi has ", slopes.size(), " slopes for ", at.heads, " heads");
  }
  FOVEA_INLINE linear_bias bind(const place& at) const noexcept {
    return {slopes[static_cast<std::size_t>(at.head)], offset + at.first_query()};
  }
};

FOVEA_NAMESPACE_END
