// png.hpp - pictures from and to PNG files, by libpng.
#pragma once

#include <fovea/inspect/raster.hpp>

#include <png.h>

#include <stdexcept>
#include <string>

namespace examples {

/// Red, green and blue, 8 bits each, whatever the file has; what is transparent is on white.
inline fovea::raster read_png(const std::string& path) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  const auto check = [&](int done) {
    if (!done || PNG_IMAGE_FAILED(image)) {
      const std::string message = image.message;
      png_image_free(&image);
      throw std::invalid_argument("cannot read " + path + ": " + message);
    }
  };
  check(png_image_begin_read_from_file(&image, path.c_str()));
  image.format = PNG_FORMAT_RGB;
  fovea::raster read(static_cast<fovea::index_type>(image.width),
                     static_cast<fovea::index_type>(image.height));
  const png_color white{255, 255, 255};
  check(png_image_finish_read(&image, &white, read.pixels.data(), 0, nullptr));
  return read;
}

inline void write_png(const std::string& path, const fovea::raster& pixels) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(pixels.width);
  image.height = static_cast<png_uint_32>(pixels.height);
  image.format = PNG_FORMAT_RGB;
  if (!png_image_write_to_file(&image, path.c_str(), 0, pixels.pixels.data(), 0, nullptr))
    throw std::invalid_argument("cannot write " + path + ": " + image.message);
}

}  // namespace examples
