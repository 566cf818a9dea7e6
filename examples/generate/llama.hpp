// llama.hpp - a language model of the Llama architecture: RMS norms, rotary positions, grouped-query
// attention, SwiGLU. Touvron et al., arXiv:2302.13971. Weights are float; products by Eigen, attention by
// fovea.
#pragma once

#include "memory.hpp"
#include "weights.hpp"

#include <chrono>
#include <cmath>

namespace generate {

struct llama_config {
  int layers, heads, kv_heads, hidden, inner, dim;
  std::ptrdiff_t context;
  double rotary_base;
  float epsilon;

  explicit llama_config(const gguf& file) {
    if (file.text("general.architecture") != "llama")
      throw input_error("the model's architecture is " + file.text("general.architecture") + ", not llama");
    const auto size = [&](const char* key) {
      const auto n = file.integer(std::string("llama.") + key);
      if (n < 1 || n > 1 << 24)
        throw input_error(std::string("the model's llama.") + key + " is " + std::to_string(n));
      return static_cast<int>(n);
    };
    layers = size("block_count"), heads = size("attention.head_count"),
    kv_heads = size("attention.head_count_kv");
    hidden = size("embedding_length"), inner = size("feed_forward_length"), context = size("context_length");
    if (hidden % heads != 0 || heads % kv_heads != 0)
      throw input_error("the model has " + std::to_string(hidden) + " dimensions for " +
                        std::to_string(heads) + " heads and " + std::to_string(kv_heads) +
                        " key/value heads");
    dim = hidden / heads;
    rotary_base = file.number("llama.rope.freq_base");
    epsilon = static_cast<float>(file.number("llama.attention.layer_norm_rms_epsilon"));
  }
};

class llama {
 public:
  llama(const gguf& file, int vocabulary, fovea::threads& pool)
      : config_(file),
        pool_(pool),
        weights_(file),
        embedding_(weights_.take(file, "token_embd.weight", vocabulary, config_.hidden)),
        output_(file.has_tensor("output.weight")
                    ? weights_.take(file, "output.weight", vocabulary, config_.hidden)
                    : embedding_),
        norm_(weights_.take(file, "output_norm.weight", 1, config_.hidden)) {
    const auto& c = config_;
    for (int i = 0; i < c.layers; ++i) {
      const auto part = [&](const char* name, int rows, int columns) {
        return weights_.take(file, "blk." + std::to_string(i) + "." + name + ".weight", rows, columns);
      };
      const int kv = c.kv_heads * c.dim;
      layers_.push_back({part("attn_norm", 1, c.hidden), part("attn_q", c.hidden, c.hidden),
                         part("attn_k", kv, c.hidden), part("attn_v", kv, c.hidden),
                         part("attn_output", c.hidden, c.hidden), part("ffn_norm", 1, c.hidden),
                         part("ffn_gate", c.inner, c.hidden), part("ffn_up", c.inner, c.hidden),
                         part("ffn_down", c.hidden, c.inner)});
    }
  }

  const llama_config& config() const { return config_; }
  memory_options memory_for(layout how, std::ptrdiff_t capacity, std::ptrdiff_t sinks) const {
    return {config_.layers, config_.heads, config_.kv_heads, config_.dim, capacity, sinks, how};
  }

  /// The logits of what follows each of `tokens` (of the last alone, unless all are wanted), which come after
  /// what `past` remembers, and are remembered then.
  Matrix operator()(const std::vector<int>& tokens, memory& past, bool all = false) {
    const auto first = past.position(), n = static_cast<std::ptrdiff_t>(tokens.size());
    const auto angles = angles_for(first + n);
    Matrix x(n, config_.hidden);
    for (std::ptrdiff_t t = 0; t < n; ++t) x.row(t) = embedding_.row(tokens[static_cast<std::size_t>(t)]);
    Matrix attended(n, config_.hidden);
    for (int i = 0; i < config_.layers; ++i) {
      const layer& l = layers_[static_cast<std::size_t>(i)];
      const Matrix h = normed(x, l.attention_norm);
      Matrix q = product(h, l.query);
      const Matrix k = product(h, l.key), v = product(h, l.value);
      const auto start = std::chrono::steady_clock::now();
      fovea::rotate(q, angles,
                    {.heads = config_.heads, .pairs = fovea::rotary_pairs::interleaved, .first = first});
      past.attend(i, attended, q, k, v, angles, pool_);
      attention_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      x += product(attended, l.output);
      const Matrix g = normed(x, l.feed_forward_norm);
      const Matrix gate = product(g, l.gate);
      x += product((gate.array() / (1 + (-gate.array()).exp()) * product(g, l.up).array()).matrix(), l.down);
    }
    const Matrix last = all ? normed(x, norm_) : normed(x.bottomRows(1), norm_);
    return product(last, output_);
  }

  /// Seconds spent in attention, the caches' part included.
  double attention_seconds() const { return attention_seconds_; }

 private:
  struct layer {
    weight attention_norm, query, key, value, output, feed_forward_norm, gate, up, down;
  };

  Matrix normed(const Matrix& x, const weight& gain) const {
    const Eigen::VectorXf scale =
        (x.rowwise().squaredNorm() / static_cast<float>(x.cols())).array() + config_.epsilon;
    return (x.array().colwise() * scale.array().rsqrt()).rowwise() * gain.row(0).array();
  }

  /// x W^T, the rows of W shared out to the pool.
  Matrix product(const Matrix& x, const weight& w) const {
    Matrix y(x.rows(), w.rows());
    const std::ptrdiff_t parts = w.size() * x.rows() < 100'000 ? 1 : pool_.workers();
    pool_.for_each(parts, [&](fovea::index_type part, fovea::index_type) {
      const auto from = w.rows() * part / parts, to = w.rows() * (part + 1) / parts;
      if (x.rows() == 1)  // a dot product a row: Eigen's product takes 8 rows at once, 1.6 times as long
        y.row(0).segment(from, to - from).transpose().noalias() =
            w.middleRows(from, to - from).lazyProduct(x.row(0).transpose());
      else
        y.middleCols(from, to - from).noalias() = x * w.middleRows(from, to - from).transpose();
    });
    return y;
  }

  /// A table as long as any position so far, doubled when it gets too short.
  fovea::rotary_angles<float> angles_for(std::ptrdiff_t positions) {
    if (positions > table_.angles().cos.rows)
      table_ = fovea::rotary_table<float>(std::max<std::ptrdiff_t>(2 * positions, 1024), config_.dim,
                                          config_.rotary_base);
    return table_.angles();
  }

  llama_config config_;
  fovea::threads& pool_;
  weights weights_;
  weight embedding_, output_, norm_;
  std::vector<layer> layers_;
  fovea::rotary_table<float> table_{0, 0};
  double attention_seconds_ = 0;
};

}  // namespace generate
