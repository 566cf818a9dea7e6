// fovea/score/alibi.hpp - attention with linear biases.
#pragma once

#include <fovea/list_view.hpp>
#include <fovea/score/concept.hpp>

#include <bit>
#include <cmath>
#include <numbers>
#include <vector>

FOVEA_NAMESPACE_BEGIN

/// The slopes of Press et al., arXiv:2108.12409, for any number of heads: with n the largest power of two
/// that is at most `heads`, those of the first n heads are 2^(-steepness (h + 1) / n), h < n; those of the
/// others are every second one of 2n heads, 2^(-steepness (2 (h - n) + 1) / (2n)), as in the published code
/// and in BLOOM, Falcon and MPT (whose alibi_bias_max is `steepness`).
///
///   const auto slopes = fovea::alibi_slopes(12);     // a name: alibi views it
///   attend(q, k, v, fovea::causal, fovea::alibi{slopes});
///
/// Throws std::invalid_argument where `heads` is below 0 or `steepness` not finite.
template <int = 0>
std::vector<double> alibi_slopes(index_type heads, double steepness = 8) {
  if (heads < 0) reject("alibi_slopes are of ", heads, " heads, fewer than 0");
  if (!is_finite(steepness)) reject("alibi_slopes' steepness is ", steepness, ", not a finite number");
  size_product("alibi_slopes", heads, sizeof(double));
  std::vector<double> slopes(static_cast<std::size_t>(heads));
  const std::size_t n = std::bit_floor(slopes.size());
  for (std::size_t h = 0; h < slopes.size(); ++h) {
    const double part = h < n ? static_cast<double>(h + 1) : static_cast<double>(h - n) + 0.5;
    slopes[h] = std::exp2(-steepness * part / static_cast<double>(n));
  }
  return slopes;
}

/// One head's bias: s -> s - slope * |q + offset - k|.
struct linear_bias {
  static constexpr score_stage stage = score_stage::bias;
  static constexpr bool hides = false;
  float slope;         // as float and
  double exact_slope;  // as double logits are changed by it
  index_type offset;

  template <class V>
  V apply(const V& s, const V& q, const V& k) const noexcept {
    using std::abs;
    return s - slope_as<V>() * abs(q + number_as<V>(offset) - k);
  }
  template <class V>
  V derivative(const V&, const V&, const V&) const noexcept {
    return V(1);
  }
  template <class V>
  V parameter_slope(const V&, const V& q, const V& k) const noexcept {
    using std::abs;
    return -abs(q + number_as<V>(offset) - k);
  }

 private:
  template <class V>
  V slope_as() const noexcept {
    if constexpr (std::is_same_v<number_in<V>, double>)
      return V(exact_slope);
    else
      return V(slope);
  }
};

/// s -> s - slopes[h] * |q + offset - k|, a slope a query head. (Press et al., arXiv:2108.12409; the slopes
/// there are alibi_slopes(heads).) The offset places the first query among the keys: Lk - Lq when the
/// queries are the last; where the keys are a cache's, they stand so already. Slopes are of any real type, in
/// a named vector, array, span or Eigen vector: read during the call, not copied. As float they are finite,
/// and so is what they take from the farthest key of any query, times log2(e).
struct alibi {
  static constexpr score_stage stage = score_stage::bias;
  static constexpr const char* gradient_name = "alibi's d_slopes";
  static constexpr bool hides = false;
  list_view<double> slopes;
  index_type offset = 0;
  borrowed_span<float> d_slopes = {};  // where a backward call writes their gradient, if wanted

  parameter_gradient<float> gradient() const noexcept {
    return {.data = d_slopes.empty() ? nullptr : d_slopes.data(),
            .heads = static_cast<index_type>(d_slopes.size()),
            .head_stride = 1};
  }
  void check(const place& at) const {
    if (!d_slopes.empty() && static_cast<index_type>(d_slopes.size()) != slopes.size())
      reject("alibi has ", slopes.size(), " slopes but d_slopes has ", d_slopes.size());
    if (slopes.size() != at.heads) reject("alibi has ", slopes.size(), " slopes for ", at.heads, " heads");
    for (index_type h = 0; h < at.heads; ++h)
      if (!is_finite(static_cast<float>(slopes[h])))
        reject("alibi's slope ", h, " is ", slopes[h], ", not a finite float");
    const double farthest = farthest_key(at);
    for (index_type h = 0; h < at.heads; ++h)
      if (!is_finite(static_cast<float>(slopes[h] * farthest * std::numbers::log2e)))
        reject("alibi's slope ", h, " is ", slopes[h], ", which times log2(e) and the distance ", farthest,
               " of a key is no finite float");
  }
  void each_operand(const auto& f) const { f("alibi's slopes", slopes); }
  linear_bias bind(const place& at) const noexcept {
    const double slope = slopes[at.head];
    return {static_cast<float>(slope), slope, saturated_sum(offset, at.first_query())};
  }

 private:
  /// The largest |q + offset - k|.
  double farthest_key(const place& at) const noexcept {
    if (at.queries == 0 || at.keys == 0) return 0;
    const double first = static_cast<double>(saturated_sum(offset, at.first_query()));
    return std::max(std::abs(first - static_cast<double>(at.keys - 1)),
                    std::abs(first + static_cast<double>(at.queries - 1)));
  }
};

FOVEA_NAMESPACE_END
