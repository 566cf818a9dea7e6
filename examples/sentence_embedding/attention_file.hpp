// Attention in a file whose name says the kind: a page (.html), a picture with text (.svg), pixels alone
// (.png).
#pragma once

#include "safetensors.hpp"

#include "../png.hpp"

#include <fovea/inspect.hpp>

namespace embedding {

/// Why the name says no kind, or nothing.
inline std::string is_attention_file(const std::string& path) {
  const auto kind = std::filesystem::path(path).extension();
  return kind == ".html" || kind == ".svg" || kind == ".png" ? ""
                                                             : path + " ends in none of .html, .svg, .png";
}

inline void write_attention_file(const std::string& path, const fovea::attention_maps& maps) {
  const auto kind = std::filesystem::path(path).extension();
  if (kind == ".png") {
    const fovea::index_type tokens = std::max(maps.rows(), maps.columns());
    return examples::write_png(path, fovea::draw(maps, std::clamp<fovea::index_type>(160 / tokens, 1, 16)));
  }
  std::ofstream stream(path, std::ios::binary);
  kind == ".svg" ? fovea::write_svg(stream, maps) : fovea::write_page(stream, maps);
  if (!stream.flush()) throw input_error("cannot write " + path);
}

}  // namespace embedding
