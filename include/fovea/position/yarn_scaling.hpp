// fovea/position/yarn_scaling.hpp - YaRN: slow pairs interpolated, fast ones kept, logits sharpened.
#pragma once

#include <fovea/position/frequencies.hpp>

#include <numbers>

FOVEA_NAMESPACE_BEGIN

/// With f_i = base^(-2i / r), r = rotary_dim, pair i turns by
///
///   (1 - ramp_i) f_i + ramp_i f_i / factor,   ramp_i = clamp((i - low) / (high - low), 0, 1)
///
/// where `low` is the (real) pair that turns beta_fast times within the trained context, `high` the one that
/// turns beta_slow times: pair(n) = r ln(original_context / (2 pi n)) / (2 ln base); `truncate` rounds them
/// outwards to whole pairs. Cosines and sines are multiplied by the attention factor: what is given; or
/// 0.1 ln(factor) + 1; or, with `mscale` and `mscale_all_dim` (DeepSeek),
/// (0.1 mscale ln(factor) + 1) / (0.1 mscale_all_dim ln(factor) + 1). Each is 1 where factor <= 1.
///
/// Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models", arXiv:2309.00071; the
/// ramp over pairs as in its published code, transformers and llama.cpp. Throws std::invalid_argument where
/// `factor`, a beta, or an attention factor, mscale or mscale_all_dim other than 0 is not a finite number
/// above 0, beta_fast < beta_slow, `base` not finite and above 1, `original_context` below 1, or `rotary_dim`
/// odd or negative.
struct yarn_scaling {
  double factor = 1;
  index_type original_context = 0;  // tokens that the model was trained for
  double beta_fast = 32, beta_slow = 1;
  bool truncate = true;
  double attention_factor = 0;            // 0: by the formula
  double mscale = 0, mscale_all_dim = 0;  // used where neither is 0

  rotary_frequencies frequencies(index_type rotary_dim, double base = 10000.0) const {
    check();
    rotary_frequencies f{position::powers_of("yarn_scaling", rotary_dim, base)};
    if (!(base > 1)) reject("yarn_scaling's base is ", base, ", not above 1");
    f.magnitude = magnitude();
    const auto pair = [&](double turns) {
      const double length = static_cast<double>(original_context) / (2 * std::numbers::pi * turns);
      return static_cast<double>(rotary_dim) * std::log(length) / (2 * std::log(base));
    };
    double low = pair(beta_fast), high = pair(beta_slow);
    if (truncate) low = std::floor(low), high = std::ceil(high);
    low = std::max(low, 0.0), high = std::min(high, static_cast<double>(rotary_dim - 1));
    high = std::max(high, low + 0.001);  // a step, where all pairs lie on one side
    for (std::size_t i = 0; i < f.values.size(); ++i) {
      const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
      f.values[i] *= 1 - ramp + ramp / factor;
    }
    return f;
  }

  /// The attention factor.
  double magnitude() const {
    if (attention_factor != 0) return attention_factor;
    const auto of = [&](double m) { return factor <= 1 ? 1.0 : 0.1 * m * std::log(factor) + 1; };
    return mscale != 0 && mscale_all_dim != 0 ? of(mscale) / of(mscale_all_dim) : of(1);
  }

 private:
  void check() const {
    const auto positive = [](const char* what, double x) {
      position::check_positive("yarn_scaling", what, x);
    };
    positive("factor", factor), positive("beta_fast", beta_fast), positive("beta_slow", beta_slow);
    if (attention_factor != 0) positive("attention_factor", attention_factor);
    if (mscale != 0) positive("mscale", mscale);
    if (mscale_all_dim != 0) positive("mscale_all_dim", mscale_all_dim);
    if (beta_fast < beta_slow)
      reject("yarn_scaling's beta_fast is ", beta_fast, ", below beta_slow, ", beta_slow);
    position::check_original_context("yarn_scaling", original_context);
  }
};

FOVEA_NAMESPACE_END
