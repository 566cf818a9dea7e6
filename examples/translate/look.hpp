// translate/look.hpp - which characters of the source the decoder looked at while it said each of its own.
#pragma once

#include "decode.hpp"

#include "../utf8.hpp"

#include <fovea/inspect.hpp>

#include <ostream>

namespace translate {

/// A line as tokens, or an error that says why not.
inline std::vector<int> source_of(const characters& known, const std::string& line) {
  examples::check_utf8(line);
  auto tokens = known.encode(line);
  if (static_cast<fovea::index_type>(tokens.size()) > model::longest)
    throw std::invalid_argument("a line has " + std::to_string(tokens.size()) + " characters, more than " +
                                std::to_string(model::longest));
  return tokens;
}

/// Row i: the weights with which character i of the translation (the end is the last) was read from those of
/// the source.
struct looks {
  matrix weights;
  std::vector<std::string> written, read;  // labels of rows and columns
  std::string translation, of;             // what was said; which weights these are
};

/// The cross-attention of the last layer over the greedy translation: of one head, or, for -1, the mean.
inline looks where_it_looks(const model& m, const characters& known, const std::string& text,
                            std::int64_t head) {
  const auto heads = m.decoder().back().look.options().heads;
  if (head < -1 || head >= heads)
    throw std::invalid_argument("head " + std::to_string(head) + " is not one of " + std::to_string(heads));
  batch b;
  const auto source = source_of(known, text);
  b.source.add(source);
  auto written = greedy(m, b.source).front();
  looks result;
  result.translation = known.decode(written);
  for (const int t : source) result.read.push_back(known.decode(std::span(&t, 1)));
  for (const int t : written) result.written.push_back(known.decode(std::span(&t, 1)));
  result.written.push_back("end");
  written.insert(written.begin(), characters::begin);
  b.target.add(written);
  model::saved s;
  m(b, s);
  const auto& last = s.decoder.back().look;
  const auto all = m.decoder().back().look.weights(last.x, last.memory);
  result.of = "cross-attention of the last layer, " +
              (head == -1 ? "mean of " + std::to_string(heads) + " heads" : "head " + std::to_string(head));
  result.weights.setZero(all.tokens(), all.dim());
  for (fovea::index_type h = 0; h < heads; ++h)
    for (fovea::index_type i = 0; i < all.tokens() && (head == -1 || head == h); ++i)
      for (fovea::index_type j = 0; j < all.dim(); ++j)
        result.weights(i, j) += all(0, h, i, j) / static_cast<float>(head == -1 ? heads : 1);
  return result;
}

/// The same as a map to draw.
inline fovea::attention_maps picture_of(const looks& seen, const std::string& text) {
  fovea::tensor<float> weights(1, 1, seen.weights.rows(), seen.weights.cols());
  std::copy_n(seen.weights.data(), seen.weights.size(), weights.data());
  fovea::attention_maps map("\u201c" + text + "\u201d \u2192 " + seen.translation, seen.written, seen.read,
                            std::move(weights));
  map.single = seen.of;
  return map;
}

/// A line for each character said, fields divided by tabs; the first line has the characters read.
inline void write_table(std::ostream& out, const looks& seen) {
  for (const auto& label : seen.read) out << '\t' << label;
  out << '\n';
  for (std::size_t i = 0; i < seen.written.size(); ++i) {
    out << seen.written[i];
    for (Eigen::Index j = 0; j < seen.weights.cols(); ++j)
      out << '\t' << seen.weights(static_cast<Eigen::Index>(i), j);
    out << '\n';
  }
}

}  // namespace translate
