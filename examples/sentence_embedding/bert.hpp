// The encoder of BERT (Devlin et al., arXiv:1810.04805) with fovea's attention: trained weights in, token
// vectors out.
#pragma once

#include "safetensors.hpp"
#include "settings.hpp"

#include <fovea/attention.hpp>

#include <unsupported/Eigen/SpecialFunctions>

namespace embedding {

using Row = Eigen::Matrix<float, 1, Eigen::Dynamic>;

struct bert_config {
  Eigen::Index hidden, inner, layers, heads, vocabulary, positions, types;
  float epsilon;

  explicit bert_config(const std::filesystem::path& path) {
    const settings file(path);
    file.expect("model_type", {"bert"});
    file.expect("hidden_act", {"gelu"});
    file.expect("position_embedding_type", {"absolute"});
    file.expect("is_decoder", false), file.expect("add_cross_attention", false);
    file.expect_empty("pruned_heads"), file.expect_empty("quantization_config");
    const auto count = [&](const char* key) {
      return static_cast<Eigen::Index>(file.integer(key, 1, 1 << 30));
    };
    hidden = count("hidden_size"), inner = count("intermediate_size"), layers = count("num_hidden_layers");
    heads = count("num_attention_heads"), vocabulary = count("vocab_size");
    positions = count("max_position_embeddings"), types = count("type_vocab_size");
    epsilon = static_cast<float>(file.number("layer_norm_eps"));
    if (!(epsilon >= 0)) file.refuse("layer_norm_eps", "below 0");
    if (hidden % heads != 0)
      throw input_error(path.string() + ": " + std::to_string(heads) + " heads do not divide hidden_size " +
                        std::to_string(hidden));
  }
};

/// How the token vectors of a sentence become one: their mean, the first one ([CLS]), the greatest number of
/// each dimension, or their sum over the square root of their number.
enum class pooling { mean, first, greatest, mean_sqrt };

/// y = x W^T + b
struct linear {
  Matrix weight;
  Row bias;

  linear(const safetensors& file, const std::string& name, Eigen::Index in, Eigen::Index out)
      : weight(file.widened(name + ".weight", out, in)), bias(file.widened(name + ".bias", 1, out)) {}
  Matrix operator()(const Matrix& x) const { return (x * weight.transpose()).rowwise() + bias; }
};

struct layer_norm {
  Row weight, bias;
  float epsilon;

  layer_norm(const safetensors& file, const std::string& name, const bert_config& c)
      : weight(file.widened(name + ".weight", 1, c.hidden)),
        bias(file.widened(name + ".bias", 1, c.hidden)),
        epsilon(c.epsilon) {}
  Matrix operator()(Matrix x) const {
    for (Eigen::Index i = 0; i < x.rows(); ++i) {
      x.row(i).array() -= x.row(i).mean();
      const float deviation = std::sqrt(x.row(i).squaredNorm() / static_cast<float>(x.cols()) + epsilon);
      x.row(i) = (x.row(i).array() / deviation * weight.array() + bias.array()).matrix();
    }
    return x;
  }
};

inline Matrix gelu(const Matrix& x) {
  return (0.5f * x.array() * (1.f + (x.array() * static_cast<float>(M_SQRT1_2)).erf())).matrix();
}

struct bert_layer {
  linear query, key, value, output, widen, narrow;
  layer_norm after_attention, after_feed_forward;

  bert_layer(const safetensors& f, const std::string& name, const bert_config& c)
      : query(f, name + ".attention.self.query", c.hidden, c.hidden),
        key(f, name + ".attention.self.key", c.hidden, c.hidden),
        value(f, name + ".attention.self.value", c.hidden, c.hidden),
        output(f, name + ".attention.output.dense", c.hidden, c.hidden),
        widen(f, name + ".intermediate.dense", c.hidden, c.inner),
        narrow(f, name + ".output.dense", c.inner, c.hidden),
        after_attention(f, name + ".attention.output.LayerNorm", c),
        after_feed_forward(f, name + ".output.LayerNorm", c) {}

  /// attend(q, k, v): the rows of all sequences in, each sequence attending to itself.
  Matrix operator()(const Matrix& x, const auto& attend) const {
    const Matrix y = after_attention(x + output(attend(query(x), key(x), value(x))));
    return after_feed_forward(y + narrow(gelu(widen(y))));
  }
};

class bert {
 public:
  /// normalise: each sentence's vector gets the length 1.
  bert(const std::filesystem::path& weights, const bert_config& config, pooling pool, bool normalise)
      : config_(config), pooling_(pool), normalise_(normalise) {
    const safetensors file(weights);
    words_ = file.widened("embeddings.word_embeddings.weight", config.vocabulary, config.hidden);
    positions_ = file.widened("embeddings.position_embeddings.weight", config.positions, config.hidden);
    types_ = file.widened("embeddings.token_type_embeddings.weight", config.types, config.hidden);
    norm_.emplace(file, "embeddings.LayerNorm", config);
    for (Eigen::Index i = 0; i < config.layers; ++i)
      layers_.emplace_back(file, "encoder.layer." + std::to_string(i), config);
    // What comes after the encoder's last layer, and 0, 1, 2, ..., is not needed; anything else would be.
    for (const std::string& name : file.unread())
      if (!name.starts_with("pooler.") && !name.starts_with("cls.") && name != "embeddings.position_ids")
        file.fail("has a tensor " + name + ", which an encoder of " + std::to_string(config.layers) +
                  " layers has no use for");
  }

  const bert_config& config() const { return config_; }

  /// Sentence embeddings, a row each. Sequences lie one after another.
  Matrix embed_ragged(const std::vector<std::vector<int>>& sentences) const {
    std::vector<fovea::index_type> offsets{0};
    for (const auto& s : sentences)
      offsets.push_back(offsets.back() + static_cast<fovea::index_type>(s.size()));
    const fovea::attention<float> attend({.heads = config_.heads});
    return embed(sentences, offsets.back(), offsets, [&](const Matrix& q, const Matrix& k, const Matrix& v) {
      return attend(fovea::ragged{q, offsets}, fovea::ragged{k, offsets}, fovea::ragged{v, offsets});
    });
  }

  /// The same from a padded batch: every sequence has the length of the longest, keys behind its own are
  /// masked.
  Matrix embed_padded(const std::vector<std::vector<int>>& sentences) const {
    std::size_t longest = 0;
    for (const auto& s : sentences) longest = std::max(longest, s.size());
    const auto batch = static_cast<fovea::index_type>(sentences.size()),
               tokens = static_cast<fovea::index_type>(longest);
    std::vector<fovea::index_type> starts, lengths;
    for (const auto& s : sentences) {
      starts.push_back(static_cast<fovea::index_type>(starts.size()) * tokens);
      lengths.push_back(static_cast<fovea::index_type>(s.size()));
    }
    const auto heads_of = [&](auto& m) {
      return fovea::bshd(m.data(), batch, tokens, config_.heads, config_.hidden / config_.heads);
    };
    const fovea::attention<float> attend({.heads = config_.heads});
    return embed(sentences, batch * tokens, starts, [&](const Matrix& q, const Matrix& k, const Matrix& v) {
      Matrix o(q.rows(), q.cols());
      attend.into(heads_of(o), heads_of(q), heads_of(k), heads_of(v), fovea::key_lengths{lengths});
      return o;
    });
  }

  /// What one sentence attends to: the probabilities of each layer, 1 x heads x tokens x tokens.
  std::vector<fovea::tensor<float>> attention_of(const std::vector<int>& sentence) const {
    const fovea::attention<float> attend({.heads = config_.heads});
    std::vector<fovea::tensor<float>> layers;
    embed({sentence}, static_cast<Eigen::Index>(sentence.size()), {0},
          [&](const Matrix& q, const Matrix& k, const Matrix& v) {
            layers.push_back(attend.weights(q, k));
            return attend(q, k, v);
          });
    return layers;
  }

 private:
  Matrix embed(const std::vector<std::vector<int>>& sentences, Eigen::Index rows,
               const std::vector<fovea::index_type>& starts, const auto& attend) const {
    Matrix x = Matrix::Zero(rows, config_.hidden);
    for (std::size_t s = 0; s < sentences.size(); ++s)
      for (std::size_t t = 0; t < sentences[s].size(); ++t)
        x.row(starts[s] + static_cast<Eigen::Index>(t)) =
            words_.row(sentences[s][t]) + positions_.row(static_cast<Eigen::Index>(t)) + types_.row(0);
    x = (*norm_)(std::move(x));
    for (const auto& layer : layers_) x = layer(x, attend);
    Matrix pooled(static_cast<Eigen::Index>(sentences.size()), config_.hidden);
    for (std::size_t s = 0; s < sentences.size(); ++s) {
      auto row = pooled.row(static_cast<Eigen::Index>(s));
      row = pool(x.middleRows(starts[s], static_cast<Eigen::Index>(sentences[s].size())));
      if (normalise_) row.normalize();
    }
    return pooled;
  }

  Row pool(const auto& tokens) const {
    switch (pooling_) {
      case pooling::first:
        return tokens.row(0);
      case pooling::greatest:
        return tokens.colwise().maxCoeff();
      case pooling::mean_sqrt:
        return tokens.colwise().sum() / std::sqrt(static_cast<float>(tokens.rows()));
      default:
        return tokens.colwise().mean();
    }
  }

  bert_config config_;
  pooling pooling_;
  bool normalise_;
  Matrix words_, positions_, types_;
  std::optional<layer_norm> norm_;
  std::vector<bert_layer> layers_;
};

}  // namespace embedding
