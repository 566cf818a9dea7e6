// fovea/differential/reference.hpp - the specification of differential attention, in double.
#pragma once

#include <fovea/differential/paired_values.hpp>
#include <fovea/reference.hpp>

FOVEA_NAMESPACE_BEGIN

/// O of differential.hpp, batch x heads x Lq x dv; `magnitude`: the sum of |P| |V| over both softmaxes, the
/// second times |lambda|; lse and logits of the 2 * heads softmaxes. Options: heads and kv_heads of o and v.
template <viewable Q, viewable K, viewable V, class... Mods>
reference_result differential_reference(const Q& q, const K& k, const V& v, reference_options options,
                                        double lambda, const Mods&... mods) {
  if (options.kv_heads == 0) options.kv_heads = options.heads;
  auto halves =
      reference(q, k, paired_values<V>{v}, {2 * options.heads, 2 * options.kv_heads, options.scale}, mods...);
  const auto& of = halves.out;
  tensor<double> out(of.batch(), options.heads, of.tokens(), of.dim());
  auto magnitude = out;
  for (index_type b = 0; b < out.batch(); ++b)
    for (index_type h = 0; h < out.heads(); ++h)
      for (index_type i = 0; i < out.tokens(); ++i)
        for (index_type c = 0; c < out.dim(); ++c) {
          out(b, h, i, c) = of(b, 2 * h, i, c) - lambda * of(b, 2 * h + 1, i, c);
          magnitude(b, h, i, c) =
              halves.magnitude(b, 2 * h, i, c) + std::abs(lambda) * halves.magnitude(b, 2 * h + 1, i, c);
        }
  return {std::move(out), std::move(halves.lse), std::move(magnitude), std::move(halves.logits)};
}

FOVEA_NAMESPACE_END
