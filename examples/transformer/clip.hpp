// transformer/clip.hpp - gradients no longer than wanted. Pascanu, Mikolov and Bengio, arXiv:1211.5063.
#pragma once

#include "parameter.hpp"

#include <cmath>

namespace transformer {

/// Scales all gradients by one factor, so that their joint length is at most `most`. The length before that.
template <class T>
double clip_gradients(std::span<parameter<T>> parameters, double most) {
  double squares = 0;
  for (const auto& p : parameters) squares += static_cast<double>(p.gradient.squaredNorm());
  const double length = std::sqrt(squares);
  if (length > most)
    for (auto& p : parameters) p.gradient *= static_cast<T>(most / length);
  return length;
}

}  // namespace transformer
