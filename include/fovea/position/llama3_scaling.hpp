// fovea/position/llama3_scaling.hpp - the scaling of Llama 3.1 and later: by wavelength, in three bands.
#pragma once

#include <fovea/position/frequencies.hpp>

#include <numbers>

FOVEA_NAMESPACE_BEGIN

/// With f = base^(-2i / rotary_dim) and n = original_context f / (2 pi), how often the pair turns within the
/// trained context, it turns by
///
///   f                                   where n > high_frequency_factor
///   f / factor                          where n < low_frequency_factor
///   (1 - s) f / factor + s f            between,  s = (n - low) / (high - low)
///
/// The Llama team, "The Llama 3 Herd of Models", arXiv:2407.21783, and the code published with Llama 3.1.
/// Files of llama.cpp hold 1 over these scales in a tensor, rope_freqs.weight. Throws std::invalid_argument
/// where `factor` or `base` is not a finite number above 0, the two factors of frequency are not finite with
/// 0 < low < high, `original_context` below 1, or `rotary_dim` odd or negative.
struct llama3_scaling {
  double factor = 8, low_frequency_factor = 1, high_frequency_factor = 4;
  index_type original_context = 8192;  // tokens that the model was trained for

  rotary_frequencies frequencies(index_type rotary_dim, double base = 500000.0) const {
    position::check_positive("llama3_scaling", "factor", factor);
    position::check_positive("llama3_scaling", "low_frequency_factor", low_frequency_factor);
    position::check_positive("llama3_scaling", "high_frequency_factor", high_frequency_factor);
    if (low_frequency_factor >= high_frequency_factor)
      reject("llama3_scaling's low_frequency_factor is ", low_frequency_factor,
             ", not below high_frequency_factor, ", high_frequency_factor);
    position::check_original_context("llama3_scaling", original_context);
    rotary_frequencies f{position::powers_of("llama3_scaling", rotary_dim, base)};
    for (double& x : f.values) {
      const double turns = static_cast<double>(original_context) * x / (2 * std::numbers::pi);
      const double kept = std::clamp(
          (turns - low_frequency_factor) / (high_frequency_factor - low_frequency_factor), 0.0, 1.0);
      x = (1 - kept) * x / factor + kept * x;
    }
    return f;
  }
};

FOVEA_NAMESPACE_END
