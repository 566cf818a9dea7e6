// fovea/position/longrope_scaling.hpp - LongRoPE: a divisor a pair, from one of two tables.
#pragma once

#include <fovea/list_view.hpp>
#include <fovea/position/frequencies.hpp>

FOVEA_NAMESPACE_BEGIN

/// Pair i turns by base^(-2i / rotary_dim) / divisors[i]: those of `long_factors` where there are more tokens
/// than original_context, else of `short_factors`. Cosines and sines are multiplied by the attention factor:
/// what is given, or sqrt(1 + ln(factor) / ln(original_context)), 1 where factor <= 1; factor is how many
/// times longer than the trained context the extended one is.
///
///   const fovea::longrope_scaling scaling{.short_factors = s, .long_factors = l,
///                                         .original_context = 4096, .tokens = 20000, .factor = 32};
///   const fovea::rotary_table<float> table(20000, scaling.frequencies(96));
///
/// Which table is taken changes all keys: those that a cache keeps stay as they were appended, so `tokens` is
/// the longest that is to be, or keys are appended anew. A single list of divisors (rope_freqs.weight of
/// llama.cpp) is both tables with factor = 1.
///
/// Ding et al., "LongRoPE", arXiv:2402.13753; Phi-3, arXiv:2404.14219. The lists are views, of any real type.
/// Throws std::invalid_argument where they do not have rotary_dim / 2 finite numbers above 0 each, `base`,
/// `factor` or a given attention factor is not one either, `original_context` is below 2, `tokens` below 0,
/// or `rotary_dim` odd or negative.
struct longrope_scaling {
  list_view<double> short_factors = {}, long_factors = {};
  index_type original_context = 0;  // tokens that the model was trained for
  index_type tokens = 0;            // that there are
  double factor = 1;
  double attention_factor = 0;  // 0: by the formula

  rotary_frequencies frequencies(index_type rotary_dim, double base = 10000.0) const {
    position::check_positive("longrope_scaling", "factor", factor);
    if (attention_factor != 0)
      position::check_positive("longrope_scaling", "attention_factor", attention_factor);
    position::check_original_context("longrope_scaling", original_context, 2);
    if (tokens < 0) reject("longrope_scaling has ", tokens, " tokens, fewer than 0");
    rotary_frequencies f{position::powers_of("longrope_scaling", rotary_dim, base)};
    check_factors("short_factors", short_factors, rotary_dim / 2);
    check_factors("long_factors", long_factors, rotary_dim / 2);
    const auto& divisors = tokens > original_context ? long_factors : short_factors;
    for (index_type i = 0; i < divisors.size(); ++i) f.values[static_cast<std::size_t>(i)] /= divisors[i];
    f.magnitude = magnitude();
    return f;
  }

  /// The attention factor.
  double magnitude() const {
    if (attention_factor != 0) return attention_factor;
    if (factor <= 1) return 1;
    return std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(original_context)));
  }

 private:
  static void check_factors(const char* name, const list_view<double>& factors, index_type pairs) {
    if (factors.size() != pairs)
      reject("longrope_scaling has ", factors.size(), " ", name, " for ", pairs, " pairs");
    for (index_type i = 0; i < pairs; ++i)
      if (const double x = factors[i]; !is_finite(x) || !(x > 0))
        reject("longrope_scaling's ", name, " has ", x, " for pair ", i, ", not a finite number above 0");
  }
};

FOVEA_NAMESPACE_END
