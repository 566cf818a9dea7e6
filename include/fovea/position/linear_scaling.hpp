// fovea/position/linear_scaling.hpp - position interpolation: a longer context squeezed into the trained one.
#pragma once

#include <fovea/position/frequencies.hpp>

FOVEA_NAMESPACE_BEGIN

/// Positions divided by `factor`: pair i turns by base^(-2i / rotary_dim) / factor.
///
///   fovea::rotary_table<float> table(8192, fovea::linear_scaling{.factor = 4}.frequencies(128));
///
/// Chen et al., "Extending Context Window of Large Language Models via Positional Interpolation",
/// arXiv:2306.15595. Throws std::invalid_argument where `factor` or `base` is not a finite number above 0, or
/// `rotary_dim` odd or negative.
struct linear_scaling {
  double factor = 1;

  rotary_frequencies frequencies(index_type rotary_dim, double base = 10000.0) const {
    position::check_positive("linear_scaling", "factor", factor);
    rotary_frequencies f{position::powers_of("linear_scaling", rotary_dim, base)};
    for (double& x : f.values) x /= factor;
    return f;
  }
};

FOVEA_NAMESPACE_END
