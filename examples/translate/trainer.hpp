// translate/trainer.hpp - training from random weights: batches in two halves, AdamW, a warm-up and half a
// cosine down to 0.
#pragma once

#include "decode.hpp"

#include "../transformer/adamw.hpp"
#include "../transformer/clip.hpp"
#include "../transformer/cross_entropy.hpp"
#include "../transformer/schedule.hpp"

#include <array>

namespace translate {

/// All that a run is a function of, but for its length so far.
struct training_config {
  std::int64_t seed = 1, steps = 3000, batch = 128, warm_up = 300;
  double peak = 2e-3, smoothing = 0, clip = 1, weight_decay = 0.01;

  /// The same over `steps` steps, of which at most a tenth warm up.
  training_config over(std::int64_t steps_wanted) const {
    training_config config = *this;
    config.steps = steps_wanted;
    config.warm_up = std::min(training_config{}.warm_up, steps_wanted / 10);
    return config;
  }

  static void each(auto& config, const auto& f) {
    f("seed", config.seed), f("steps", config.steps), f("batch", config.batch), f("warm_up", config.warm_up);
    f("peak", config.peak), f("smoothing", config.smoothing), f("clip", config.clip);
    f("weight_decay", config.weight_decay);
  }
};

class trainer {
 public:
  struct report {
    double loss;          // mean over the tokens of the targets
    std::int64_t tokens;  // of sources and targets
  };

  trainer(const model_config& model_of, const training_config& config)
      : config_(config),
        model_(model_of, static_cast<std::uint64_t>(config.seed)),
        gradients_{transformer::zeros_like(model_), transformer::zeros_like(model_)},
        parameters_(transformer::parameters_of<float>(model_, gradients_[0])),
        optimiser_(parameters_, {.weight_decay = config.weight_decay}) {}
  trainer(const trainer&) = delete;  // parameters_ refers to the others
  trainer& operator=(const trainer&) = delete;

  /// One step. Pairs of a step and a half are a function of the seed; each half has a gradient of its own,
  /// and they are added in order: the same bits for any executor and after any interruption.
  template <class Executor>
  report step(const Executor& executor) {
    const std::int64_t step = optimiser_.steps() + 1;
    std::array<batch, halves> parts;
    for (std::int64_t i = 0; i < config_.batch; ++i)
      parts[static_cast<std::size_t>(i % halves)].add(
          training_pair(static_cast<std::uint64_t>(config_.seed),
                        static_cast<std::uint64_t>((step - 1) * config_.batch + i)),
          known_);
    const auto divisor = static_cast<Eigen::Index>(parts[0].next.size() + parts[1].next.size());
    const transformer::cross_entropy<float> wrong{.smoothing = static_cast<float>(config_.smoothing)};
    std::array<double, halves> sums{};
    executor.for_each(halves, [&](fovea::index_type part, fovea::index_type) {
      const auto at = static_cast<std::size_t>(part);
      transformer::set_zero(gradients_[at]);
      const auto l = wrong(model_(parts[at], saved_[at]), parts[at].next, divisor);
      model_.backward(l.gradient, parts[at], saved_[at], gradients_[at]);
      sums[at] = l.sum;
    });
    transformer::add(gradients_[0], gradients_[1]);
    transformer::clip_gradients<float>(parameters_, config_.clip);
    const transformer::cosine_schedule rate{config_.peak, 0, config_.warm_up, config_.steps};
    optimiser_.step(parameters_, rate(step));
    report r{(sums[0] + sums[1]) / static_cast<double>(divisor), 0};
    for (const batch& b : parts)
      r.tokens += static_cast<std::int64_t>(b.source.tokens.size() + b.target.tokens.size());
    return r;
  }

  /// Ends after `steps` steps in all, from which the rest of the schedule follows.
  void end_after(std::int64_t steps) { config_ = config_.over(std::max(steps, optimiser_.steps())); }

  std::int64_t steps() const { return optimiser_.steps(); }
  bool done() const { return steps() >= config_.steps; }
  const training_config& config() const { return config_; }
  const model& trained() const { return model_; }
  const characters& known() const { return known_; }

  /// What a checkpoint holds beside the number of steps: f(name, matrix) for the weights, and, where
  /// `optimiser`, for AdamW's moments.
  void each_matrix(const auto& f) {
    for (auto& p : parameters_) f(p.name, p.value);
    optimiser_.each_state(f);
  }
  void resume(std::int64_t steps) { optimiser_.resume(steps); }

 private:
  static constexpr std::int64_t halves = 2;

  training_config config_;
  characters known_;
  model model_;
  std::array<model, halves> gradients_;
  std::array<model::saved, halves> saved_;
  std::vector<transformer::parameter<float>> parameters_;
  transformer::adamw<float> optimiser_;
};

/// How many of some held-out pairs are translated without any error, by i % 3 as dates.hpp says: new dates,
/// new combinations of styles, both.
struct exact_matches {
  std::array<std::int64_t, 3> right{}, asked{};
  std::vector<std::pair<pair, std::string>> wrong;  // and what was said

  double share() const {
    return static_cast<double>(right[0] + right[1] + right[2]) /
           static_cast<double>(std::max<std::int64_t>(asked[0] + asked[1] + asked[2], 1));
  }
};

/// Greedy, over the held-out pairs first to first + count of a seed, some at a time.
template <class Executor>
exact_matches held_out_matches(const model& m, const characters& known, std::uint64_t seed,
                               std::uint64_t first, std::uint64_t count, const Executor& executor) {
  constexpr std::uint64_t together = 64;
  const std::uint64_t groups = (count + together - 1) / together;
  std::vector<std::vector<std::string>> written(groups);
  executor.for_each(static_cast<fovea::index_type>(groups), [&](fovea::index_type group, fovea::index_type) {
    packed source;
    const auto g = static_cast<std::uint64_t>(group);
    for (std::uint64_t i = g * together; i < std::min(count, (g + 1) * together); ++i)
      source.add(known.encode(held_out_pair(seed, first + i).source));
    for (const auto& text : greedy(m, source)) written[g].push_back(known.decode(text));
  });
  exact_matches result;
  for (std::uint64_t i = 0; i < count; ++i) {
    const pair p = held_out_pair(seed, first + i);
    const std::string& text = written[i / together][i % together];
    ++result.asked[(first + i) % 3];
    if (text == p.target)
      ++result.right[(first + i) % 3];
    else
      result.wrong.emplace_back(p, text);
  }
  return result;
}

}  // namespace translate
