// glimpse/train.hpp - training, and how well a model does without chance: at its likeliest patch.
#pragma once

#include "model.hpp"

#include "../transformer/adamw.hpp"

namespace glimpse {

struct training {
  Index steps = 1000, batch = 128;
  double rate = 0.003;
  double curiosity = 0.3;  // at first; it falls to 0
  std::uint64_t seed = 1;
};

/// progress(step, score of its batch) after each step.
template <class Progress>
model train(const training& options, const Progress& progress) {
  model m, gradient = transformer::zeros_like(m);
  auto parameters = transformer::parameters_of<float>(m, gradient);
  transformer::adamw<float> optimiser(parameters, {.weight_decay = 0});
  double baseline = 0;  // the running mean of blame
  for (Index step = 0; step < options.steps; ++step) {
    const pictures x = draw(options.batch, transformer::random_key(options.seed, step));
    const looked s = look_at(m, x, fovea::sampled{transformer::random_key(options.seed, step, 1)});
    const double left = 1 - double(step) / double(options.steps);
    Matrix blame = blame_of(s, x, options.curiosity * left);
    const double mean = double(blame.mean());
    baseline = step == 0 ? mean : baseline + 0.1 * (mean - baseline);
    blame.array() -= float(baseline);
    transformer::set_zero(gradient);
    add_gradient(m, s, x, blame, gradient);
    optimiser.step(parameters, options.rate);
    const score now = score_of(s, x);
    progress(step, now);
  }
  return m;
}

/// On pictures that no training sees.
inline score test(const model& m, Index count, std::uint64_t seed) {
  const pictures x = draw(count, transformer::random_key(seed, 0x7e57, 0x7e57));
  return score_of(look_at(m, x, fovea::argmax{}), x);
}

}  // namespace glimpse
