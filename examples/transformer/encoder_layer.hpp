// transformer/encoder_layer.hpp - the layer of an encoder, as arXiv:1706.03762, 3.1, with the norms before
// attention and feed-forward (Xiong et al., arXiv:2002.04745).
#pragma once

#include "feed_forward.hpp"
#include "layer_norm.hpp"

#include <fovea/multi_head.hpp>

namespace transformer {

using starts = std::span<const fovea::index_type>;  // offsets of packed sequences

/// Attention with weights at random.
inline fovea::multi_head<float> random_attention(const fovea::multi_head_options<float>& options,
                                                 std::uint64_t key) {
  fovea::multi_head<float> layer(options);
  random_stream stream(key);
  layer.randomise([&] { return 2 * stream.unit() - 1; });
  return layer;
}

/// x += attend(norm(x));  x += think(norm(x))
///
/// Attention: fovea::multi_head, or what is called as it is; random_attention makes one from Options.
template <class Attention = fovea::multi_head<float>, class Options = fovea::multi_head_options<float>>
struct encoder_layer {
  using matrix = Matrix<float>;
  using norm = layer_norm<float>;
  using attention = Attention;

  norm attention_norm, forward_norm;
  attention attend;
  feed_forward<float> think;

  struct saved {
    norm::saved attention_norm, forward_norm;
    typename attention::saved attend;
    feed_forward<float>::saved think;
  };

  encoder_layer(const Options& options, fovea::index_type inner, std::uint64_t key)
      : attention_norm(options.width),
        forward_norm(options.width),
        attend(random_attention(options, random_key(key, 0))),
        think(options.width, inner, random_key(key, 1)) {}

  matrix operator()(matrix x, starts from) const {
    x += attend({attention_norm(x), from});
    x += think(forward_norm(x));
    return x;
  }
  matrix operator()(matrix x, starts from, saved& s) const {
    x += attend({attention_norm(x, s.attention_norm), from}, s.attend);
    x += think(forward_norm(x, s.forward_norm), s.think);
    return x;
  }
  matrix backward(matrix d, const saved& s, encoder_layer& gradient) const {
    d += forward_norm.backward(think.backward(d, s.think, gradient.think), s.forward_norm,
                               gradient.forward_norm);
    const auto d_inputs = attend.backward(d, s.attend, gradient.attend);
    const auto& d_x = [&]() -> const matrix& {
      if constexpr (requires { d_inputs.x; })
        return d_inputs.x;
      else
        return d_inputs;
    }();
    d += attention_norm.backward(d_x, s.attention_norm, gradient.attention_norm);
    return d;
  }

  static void each_parameter(const std::string& name, const auto& f, auto&... of) {
    norm::each_parameter(part(name, "attention_norm"), f, of.attention_norm...);
    attention::each_parameter(part(name, "attend"), f, of.attend...);
    norm::each_parameter(part(name, "forward_norm"), f, of.forward_norm...);
    feed_forward<float>::each_parameter(part(name, "think"), f, of.think...);
  }
};

}  // namespace transformer
