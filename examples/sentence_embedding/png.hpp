// Pixels as a PNG file, by libpng.
#pragma once

#include "safetensors.hpp"

#include <fovea/inspect/raster.hpp>

#include <png.h>

namespace embedding {

inline void write_png(const std::string& path, const fovea::raster& pixels) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(pixels.width);
  image.height = static_cast<png_uint_32>(pixels.height);
  image.format = PNG_FORMAT_RGB;
  if (!png_image_write_to_file(&image, path.c_str(), 0, pixels.pixels.data(), 0, nullptr))
    throw input_error("cannot write " + path + ": " + image.message);
}

}  // namespace embedding
