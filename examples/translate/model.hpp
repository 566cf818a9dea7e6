// translate/model.hpp - an encoder-decoder Transformer over packed batches: Vaswani et al., "Attention Is All
// You Need", arXiv:1706.03762. Products by Eigen, attention by fovea.
#pragma once

#include "layers.hpp"

#include "../transformer/embedding.hpp"

#include <memory>
#include <tuple>

namespace translate {

struct model_config {
  std::int64_t vocabulary = 0, width = 128, heads = 4, inner = 384, encoder_layers = 3, decoder_layers = 2;
  std::int64_t delta_layers = 0;  // of the encoder, the first ones; the others attend by softmax

  /// Each number by its name: what a checkpoint says of the model.
  static void each(auto& config, const auto& f) {
    f("vocabulary", config.vocabulary), f("width", config.width), f("heads", config.heads);
    f("inner", config.inner), f("encoder_layers", config.encoder_layers);
    f("decoder_layers", config.decoder_layers), f("delta_layers", config.delta_layers);
  }
};

class model {
 public:
  static constexpr fovea::index_type longest = 512;  // tokens of a text

  struct saved {
    std::vector<delta_layer::saved> delta;
    std::vector<encoder_layer::saved> encoder;
    std::vector<decoder_layer::saved> decoder;
    norm::saved memory_norm, last_norm;
    matrix seen;
  };

  model(const model_config& c, std::uint64_t seed)
      : table_(std::make_shared<fovea::rotary_table<float>>(longest, c.width / c.heads)),
        words_(c.vocabulary, c.width, random_key(seed, 0)),
        memory_norm_(c.width),
        last_norm_(c.width) {
    const fovea::multi_head_options<float> cross{.width = c.width, .heads = c.heads};
    auto self = cross;
    self.rotary = table_->angles();
    const transformer::gated_delta_options delta{.width = c.width, .heads = c.heads};
    for (std::int64_t i = 0; i < c.encoder_layers; ++i)
      if (i < c.delta_layers)
        delta_.emplace_back(delta, c.inner, random_key(seed, 1, i));
      else
        encoder_.emplace_back(self, c.inner, random_key(seed, 1, i));
    for (std::int64_t i = 0; i < c.decoder_layers; ++i)
      decoder_.emplace_back(self, cross, c.inner, random_key(seed, 2, i));
  }

  /// What the encoder makes of sources.
  matrix memory_of(const packed& source) const {
    matrix x = words_(source.tokens);
    for (const auto& layer : delta_) x = layer(std::move(x), source.offsets);
    for (const auto& layer : encoder_) x = layer(std::move(x), source.offsets);
    return memory_norm_(x);
  }

  /// The logits of what follows each token of the targets, for training.
  matrix operator()(const batch& b, saved& s) const {
    s.delta.resize(delta_.size()), s.encoder.resize(encoder_.size()), s.decoder.resize(decoder_.size());
    matrix x = words_(b.source.tokens);
    for (std::size_t i = 0; i < delta_.size(); ++i) x = delta_[i](std::move(x), b.source.offsets, s.delta[i]);
    for (std::size_t i = 0; i < encoder_.size(); ++i)
      x = encoder_[i](std::move(x), b.source.offsets, s.encoder[i]);
    const matrix memory = memory_norm_(std::move(x), s.memory_norm);
    x = words_(b.target.tokens);
    for (std::size_t i = 0; i < decoder_.size(); ++i)
      x = decoder_[i](std::move(x), b.target.offsets, memory, b.source.offsets, s.decoder[i]);
    s.seen = last_norm_(std::move(x), s.last_norm);
    return words_.logits(s.seen);
  }

  /// Adds to the parameters of `gradient`.
  void backward(const matrix& d_logits, const batch& b, const saved& s, model& gradient) const {
    matrix d = last_norm_.backward(words_.logits_backward(d_logits, s.seen, gradient.words_), s.last_norm,
                                   gradient.last_norm_);
    matrix d_memory = matrix::Zero(static_cast<Eigen::Index>(b.source.tokens.size()), d.cols());
    for (std::size_t i = decoder_.size(); i-- > 0;)
      d = decoder_[i].backward(std::move(d), d_memory, s.decoder[i], gradient.decoder_[i]);
    words_.backward(d, b.target.tokens, gradient.words_);
    d = memory_norm_.backward(d_memory, s.memory_norm, gradient.memory_norm_);
    for (std::size_t i = encoder_.size(); i-- > 0;)
      d = encoder_[i].backward(std::move(d), s.encoder[i], gradient.encoder_[i]);
    for (std::size_t i = delta_.size(); i-- > 0;)
      d = delta_[i].backward(std::move(d), s.delta[i], gradient.delta_[i]);
    words_.backward(d, b.source.tokens, gradient.words_);
  }

  static void each_parameter(const std::string& name, const auto& f, auto&... of) {
    const auto& first = std::get<0>(std::tie(of...));
    transformer::embedding<float>::each_parameter(part(name, "words"), f, of.words_...);
    for (std::size_t i = 0; i < first.delta_.size(); ++i)
      delta_layer::each_parameter(part(name, "delta." + std::to_string(i)), f, of.delta_[i]...);
    for (std::size_t i = 0; i < first.encoder_.size(); ++i)
      encoder_layer::each_parameter(part(name, "encoder." + std::to_string(i)), f, of.encoder_[i]...);
    norm::each_parameter(part(name, "memory_norm"), f, of.memory_norm_...);
    for (std::size_t i = 0; i < first.decoder_.size(); ++i)
      decoder_layer::each_parameter(part(name, "decoder." + std::to_string(i)), f, of.decoder_[i]...);
    norm::each_parameter(part(name, "last_norm"), f, of.last_norm_...);
  }

  const std::vector<decoder_layer>& decoder() const { return decoder_; }
  const transformer::embedding<float>& words() const { return words_; }
  const norm& last_norm() const { return last_norm_; }

 private:
  std::shared_ptr<const fovea::rotary_table<float>> table_;  // copies and gradients refer to it
  transformer::embedding<float> words_;                      // of sources and targets, and of the logits
  std::vector<delta_layer> delta_;
  std::vector<encoder_layer> encoder_;
  std::vector<decoder_layer> decoder_;
  norm memory_norm_, last_norm_;
};

}  // namespace translate
