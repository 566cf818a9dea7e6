// llama.hpp - a language model of the Llama architecture: RMS norms, rotary positions, grouped-query
// attention, SwiGLU. Touvron et al., arXiv:2302.13971. Weights are float; products by Eigen, attention by
// fovea.
#pragma once

#include "llama_config.hpp"
#include "memory.hpp"
#include "rotation.hpp"
#include "weights.hpp"

#include <chrono>

namespace generate {

class llama {
 public:
  llama(const gguf& file, int vocabulary, fovea::threads& pool)
      : config_(file, vocabulary),
        pool_(pool),
        weights_(file),
        embedding_(weights_.take(file, "token_embd.weight", vocabulary, config_.hidden)),
        output_(file.has_tensor("output.weight")
                    ? weights_.take(file, "output.weight", vocabulary, config_.hidden)
                    : embedding_),
        norm_(weights_.take(file, "output_norm.weight", 1, config_.hidden)),
        rotation_(config_.rotary, factors(file)) {
    const auto& c = config_;
    const Eigen::Index q = c.heads * c.dim, kv = c.kv_heads * c.dim;
    for (Eigen::Index i = 0; i < c.layers; ++i) {
      const std::string block = "blk." + std::to_string(i) + ".";
      const auto gain = [&](const char* name) {
        return weights_.take(file, block + name + ".weight", 1, c.hidden);
      };
      const auto map = [&](const char* name, Eigen::Index rows, Eigen::Index columns) {
        const std::string bias = block + name + ".bias";
        return linear_map{weights_.take(file, block + name + ".weight", rows, columns),
                          file.has_tensor(bias) ? weights_.take(file, bias, 1, rows) : weight(nullptr, 1, 0)};
      };
      layers_.push_back({gain("attn_norm"), gain("ffn_norm"), map("attn_q", q, c.hidden),
                         map("attn_k", kv, c.hidden), map("attn_v", kv, c.hidden),
                         map("attn_output", c.hidden, q), map("ffn_gate", c.inner, c.hidden),
                         map("ffn_up", c.inner, c.hidden), map("ffn_down", c.hidden, c.inner)});
    }
    weights_.check_all_taken(file);
  }

  const llama_config& config() const { return config_; }
  memory_options memory_for(layout how, Eigen::Index tokens, Eigen::Index sinks) const {
    return {config_.layers, config_.heads, config_.kv_heads, config_.dim, tokens, sinks, how};
  }

  /// The logits of what follows each of `tokens` (of the last alone, unless all are wanted), which come after
  /// what `past` remembers, and are remembered then.
  Matrix operator()(const std::vector<int>& tokens, memory& past, bool all = false) {
    const auto first = past.position(), n = static_cast<std::ptrdiff_t>(tokens.size());
    const auto angles = rotation_.angles(first + n);
    Matrix x(n, config_.hidden);
    for (std::ptrdiff_t t = 0; t < n; ++t) x.row(t) = embedding_.row(tokens[static_cast<std::size_t>(t)]);
    Matrix attended(n, config_.heads * config_.dim);
    for (Eigen::Index i = 0; i < config_.layers; ++i) {
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
    return product(last, {output_, weight(nullptr, 1, 0)});
  }

  /// Seconds spent in attention, the caches' part included.
  double attention_seconds() const { return attention_seconds_; }

 private:
  /// W x + b; b of size 0 where there is none.
  struct linear_map {
    weight w, b;
  };
  struct layer {
    weight attention_norm, feed_forward_norm;
    linear_map query, key, value, output, gate, up, down;
  };

  /// What the frequencies of the rotation are divided by, where the file says so.
  std::vector<float> factors(const gguf& file) {
    if (!file.has_tensor("rope_freqs.weight")) return {};
    const weight all = weights_.take(file, "rope_freqs.weight", 1, config_.rotary_dim / 2);
    if (!(all.array() > 0 && all.array() < std::numeric_limits<float>::infinity()).all())
      file.fail("has a tensor rope_freqs.weight with a number that is not above 0");
    return {all.data(), all.data() + all.size()};
  }

  Matrix normed(const Matrix& x, const weight& gain) const {
    const Eigen::VectorXf scale =
        (x.rowwise().squaredNorm() / static_cast<float>(x.cols())).array() + config_.epsilon;
    return (x.array().colwise() * scale.array().rsqrt()).rowwise() * gain.row(0).array();
  }

  /// x W^T + b, the rows of W shared out to the pool.
  Matrix product(const Matrix& x, const linear_map& map) const {
    const weight& w = map.w;
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
    if (map.b.size() > 0) y.rowwise() += map.b.row(0);
    return y;
  }

  llama_config config_;
  fovea::threads& pool_;
  weights weights_;
  weight embedding_, output_, norm_;
  rotation rotation_;
  std::vector<layer> layers_;
  double attention_seconds_ = 0;
};

}  // namespace generate
