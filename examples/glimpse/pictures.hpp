// glimpse/pictures.hpp - small pictures in which one patch matters: a shape among clutter as bright as it is.
#pragma once

#include "../transformer/random.hpp"

#include <array>
#include <string_view>
#include <vector>

namespace glimpse {

using transformer::Index;
using Matrix = transformer::Matrix<float>;

constexpr Index side = 5, patches = 25, pixels = side * side;  // 5 x 5 patches of 5 x 5 pixels

/// What there is to see.
constexpr std::array<std::string_view, 4> shapes = {
    "..#.."
    "..#.."
    "#####"
    "..#.."
    "..#..",
    "#...#"
    ".#.#."
    "..#.."
    ".#.#."
    "#...#",
    ".###."
    "#...#"
    "#...#"
    "#...#"
    ".###.",
    "#####"
    "..#.."
    "..#.."
    "..#.."
    "..#.."};

struct pictures {
  Matrix patches;            // a row each, picture after picture
  std::vector<int> shape;    // of each picture
  std::vector<Index> place;  // the patch that shows it
};

/// `count` pictures of a stream: in one patch a shape, 4 % of its pixels turned over, in all others nine
/// pixels anywhere.
inline pictures draw(Index count, std::uint64_t key) {
  transformer::random_stream random(key);
  pictures drawn{Matrix::Zero(count * patches, pixels), {}, {}};
  for (Index i = 0; i < count; ++i) {
    drawn.shape.push_back(static_cast<int>(random.below(shapes.size())));
    drawn.place.push_back(random.below(patches));
    for (Index p = 0; p < patches; ++p) {
      auto patch = drawn.patches.row(i * patches + p);
      if (p == drawn.place.back()) {
        const auto shape = shapes[static_cast<std::size_t>(drawn.shape.back())];
        for (Index c = 0; c < pixels; ++c)
          patch(c) = float((shape[static_cast<std::size_t>(c)] == '#') != (random.unit() < 0.04));
      } else {
        for (int lit = 0; lit < 9;) {
          float& pixel = patch(random.below(pixels));
          lit += pixel == 0, pixel = 1;
        }
      }
    }
  }
  return drawn;
}

}  // namespace glimpse
