// fovea/position/ntk_scaling.hpp - a larger base for a longer context: static, or by the tokens there are.
#pragma once

#include <fovea/position/frequencies.hpp>

FOVEA_NAMESPACE_BEGIN

/// "NTK-aware" scaling: the base is multiplied by factor^(r / (r - 2)), r = rotary_dim, so that the fastest
/// pair turns as before and the slowest `factor` times as slowly:
///
///   base^(-2i / r) * factor^(-2i / (r - 2))
///
/// Peng et al., "YaRN", arXiv:2309.00071, section 3.1 (there alpha). With r = 2 the one pair stays. Throws
/// std::invalid_argument where `factor` or `base` is not a finite number above 0, or `rotary_dim` odd or
/// negative.
struct ntk_scaling {
  double factor = 1;

  rotary_frequencies frequencies(index_type rotary_dim, double base = 10000.0) const {
    return of("ntk_scaling", factor, rotary_dim, base);
  }

  static rotary_frequencies of(const char* owner, double factor, index_type rotary_dim, double base) {
    position::check_positive(owner, "factor", factor);
    rotary_frequencies f{position::powers_of(owner, rotary_dim, base)};
    const double slowest = static_cast<double>(f.values.size()) - 1;
    for (std::size_t i = 1; i < f.values.size(); ++i)
      f.values[i] *= std::pow(factor, -static_cast<double>(i) / slowest);
    return f;
  }
};

/// NTK-aware scaling that grows with the sequence: by
///
///   factor * max(tokens, original_context) / original_context - (factor - 1)
///
/// which is 1 up to the trained context. Frequencies change as tokens come: keys that a cache keeps stay
/// turned as they were appended, so either `tokens` is the longest that is to be, or keys are appended anew.
///
/// Peng et al., arXiv:2309.00071, section 3.3 ("dynamic scaling"), in the form of transformers. Throws
/// std::invalid_argument where `factor` is below 1 or not finite, `base` not a finite number above 0,
/// `original_context` below 1, `tokens` below 0, or `rotary_dim` odd or negative.
struct dynamic_ntk_scaling {
  double factor = 1;
  index_type original_context = 0;  // tokens that the model was trained for
  index_type tokens = 0;            // that there are

  rotary_frequencies frequencies(index_type rotary_dim, double base = 10000.0) const {
    if (!is_finite(factor) || !(factor >= 1))
      reject("dynamic_ntk_scaling's factor is ", factor, ", not a finite number >= 1");
    position::check_original_context("dynamic_ntk_scaling", original_context);
    if (tokens < 0) reject("dynamic_ntk_scaling has ", tokens, " tokens, fewer than 0");
    const double longer =
        static_cast<double>(std::max(tokens, original_context)) / static_cast<double>(original_context);
    return ntk_scaling::of("dynamic_ntk_scaling", factor * longer - (factor - 1), rotary_dim, base);
  }
};

FOVEA_NAMESPACE_END
