// fovea/inspect/raster.hpp - heatmaps of attention as pixels, for whatever writes images.
#pragma once

#include <fovea/inspect/colours.hpp>
#include <fovea/inspect/maps.hpp>

FOVEA_NAMESPACE_BEGIN

/// Rows of pixels from the top, red, green, blue, 8 bits each.
struct raster {
  index_type width = 0, height = 0;
  std::vector<std::uint8_t> pixels;

  raster() = default;
  /// White. Throws std::invalid_argument for a size below 0, std::length_error for more bytes than an index
  /// counts.
  raster(index_type w, index_type h) : width(w), height(h), pixels(bytes(w, h), 255) {}

 private:
  static std::size_t bytes(index_type w, index_type h) {
    if (w < 0 || h < 0) reject("a picture of ", w, " x ", h, " pixels has a negative size");
    return static_cast<std::size_t>(size_product("a picture", w, h, index_type(3)));
  }
};

/// The maps without text: a row a layer, a column a head, `cell` x `cell` pixels a probability in the colours
/// of write_svg, on white. Throws std::invalid_argument for a cell below 1 or a gap below 0,
/// std::length_error for more pixels than can be counted. Cost and memory O(pixels).
inline raster draw(const attention_maps& maps, index_type cell = 4, index_type gap = 4) {
  if (cell < 1) reject("cell is ", cell, " pixels, fewer than 1");
  if (gap < 0) reject("gap is ", gap, " pixels, fewer than 0");
  // Before they are added: four bytes for each pixel and gap are more than all of them take.
  size_product("a picture (maps x (probabilities + 1) x pixels)", maps.heads(), maps.columns() + 1,
               std::max(cell, gap), 4);
  size_product("a picture (maps x (probabilities + 1) x pixels)", maps.layers(), maps.rows() + 1,
               std::max(cell, gap), 4);
  const index_type across = maps.columns() * cell + gap, down = maps.rows() * cell + gap;
  raster image(maps.heads() * across + gap, maps.layers() * down + gap);
  for (index_type l = 0; l < maps.layers(); ++l)
    for (index_type h = 0; h < maps.heads(); ++h)
      for (index_type y = 0; y < maps.rows() * cell; ++y)
        for (index_type j = 0; j < maps.columns(); ++j) {
          const auto c =
              inspect::colour_of(inspect::level_of(static_cast<double>(maps.weights(l, h, y / cell, j))));
          const index_type first = (gap + l * down + y) * image.width + gap + h * across + j * cell;
          std::uint8_t* to = image.pixels.data() + 3 * first;
          for (index_type x = 0; x < cell; ++x) *to++ = c.red, *to++ = c.green, *to++ = c.blue;
        }
  return image;
}

FOVEA_NAMESPACE_END
