// translate/decode.hpp - targets said token by token: greedy, and by beam search.
#pragma once

#include "model.hpp"

#include <limits>
#include <numeric>

namespace translate {

/// Sources that are being translated, each by some hypotheses. What the decoder looks at is projected once,
/// and its own past is kept in paged caches, which hypotheses share as far as they agree.
class decoding {
 public:
  static constexpr fovea::index_type limit = 32;  // tokens of a target

  decoding(const model& m, const packed& source, fovea::index_type hypotheses) : model_(m) {
    const matrix memory = m.memory_of(source);
    const fovea::index_type rows = source.texts() * hypotheses;
    for (fovea::index_type b = 0; b <= source.texts(); ++b) from_.push_back(b * hypotheses);
    for (const decoder_layer& l : m.decoder()) {
      const auto& o = l.attend.options();
      memory_.push_back(l.look.project({memory, source.offsets}));
      pools_.push_back(std::make_unique<fovea::page_pool<float>>(fovea::pool_options{
          .pages = rows * (limit / page + 1), .page_tokens = page, .heads = o.heads, .dim = o.dim}));
      auto& caches = caches_.emplace_back();
      for (fovea::index_type i = 0; i < rows; ++i) caches.emplace_back(*pools_.back());
    }
  }

  /// Row i: the logits of what follows tokens[i], the newest of hypothesis i.
  matrix operator()(std::span<const int> tokens) {
    matrix x = model_.words()(tokens);
    for (std::size_t i = 0; i < memory_.size(); ++i) {
      std::vector<fovea::paged_cache<float>*> caches;
      for (auto& c : caches_[i]) caches.push_back(&c);
      x = model_.decoder()[i](std::move(x), from_, caches, memory_[i]);
    }
    return model_.words().logits(model_.last_norm()(x));
  }

  /// Hypothesis i becomes what hypothesis kept[i] was.
  void reorder(const std::vector<fovea::index_type>& kept) {
    for (auto& caches : caches_) fovea::reorder(std::span(caches), std::span<const fovea::index_type>(kept));
  }

 private:
  static constexpr fovea::index_type page = 8;

  const model& model_;
  std::vector<fovea::index_type> from_;
  std::vector<attention::keys_values> memory_;
  std::vector<std::unique_ptr<fovea::page_pool<float>>> pools_;
  std::vector<std::vector<fovea::paged_cache<float>>> caches_;
};

/// The likeliest token after the likeliest token, for several sources at a time; without `end`.
inline std::vector<std::vector<int>> greedy(const model& m, const packed& source) {
  const auto texts = static_cast<std::size_t>(source.texts());
  std::vector<std::vector<int>> written(texts);
  std::vector<int> newest(texts, characters::begin);
  std::vector<bool> done(texts, false);
  decoding step(m, source, 1);
  for (fovea::index_type n = 0; n < decoding::limit && std::ranges::count(done, false) > 0; ++n) {
    const matrix logits = step(newest);
    for (std::size_t b = 0; b < texts; ++b) {
      Eigen::Index best = 0;
      logits.row(static_cast<Eigen::Index>(b)).maxCoeff(&best);
      newest[b] = static_cast<int>(best);
      if (best == characters::end) done[b] = true;
      if (!done[b]) written[b].push_back(newest[b]);
    }
  }
  return written;
}

/// The best of the targets that a beam of `width` hypotheses finds, by log-probability a token (Sutskever et
/// al., arXiv:1409.3215; of Wu et al., arXiv:1609.08144, 7, the length norm with alpha 1). A beam of 1 is
/// greedy.
inline std::vector<int> beam_search(const model& m, std::span<const int> source, fovea::index_type width) {
  struct hypothesis {
    std::vector<int> written;
    double score = 0;
    bool live = true;
  };
  struct candidate {
    double score;
    fovea::index_type of;
    int token;
  };
  packed one;
  one.add(source);
  decoding step(m, one, width);
  std::vector<hypothesis> beam(static_cast<std::size_t>(width));
  for (std::size_t i = 1; i < beam.size(); ++i) beam[i].live = false;  // all begin alike
  std::vector<hypothesis> finished;
  const auto per_token = [](const hypothesis& h) {
    return h.score / (static_cast<double>(h.written.size()) + 1);
  };

  for (fovea::index_type n = 0;
       n < decoding::limit && static_cast<fovea::index_type>(finished.size()) < width; ++n) {
    std::vector<int> newest;
    for (const auto& h : beam) newest.push_back(h.written.empty() ? characters::begin : h.written.back());
    const matrix logits = step(newest);
    std::vector<candidate> all;
    for (std::size_t i = 0; i < beam.size(); ++i) {
      if (!beam[i].live) continue;
      const auto row = logits.row(static_cast<Eigen::Index>(i)).cast<double>().array().eval();
      const double total = row.maxCoeff() + std::log((row - row.maxCoeff()).exp().sum());
      for (Eigen::Index t = 0; t < row.size(); ++t)
        all.push_back(
            {beam[i].score + row(t) - total, static_cast<fovea::index_type>(i), static_cast<int>(t)});
    }
    const auto most = std::min(all.size(), 2 * beam.size());
    std::ranges::partial_sort(all, all.begin() + static_cast<std::ptrdiff_t>(most), std::greater{},
                              &candidate::score);
    std::vector<hypothesis> next;
    std::vector<fovea::index_type> kept;
    for (std::size_t c = 0; c < most && next.size() < beam.size(); ++c) {
      hypothesis h{beam[static_cast<std::size_t>(all[c].of)].written, all[c].score};
      if (all[c].token == characters::end) {
        if (c < beam.size()) finished.push_back(std::move(h));
        continue;
      }
      h.written.push_back(all[c].token);
      next.push_back(std::move(h)), kept.push_back(all[c].of);
    }
    while (next.size() < beam.size()) next.push_back({{}, 0, false}), kept.push_back(0);
    step.reorder(kept);
    beam = std::move(next);
  }
  if (finished.empty()) return beam.front().written;
  return std::ranges::max(finished, {}, per_token).written;
}

}  // namespace translate
