// patches/scenes.hpp - pictures to learn from: one shape somewhere before a background of strokes and noise.
#pragma once

#include "../transformer/random.hpp"

#include <fovea/inspect/raster.hpp>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

namespace patches {

using transformer::Index;
using Matrix = transformer::Matrix<float>;

constexpr Index side = 64;  // pixels of a picture
constexpr std::array<std::string_view, 4> shapes = {"disc", "square", "triangle", "ring"};

/// A picture, what it shows, and where: the middle and half the width of the shape, in pixels.
struct scene {
  fovea::raster picture{side, side};
  int shape = 0;
  double x = 0, y = 0, radius = 0;

  /// Whether a shape covers the place (dx, dy) from its middle, in radii.
  static bool covers(int shape, double dx, double dy) {
    const double square = dx * dx + dy * dy;
    switch (shape) {
      case 0:
        return square <= 1;
      case 1:
        return std::max(std::abs(dx), std::abs(dy)) <= 0.85;
      case 2:
        return dy <= 0.8 && dy >= 2 * std::abs(dx) - 1;
      default:
        return square <= 1 && square >= 0.3;
    }
  }
  bool shows(double at_x, double at_y) const {
    return covers(shape, (at_x - x) / radius, (at_y - y) / radius);
  }
};

/// One scene of a stream. Colours differ from picture to picture, strokes are as bright as the shape: what
/// tells a shape is its form alone.
inline scene draw_scene(std::uint64_t key) {
  transformer::random_stream random(key);
  scene drawn;
  drawn.shape = static_cast<int>(random.below(shapes.size()));
  drawn.radius = 8 + 6 * random.unit();
  const double room = double(side) - 2 * drawn.radius;
  drawn.x = drawn.radius + room * random.unit(), drawn.y = drawn.radius + room * random.unit();
  std::array<double, 3> colour, ground, slope;
  for (std::size_t c = 0; c < 3; ++c)
    ground[c] = 40 + 100 * random.unit(), slope[c] = random.unit() - 0.5,
    colour[c] = 150 + 100 * random.unit();
  const auto put = [&](Index x, Index y, const auto& value) {
    std::uint8_t* const to = drawn.picture.pixels.data() + 3 * (y * side + x);
    for (std::size_t c = 0; c < 3; ++c)
      to[c] = static_cast<std::uint8_t>(std::clamp(value(c) + 24 * (random.unit() - 0.5), 0., 255.));
  };
  for (Index y = 0; y < side; ++y)
    for (Index x = 0; x < side; ++x)
      put(x, y, [&](std::size_t c) { return ground[c] + slope[c] * double(x + y); });
  for (int stroke = 0; stroke < 12; ++stroke) {
    double x = double(side) * random.unit(), y = double(side) * random.unit();
    const double way = 6.3 * random.unit(), length = 6 + 14 * random.unit();
    for (double along = 0; along < length; along += 0.5, x += 0.5 * std::cos(way), y += 0.5 * std::sin(way))
      if (x >= 0 && y >= 0 && x < double(side) && y < double(side))
        put(static_cast<Index>(x), static_cast<Index>(y), [&](std::size_t c) { return colour[c]; });
  }
  for (Index y = 0; y < side; ++y)
    for (Index x = 0; x < side; ++x)
      if (drawn.shows(double(x) + 0.5, double(y) + 0.5)) put(x, y, [&](std::size_t c) { return colour[c]; });
  return drawn;
}

}  // namespace patches
