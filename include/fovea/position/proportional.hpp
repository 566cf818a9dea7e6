// fovea/position/proportional.hpp - partial rotation with the frequencies of the whole head.
#pragma once

#include <fovea/position/frequencies.hpp>

FOVEA_NAMESPACE_BEGIN

/// Of a head's dim / 2 pairs the first rotary_dim / 2 turn, as fast as they would if all did: base^(-2i /
/// dim) / factor, i < rotary_dim / 2; the others stand still (frequency 0). Pairs are those of the whole
/// head: with rotary_pairs::halves i and i + dim / 2.
///
/// (Partial rotation as in GPT-NeoX is a table of rotary_dim < dim: frequencies base^(-2i / rotary_dim), and
/// pairs among the first rotary_dim dimensions.) The rotary embedding "proportional" of transformers (Gemma
/// 4). Throws std::invalid_argument where `dim` or `rotary_dim` is odd or negative, rotary_dim > dim, or
/// `factor` or `base` not a finite number above 0.
template <int = 0>
rotary_frequencies proportional_frequencies(index_type dim, index_type rotary_dim, double base = 10000.0,
                                            double factor = 1) {
  constexpr const char* name = "proportional_frequencies";
  position::check_rotary_dim(name, rotary_dim), position::check_positive(name, "factor", factor);
  if (dim % 2 != 0 || rotary_dim > dim)
    reject(name, " turns ", rotary_dim, " dimensions of ", dim, ", which are to be even and no fewer");
  rotary_frequencies f{position::powers_of(name, dim, base)};
  for (std::size_t i = 0; i < f.values.size(); ++i)
    f.values[i] = static_cast<index_type>(i) < rotary_dim / 2 ? f.values[i] / factor : 0;
  return f;
}

FOVEA_NAMESPACE_END
