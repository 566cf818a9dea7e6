// fovea/inspect/page.hpp - all layers and heads as one HTML page that answers the mouse.
#pragma once

#include <fovea/inspect/colours.hpp>
#include <fovea/inspect/maps.hpp>
#include <fovea/inspect/page_parts.hpp>
#include <fovea/inspect/text.hpp>

#include <ostream>

FOVEA_NAMESPACE_BEGIN
namespace inspect {

/// Probabilities as 16-bit numbers, least byte first: round(65534 p), and 65535 for NaN.
inline std::string packed_weights(const tensor<float>& weights) {
  std::string bytes;
  bytes.reserve(static_cast<std::size_t>(2 * weights.size()));
  for (index_type i = 0; i < weights.size(); ++i) {
    const double p = static_cast<double>(weights.data()[i]);
    const long x = p != p ? 65535 : std::lround(65534 * std::clamp(p, 0.0, 1.0));
    bytes += static_cast<char>(x & 0xff), bytes += static_cast<char>(x >> 8);
  }
  return bytes;
}

/// What the script reads, as JSON.
inline std::string page_data(const attention_maps& maps) {
  std::string json;
  append(json, "{\"layers\":", maps.layers(), ",\"heads\":", maps.heads(), ",\"rows\":", maps.rows(),
         ",\"columns\":", maps.columns(), ",\"firstLayer\":", maps.first_layer,
         ",\"firstHead\":", maps.first_head);
  const auto list = [&](const char* name, index_type n, const auto& text) {
    append(json, ",\n\"", name, "\":[");
    for (index_type i = 0; i < n; ++i) append(json, i == 0 ? "" : ",", json_quoted(text(i)));
    json += ']';
  };
  list("queries", maps.rows(), [&](index_type i) { return maps.query(i); });
  list("keys", maps.columns(), [&](index_type j) { return maps.key(j); });
  list("colours", colour_levels, [](index_type level) { return hex(colour_of_level(level)); });
  append(json, ",\n\"nan\":", json_quoted(hex(colour_of_nan)), ",\n\"weights\":\"",
         base64(packed_weights(maps.weights)), "\"}");
  return json;
}

}  // namespace inspect

/// Writes one HTML page (UTF-8, well-formed XML too) with everything in it: it works from a file, without a
/// network. A layer and a head (or the mean of a layer's heads) are chosen in lists or in an overview of all;
/// the cell under the mouse, or that the arrow keys lead to, is read out: its probability to 4 decimals, its
/// two tokens, the entropy of its row and the row's largest keys. Colours are those of write_svg, by the
/// logarithm of the probability (which tells small ones apart; the default beyond 32 keys), by its square
/// root, or in proportion. It fits windows from 360 pixels on without being scrolled sideways; what is wider,
/// as a map of thousands of keys, scrolls by itself. Throws std::invalid_argument where labels are not as
/// many as tokens, and where there is no cell to show; a failed stream is the caller's to see. Size: 2.7
/// bytes a probability, which is rounded to a 65534th.
inline void write_page(std::ostream& out, const attention_maps& maps) {
  maps.check();
  if (maps.weights.size() == 0)
    reject("the page of ", maps.layers(), " layers x ", maps.heads(), " heads of ", maps.rows(), " x ",
           maps.columns(), " probabilities has nothing to show");
  const std::string title = inspect::xml_escaped(maps.title.empty() ? "Attention" : maps.title);
  std::string page;
  inspect::append(page, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n",
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>", title,
                  "</title>\n<style>", inspect::page_style, "</style>\n</head>\n<body>\n<h1>", title, "</h1>",
                  inspect::page_body, "<script type=\"application/json\" id=\"data\">",
                  inspect::page_data(maps), "</script>\n<script>//<![CDATA[", inspect::page_script,
                  inspect::page_events, "//]]></script>\n</body>\n</html>\n");
  out.write(page.data(), static_cast<std::streamsize>(page.size()));
}

FOVEA_NAMESPACE_END
