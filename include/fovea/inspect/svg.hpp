// fovea/inspect/svg.hpp - heatmaps of attention as one SVG: a head large, or a grid of layers and heads.
#pragma once

#include <fovea/inspect/colours.hpp>
#include <fovea/inspect/maps.hpp>
#include <fovea/inspect/text.hpp>

#include <array>
#include <ostream>

FOVEA_NAMESPACE_BEGIN
namespace inspect {

/// Where the parts of a picture stand, in pixels.
struct svg_layout {
  static constexpr double gap = 14, margin = 20, heading = 34, legend = 58;
  double cell, font, left, top, step_x, step_y, width, height;
  bool single, labelled, numbered;  // one map; tokens beside the maps; numbers in the cells

  explicit svg_layout(const attention_maps& maps) {
    const double most = static_cast<double>(std::max<index_type>({maps.rows(), maps.columns(), 1}));
    single = maps.layers() * maps.heads() == 1;
    const double room =
        single ? 640 : std::clamp(1500 / std::max(1.0, static_cast<double>(maps.heads())), 90.0, 320.0);
    const double least = most <= 32 ? 8 : 1;  // with labels, where they do not make a grid too wide
    cell = std::clamp(std::floor(room / most), least, single ? 44.0 : 24.0);
    labelled = cell >= 8, numbered = single && cell >= 26;
    font = labelled ? std::clamp(cell * 0.7, 7.0, 14.0) : 12;
    const double before =
        labelled ? widest(maps.rows(), [&](index_type i) { return maps.query(i); }) * font : 0;
    const double above =
        labelled ? widest(maps.columns(), [&](index_type j) { return maps.key(j); }) * font : 0;
    left = margin + (single ? 22 : 60) + before;
    top = margin + heading + (single ? 22 : 20) + above * 0.72 + 8;
    step_x = cell * static_cast<double>(maps.columns()) + gap;
    step_y = cell * static_cast<double>(maps.rows()) + gap;
    width = std::max(left + step_x * static_cast<double>(maps.heads()) + above * 0.72 + margin, 430.0);
    height = top + step_y * static_cast<double>(maps.layers()) + legend;
  }

  /// The left edge of head h's maps, the top of layer l's.
  double x(index_type h) const noexcept { return left + step_x * static_cast<double>(h); }
  double y(index_type l) const noexcept { return top + step_y * static_cast<double>(l); }

  static constexpr index_type longest_label = 18;  // characters

 private:
  static double widest(index_type count, const auto& label) {
    double most = 0;
    for (index_type i = 0; i < count; ++i)
      most = std::max(most, text_width(shortened(label(i), longest_label)));
    return most;
  }
};

/// A <text> at (x, y); `style` holds its other attributes.
inline void add_text(std::string& svg, double x, double y, std::string_view style, std::string_view text) {
  append(svg, "<text x=\"", x, "\" y=\"", y, "\" ", style, ">", xml_escaped(text), "</text>\n");
}

/// The cells of one map, a path a colour: runs of equal cells in a row are one rectangle.
inline void add_cells(std::string& svg, const attention_maps& maps, index_type layer, index_type head) {
  std::array<std::string, 1 + colour_levels> paths;  // the first for NaN
  const auto level = [&](index_type i, index_type j) {
    return level_of(static_cast<double>(maps.weights(layer, head, i, j)));
  };
  for (index_type i = 0; i < maps.rows(); ++i)
    for (index_type j = 0, next = 0; j < maps.columns(); j = next) {
      const index_type here = level(i, j);
      for (next = j + 1; next < maps.columns() && level(i, next) == here;) ++next;
      if (here != 0)  // what lies below is of colour 0
        append(paths[static_cast<std::size_t>(here + 1)], "M", j, " ", i, "h", next - j, "v1h-", next - j,
               "z");
    }
  for (std::size_t n = 0; n < paths.size(); ++n)
    if (!paths[n].empty())
      append(svg, "<path fill=\"", hex(colour_of(static_cast<index_type>(n) - 1)), "\" d=\"", paths[n],
             "\"/>\n");
}

/// The numbers in the cells of a small map: .07 for 0.07, nothing below 0.005.
inline void add_numbers(std::string& svg, const attention_maps& maps, const svg_layout& at) {
  for (index_type i = 0; i < maps.rows(); ++i)
    for (index_type j = 0; j < maps.columns(); ++j) {
      const double p = static_cast<double>(maps.weights(0, 0, i, j));
      if (!(p >= 0.005)) continue;
      std::string text = p >= 0.995 ? "1" : number(p + 1, 2).substr(1);
      if (text.size() == 2) text += '0';
      std::string style = "font-size=\"11\" text-anchor=\"middle\" fill=\"";
      style += level_of(p) > colour_levels / 2 ? "#fff\"" : "#1b2330\"";
      add_text(svg, at.left + at.cell * (static_cast<double>(j) + 0.5),
               at.top + at.cell * (static_cast<double>(i) + 0.5) + 4, style, text);
    }
}

/// The tokens: queries left of the first map of a row, keys above the first of a column.
inline void add_labels(std::string& svg, const attention_maps& maps, const svg_layout& at) {
  std::string style;
  append(style, "font-size=\"", at.font, "\" fill=\"#333d4b\"");
  for (index_type l = 0; l < maps.layers(); ++l)
    for (index_type i = 0; i < maps.rows(); ++i)
      add_text(svg, at.left - 5, at.y(l) + at.cell * (static_cast<double>(i) + 0.5) + at.font * 0.35,
               style + " text-anchor=\"end\"", shortened(maps.query(i), at.longest_label));
  for (index_type h = 0; h < maps.heads(); ++h)
    for (index_type j = 0; j < maps.columns(); ++j)
      append(svg, "<text transform=\"translate(",
             at.x(h) + at.cell * (static_cast<double>(j) + 0.5) + at.font * 0.3, " ", at.top - 5,
             ") rotate(-45)\" ", style, ">", xml_escaped(shortened(maps.key(j), at.longest_label)),
             "</text>\n");
}

/// Colours and what they stand for.
inline void add_legend(std::string& svg, double x, double y) {
  constexpr double length = 256, step = length / static_cast<double>(colour_levels);
  for (index_type n = 0; n < colour_levels; ++n)
    append(svg, "<rect x=\"", x + step * static_cast<double>(n), "\" y=\"", y, "\" width=\"", step + 0.3,
           "\" height=\"9\" fill=\"", hex(colour_of_level(n)), "\"/>\n");
  append(svg, "<rect x=\"", x, "\" y=\"", y, "\" width=\"", length,
         "\" height=\"9\" fill=\"none\" stroke=\"#aab3c0\" stroke-width=\"0.7\"/>\n");
  const std::string_view tick = "font-size=\"10\" text-anchor=\"middle\" fill=\"#4a5567\"";
  for (const double p : {0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0})
    add_text(svg, x + length * std::sqrt(p), y + 22, tick, number(p));
  add_text(svg, x + length + 14, y + 9, "font-size=\"11\" fill=\"#4a5567\"", "probability");
}

/// One map: its frame, its cells, and what it is.
inline void add_map(std::string& svg, const attention_maps& maps, const svg_layout& at, index_type l,
                    index_type h) {
  std::string layer, head;
  append(layer, "layer ", maps.first_layer + l), append(head, "head ", maps.first_head + h);
  const double x = at.x(h), y = at.y(l);
  append(svg, "<g><title>", layer, ", ", head, "</title>\n<rect x=\"", x - 0.5, "\" y=\"", y - 0.5,
         "\" width=\"", at.step_x - at.gap + 1, "\" height=\"", at.step_y - at.gap + 1, "\" fill=\"",
         hex(colour_of_level(0)), "\" stroke=\"#aab3c0\" stroke-width=\"1\"/>\n<g transform=\"translate(", x,
         " ", y, ") scale(", at.cell, ")\" shape-rendering=\"crispEdges\">\n");
  add_cells(svg, maps, l, h);
  svg += "</g></g>\n";
  const std::string_view style = "font-size=\"12\" fill=\"#4a5567\"";
  const double below_title = at.margin + at.heading;
  if (at.single) layer = maps.single.empty() ? layer + ", " + head : maps.single;
  if (at.single) layer += "; rows are queries, columns keys";
  if (at.single || h == 0) add_text(svg, at.margin, at.single ? below_title : y + 11, style, layer);
  if (!at.single && l == 0) add_text(svg, x, below_title, style, head);
}

}  // namespace inspect

/// Writes the maps as a self-contained SVG document (UTF-8, no script, no font or link from elsewhere): rows
/// are queries, columns are keys, darker is more; the colour follows the square root of the probability, as
/// the legend says. One head is drawn large, with its numbers where they fit; several as a grid, a row a
/// layer, a column a head. Tokens stand beside cells of at least 8 pixels, which up to 32 tokens always have.
/// A NaN is red. Throws std::invalid_argument where labels are not as many as tokens; a failed stream is the
/// caller's to see. Cost and size O(cells), less where neighbours have one colour.
inline void write_svg(std::ostream& out, const attention_maps& maps) {
  maps.check();
  const inspect::svg_layout at(maps);
  const std::string title = maps.title.empty() ? "Attention" : maps.title;
  const auto fits = static_cast<index_type>((at.width - 2 * at.margin) / (16 * 0.6));
  std::string svg;
  inspect::append(svg, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", at.width, " ", at.height,
                  "\" width=\"", at.width, "\" height=\"", at.height,
                  "\" role=\"img\" font-family=\"system-ui, 'DejaVu Sans', sans-serif\">\n<title>",
                  inspect::xml_escaped(title),
                  "</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n");
  inspect::add_text(svg, at.margin, at.margin + 12, "font-size=\"16\" font-weight=\"600\" fill=\"#1b2330\"",
                    inspect::shortened(title, fits));
  for (index_type l = 0; l < maps.layers(); ++l)
    for (index_type h = 0; h < maps.heads(); ++h) inspect::add_map(svg, maps, at, l, h);
  if (at.labelled) inspect::add_labels(svg, maps, at);
  if (at.numbered) inspect::add_numbers(svg, maps, at);
  inspect::add_legend(svg, at.margin + 8, at.height - at.legend + 22);
  svg += "</svg>\n";
  out.write(svg.data(), static_cast<std::streamsize>(svg.size()));
}

FOVEA_NAMESPACE_END
