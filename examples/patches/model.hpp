// patches/model.hpp - a vision Transformer: Dosovitskiy et al., "An image is worth 16x16 words",
// arXiv:2010.11929, section 3.1.
//
//   x = [class; W patch_1 + b; ...; W patch_n + b] + position      a row a token
//   x = layer(x)                                                   twice
//   answer = W norm(x_class) + b
#pragma once

#include "scenes.hpp"

#include "../transformer/cross_entropy.hpp"
#include "../transformer/encoder_layer.hpp"

#include <fovea/inspect/rollout.hpp>

#include <span>

namespace patches {

constexpr Index patch = 8, across = side / patch, count = across * across, tokens = count + 1;

/// The patches of pictures of side x side pixels, a row each, colours from -1 to 1.
inline Matrix patches_of(std::span<const scene> scenes) {
  Matrix rows(static_cast<Index>(scenes.size()) * count, 3 * patch * patch);
  for (Index i = 0; i < rows.rows(); ++i) {
    const auto& pixels = scenes[static_cast<std::size_t>(i / count)].picture.pixels;
    const Index first = (i % count / across * patch * side + i % across * patch) * 3;
    for (Index y = 0; y < patch; ++y)
      for (Index c = 0; c < 3 * patch; ++c)
        rows(i, y * 3 * patch + c) =
            float(pixels[static_cast<std::size_t>(first + y * 3 * side + c)]) / 127.5f - 1;
  }
  return rows;
}

struct model {
  static constexpr Index width = 64, heads = 4, inner = 128;
  using layer = transformer::encoder_layer<>;
  using linear = transformer::linear<float>;
  using norm = transformer::layer_norm<float>;

  linear embed{3 * patch * patch, width, transformer::random_key(1, 0)};
  Matrix first = transformer::uniform_matrix<float>(1, width, 0.1, transformer::random_key(1, 1));
  Matrix position = transformer::uniform_matrix<float>(tokens, width, 0.1, transformer::random_key(1, 2));
  std::array<layer, 2> layers{layer({.width = width, .heads = heads}, inner, transformer::random_key(1, 3)),
                              layer({.width = width, .heads = heads}, inner, transformer::random_key(1, 4))};
  norm last{width};
  linear answer{width, static_cast<Index>(shapes.size()), transformer::random_key(1, 5)};

  static void each_parameter(const std::string&, const auto& f, auto&... of) {
    linear::each_parameter("embed", f, of.embed...);
    f("first", of.first...), f("position", of.position...);
    for (std::size_t i = 0; i < 2; ++i)
      layer::each_parameter("layer " + std::to_string(i), f, of.layers[i]...);
    norm::each_parameter("last", f, of.last...);
    linear::each_parameter("answer", f, of.answer...);
  }
};

/// What a forward call leaves for backward.
struct saved {
  model::linear::saved embed, answer;
  std::array<model::layer::saved, 2> layers;
  model::norm::saved last;
};

/// Logits, a row a picture.
inline Matrix logits_of(const model& m, std::span<const scene> scenes, saved& s) {
  const auto pictures = static_cast<Index>(scenes.size());
  std::vector<fovea::index_type> starts(scenes.size() + 1);
  for (std::size_t i = 0; i < starts.size(); ++i) starts[i] = static_cast<Index>(i) * tokens;
  const Matrix embedded = m.embed(patches_of(scenes), s.embed);
  Matrix x(pictures * tokens, model::width), seen(pictures, model::width);
  for (Index i = 0; i < pictures; ++i) {
    auto rows = x.middleRows(i * tokens, tokens);
    rows << m.first, embedded.middleRows(i * count, count);
    rows += m.position;
  }
  for (std::size_t i = 0; i < 2; ++i) x = m.layers[i](std::move(x), starts, s.layers[i]);
  for (Index i = 0; i < pictures; ++i) seen.row(i) = x.row(i * tokens);
  return m.answer(m.last(std::move(seen), s.last), s.answer);
}

inline void add_gradient(const model& m, const Matrix& d_logits, const saved& s, model& gradient) {
  const Matrix d_seen =
      m.last.backward(m.answer.backward(d_logits, s.answer, gradient.answer), s.last, gradient.last);
  Matrix d = Matrix::Zero(d_seen.rows() * tokens, model::width);
  for (Index i = 0; i < d_seen.rows(); ++i) d.row(i * tokens) = d_seen.row(i);
  for (std::size_t i = 2; i-- > 0;) d = m.layers[i].backward(std::move(d), s.layers[i], gradient.layers[i]);
  Matrix d_embedded(d_seen.rows() * count, model::width);
  for (Index i = 0; i < d_seen.rows(); ++i) {
    const auto rows = d.middleRows(i * tokens, tokens);
    gradient.position += rows, gradient.first += rows.topRows(1);
    d_embedded.middleRows(i * count, count) = rows.bottomRows(count);
  }
  m.embed.backward(d_embedded, s.embed, gradient.embed);
}

/// What a picture shows, and how much of each patch is in the class token after the last layer (their rollout,
/// across x across, sum 1).
struct answer {
  int shape = 0;
  double probability = 0;
  Matrix attention;
};

inline answer look_at(const model& m, const scene& picture) {
  saved s;
  const Matrix logits = logits_of(m, {&picture, 1}, s);
  answer found{0, 0, Matrix(across, across)};
  logits.row(0).maxCoeff(&found.shape);
  found.probability = 1 / double((logits.row(0).array() - logits(0, found.shape)).exp().sum());
  std::array<fovea::tensor<float>, 2> weights;
  for (std::size_t i = 0; i < 2; ++i)
    weights[i] = m.layers[i].attend.weights(s.layers[i].attend.x, s.layers[i].attend.x);
  const auto mixed = fovea::rollout(weights);
  for (Index p = 0; p < count; ++p) found.attention(p / across, p % across) = float(mixed(0, 0, 0, p + 1));
  found.attention /= found.attention.sum();
  return found;
}

}  // namespace patches
