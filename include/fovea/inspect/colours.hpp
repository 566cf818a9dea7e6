// fovea/inspect/colours.hpp - a probability as a colour: dark on light, for every kind of colour vision.
#pragma once

#include <fovea/index.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

FOVEA_NAMESPACE_BEGIN
namespace inspect {

struct colour {
  std::uint8_t red, green, blue;
  friend constexpr bool operator==(const colour&, const colour&) = default;
};

/// How many colours there are, from nearly white (0) to dark blue.
inline constexpr index_type colour_levels = 128;
/// Of a NaN.
inline constexpr colour colour_of_nan{214, 40, 40};

/// Lightness falls evenly in OKLab (Ottosson, bottosson.github.io/posts/oklab), so that equal steps look
/// equal and order is seen without hue; the hue goes from light blue to indigo.
inline colour colour_of_level(index_type level) {
  const double t = static_cast<double>(level) / static_cast<double>(colour_levels - 1);
  const double lightness = 0.985 - 0.705 * t, hue = 4.1 + 0.65 * t,
               chroma = 0.004 + 0.42 * t * (1 - 0.78 * t);
  const double a = chroma * std::cos(hue), b = chroma * std::sin(hue);
  const auto cube = [](double x) { return x * x * x; };
  const double l = cube(lightness + 0.3963377774 * a + 0.2158037573 * b),
               m = cube(lightness - 0.1055613458 * a - 0.0638541728 * b),
               s = cube(lightness - 0.0894841775 * a - 1.2914855480 * b);
  const auto to_byte = [](double x) {  // of linear light, by sRGB's curve
    const double y = x <= 0.0031308 ? 12.92 * x : 1.055 * std::pow(x, 1 / 2.4) - 0.055;
    return static_cast<std::uint8_t>(std::lround(255 * std::clamp(y, 0.0, 1.0)));
  };
  return {to_byte(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
          to_byte(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
          to_byte(-0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s)};
}

/// The level of a probability: of its square root, as most are small; -1 for NaN.
inline index_type level_of(double probability) {
  if (probability != probability) return -1;
  return std::lround(std::sqrt(std::clamp(probability, 0.0, 1.0)) * static_cast<double>(colour_levels - 1));
}

inline colour colour_of(index_type level) { return level < 0 ? colour_of_nan : colour_of_level(level); }

/// #rrggbb
inline std::string hex(const colour& c) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text = "#";
  for (const auto part : {c.red, c.green, c.blue}) text += digits[part >> 4], text += digits[part & 15];
  return text;
}

}  // namespace inspect
FOVEA_NAMESPACE_END
