// patches/overlay.hpp - a picture beside itself, lit where a model looked.
#pragma once

#include "model.hpp"

namespace patches {

/// Two panels, `zoom` pixels a pixel: the picture, and the same with each patch between a fifth of its light
/// and all of it, as its attention lies between none and the largest; between the middles of patches light is
/// interpolated.
inline fovea::raster overlay(const fovea::raster& picture, const Matrix& attention, Index zoom = 4) {
  const Index gap = 2 * zoom, wide = picture.width * zoom, high = picture.height * zoom;
  fovea::raster panels(2 * wide + gap, high);
  const float most = attention.maxCoeff();
  const auto light = [&](double x, double y) {
    const auto at = [&](double of, Index n, Index& i) {
      const double place = std::clamp(of * double(n) - 0.5, 0., double(n - 1));
      i = std::min(static_cast<Index>(place), n - 2);
      return place - double(i);
    };
    Index r = 0, c = 0;
    const double down = at(y, attention.rows(), r), right = at(x, attention.cols(), c);
    const auto along = [&](Index row) {
      return (1 - right) * double(attention(row, c)) + right * double(attention(row, c + 1));
    };
    return 0.2 + 0.8 * ((1 - down) * along(r) + down * along(r + 1)) / double(most);
  };
  for (Index y = 0; y < high; ++y)
    for (Index x = 0; x < wide; ++x) {
      const std::uint8_t* const from = picture.pixels.data() + 3 * (y / zoom * picture.width + x / zoom);
      std::uint8_t* const plain = panels.pixels.data() + 3 * (y * panels.width + x);
      std::uint8_t* const lit = plain + 3 * (wide + gap);
      const double share = light((double(x) + 0.5) / double(wide), (double(y) + 0.5) / double(high));
      for (Index c = 0; c < 3; ++c) plain[c] = from[c], lit[c] = static_cast<std::uint8_t>(share * from[c]);
    }
  return panels;
}

}  // namespace patches
