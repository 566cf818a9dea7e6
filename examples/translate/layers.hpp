// translate/layers.hpp - the layer of a decoder, as arXiv:1706.03762, 3.1, with the norms before attention
// and feed-forward (Xiong et al., arXiv:2002.04745) and rotary positions in self-attention.
#pragma once

#include "batch.hpp"

#include "../transformer/encoder_layer.hpp"
#include "../transformer/gated_delta.hpp"

#include <fovea/kv_cache.hpp>

namespace translate {

using matrix = transformer::Matrix<float>;
using attention = fovea::multi_head<float>;
using norm = transformer::layer_norm<float>;
using feed_forward = transformer::feed_forward<float>;
using encoder_layer = transformer::encoder_layer<>;
using delta_layer = transformer::encoder_layer<transformer::bidirectional<transformer::gated_delta<float>>,
                                               transformer::gated_delta_options>;
using transformer::part, transformer::random_key;
using transformer::random_attention, transformer::starts;

/// x += attend(norm(x)), causal;  x += look(norm(x), memory);  x += think(norm(x))
struct decoder_layer {
  norm attention_norm, look_norm, forward_norm;
  attention attend, look;
  feed_forward think;

  struct saved {
    norm::saved attention_norm, look_norm, forward_norm;
    attention::saved attend, look;
    feed_forward::saved think;
  };

  decoder_layer(const fovea::multi_head_options<float>& self, const fovea::multi_head_options<float>& cross,
                fovea::index_type inner, std::uint64_t key)
      : attention_norm(self.width),
        look_norm(self.width),
        forward_norm(self.width),
        attend(random_attention(self, random_key(key, 0))),
        look(random_attention(cross, random_key(key, 1))),
        think(self.width, inner, random_key(key, 2)) {}

  /// One more token of each sequence: `caches` have its past, `memory` is look.project(memory).
  matrix operator()(matrix x, starts from, std::span<fovea::paged_cache<float>* const> caches,
                    const attention::keys_values& memory) const {
    std::vector<fovea::index_type> each(static_cast<std::size_t>(x.rows()) + 1);
    for (std::size_t i = 0; i < each.size(); ++i) each[i] = static_cast<fovea::index_type>(i);
    x += attend({attention_norm(x), each}, caches, fovea::causal);
    x += look({look_norm(x), from}, memory);
    x += think(forward_norm(x));
    return x;
  }
  matrix operator()(matrix x, starts from, const matrix& memory, starts memory_from, saved& s) const {
    x += attend({attention_norm(x, s.attention_norm), from}, s.attend, fovea::causal);
    x += look({look_norm(x, s.look_norm), from}, {memory, memory_from}, s.look);
    x += think(forward_norm(x, s.forward_norm), s.think);
    return x;
  }
  /// Adds to the gradient of the memory, too.
  matrix backward(matrix d, matrix& d_memory, const saved& s, decoder_layer& gradient) const {
    d += forward_norm.backward(think.backward(d, s.think, gradient.think), s.forward_norm,
                               gradient.forward_norm);
    const auto looked = look.backward(d, s.look, gradient.look);
    d_memory += looked.memory;
    d += look_norm.backward(looked.x, s.look_norm, gradient.look_norm);
    d += attention_norm.backward(attend.backward(d, s.attend, gradient.attend, fovea::causal).x,
                                 s.attention_norm, gradient.attention_norm);
    return d;
  }

  static void each_parameter(const std::string& name, const auto& f, auto&... of) {
    norm::each_parameter(part(name, "attention_norm"), f, of.attention_norm...);
    attention::each_parameter(part(name, "attend"), f, of.attend...);
    norm::each_parameter(part(name, "look_norm"), f, of.look_norm...);
    attention::each_parameter(part(name, "look"), f, of.look...);
    norm::each_parameter(part(name, "forward_norm"), f, of.forward_norm...);
    feed_forward::each_parameter(part(name, "think"), f, of.think...);
  }
};

}  // namespace translate
