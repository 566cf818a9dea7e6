// picture.hpp - weights over a million positions as an SVG of a few hundred points a head.
#pragma once

#include <fovea/inspect/svg.hpp>

#include "haystack.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace long_context {

/// The weight axis is logarithmic, from `least` to 1; each point is the largest weight of its part of the
/// text. `weights`: tokens of one head after another.
inline std::string picture(const std::vector<float>& weights, Index heads, Index tokens, Index needle) {
  namespace inspect = fovea::inspect;
  constexpr double left = 64, top = 56, wide = 720, high = 260, least = 1e-16;
  const Index points = std::min<Index>(tokens, 720);
  const auto x_of = [&](double position) { return left + wide * position / static_cast<double>(tokens); };
  const auto y_of = [&](double weight) {
    return top + high * std::log10(std::max(weight, least)) / std::log10(least);
  };
  std::string svg;
  inspect::append(svg, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", left + wide + 24, " ",
                  top + high + 56, "\" font-family=\"sans-serif\" font-size=\"12\">\n",
                  "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n");
  inspect::add_text(
      svg, left, 24, "font-size=\"15\"",
      "Largest attention weight of each part of " + std::to_string(tokens) + " tokens, a line a head");
  for (int power = 0; power >= -16; power -= 4) {
    const double y = y_of(std::pow(10, power));
    inspect::append(svg, "<path d=\"M", left, " ", y, "h", wide, "\" stroke=\"#ddd\"/>\n");
    inspect::add_text(svg, left - 8, y + 4, "text-anchor=\"end\"",
                      power == 0 ? "1" : "1e" + std::to_string(power));
  }
  for (int part = 0; part <= 4; ++part) {
    const Index position = tokens * part / 4;
    inspect::add_text(svg, x_of(static_cast<double>(position)), top + high + 20, "text-anchor=\"middle\"",
                      std::to_string(position));
  }
  for (Index h = 0; h < heads; ++h) {
    std::string path;
    for (Index i = 0; i < points; ++i) {
      const Index first = tokens * i / points, last = tokens * (i + 1) / points;
      const float* const of_head = weights.data() + h * tokens;
      const double largest = static_cast<double>(*std::max_element(of_head + first, of_head + last));
      inspect::append(path, i == 0 ? "M" : "L", x_of(static_cast<double>(first + last) / 2), " ",
                      y_of(largest));
    }
    const Index colour = heads == 1 ? 150 : 60 + 180 * h / (heads - 1);
    inspect::append(svg, "<path fill=\"none\" stroke-width=\"1\" stroke=\"hsl(", colour, ",60%,40%)\" d=\"",
                    path, "\"/>\n");
  }
  const double at = x_of(static_cast<double>(needle));
  inspect::append(svg, "<path d=\"M", at, " ", top - 6, "l-4 -8h8z\" fill=\"#c33\"/>\n");
  inspect::add_text(svg, at, top - 18, "text-anchor=\"middle\" fill=\"#c33\"",
                    "needle, " + std::to_string(needle));
  return svg + "</svg>\n";
}

/// To a file; "": nowhere.
inline void save_picture(const std::string& file, const std::vector<float>& weights, const haystack& text) {
  if (file.empty()) return;
  std::ofstream out(file, std::ios::binary);
  out << picture(weights, text.sizes().heads, text.sizes().tokens, text.needle());
  if (!out.flush()) throw std::runtime_error(file + " could not be written");
}

}  // namespace long_context
