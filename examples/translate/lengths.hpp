// translate/lengths.hpp - what an encoder layer takes as texts grow: attention the square of their length, a
// state their length.
#pragma once

#include "model.hpp"

#include "../stopwatch.hpp"

namespace translate {

/// Seconds of one layer forward and backward over one text of random tokens; the least of three.
template <class Layer>
double seconds_of(const Layer& layer, fovea::index_type tokens, fovea::index_type width) {
  const std::vector<fovea::index_type> text{0, tokens};
  const matrix x = transformer::uniform_matrix<float>(tokens, width, 1, 1);
  typename Layer::saved saved;
  Layer gradient = transformer::zeros_like(layer);
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 3; ++i) {
    const examples::stopwatch watch;
    const matrix y = layer(x, text, saved);
    layer.backward(y, saved, gradient);
    least = std::min(least, watch.seconds());
  }
  return least;
}

struct layer_times {
  fovea::index_type tokens;
  double softmax, gated_delta;
};

/// Both kinds of layers, of the default model's sizes, on one thread.
inline layer_times time_layers(fovea::index_type tokens) {
  const model_config c;
  const encoder_layer attends({.width = c.width, .heads = c.heads}, c.inner, 1);
  const delta_layer recalls({.width = c.width, .heads = c.heads}, c.inner, 1);
  return {tokens, seconds_of(attends, tokens, c.width), seconds_of(recalls, tokens, c.width)};
}

}  // namespace translate
