// patches/train.hpp - training on scenes, no two of which are the same, and how well a model does.
#pragma once

#include "model.hpp"

#include "../transformer/adamw.hpp"
#include "../transformer/clip.hpp"
#include "../transformer/schedule.hpp"

namespace patches {

struct training {
  Index steps = 600, batch = 32;
  double rate = 0.002;
  std::uint64_t seed = 1;
};

struct scenes {
  std::vector<scene> pictures;
  std::vector<int> shape;
};

inline scenes draw_scenes(Index number, std::uint64_t key) {
  scenes drawn;
  for (Index i = 0; i < number; ++i) {
    drawn.pictures.push_back(draw_scene(transformer::random_key(key, i)));
    drawn.shape.push_back(drawn.pictures.back().shape);
  }
  return drawn;
}

/// progress(step, mean loss of its batch) after each step.
template <class Progress>
model train(const training& options, const Progress& progress) {
  model m, gradient = transformer::zeros_like(m);
  auto parameters = transformer::parameters_of<float>(m, gradient);
  transformer::adamw<float> optimiser(parameters);
  const transformer::cosine_schedule rate{options.rate, options.rate / 50, options.steps / 10, options.steps};
  for (Index step = 0; step < options.steps; ++step) {
    const scenes x = draw_scenes(options.batch, transformer::random_key(options.seed, step));
    saved s;
    const auto loss = transformer::cross_entropy<float>()(logits_of(m, x.pictures, s), x.shape);
    transformer::set_zero(gradient);
    add_gradient(m, loss.gradient, s, gradient);
    transformer::clip_gradients<float>(parameters, 1);
    optimiser.step(parameters, rate(step + 1));
    progress(step, loss.mean());
  }
  return m;
}

/// Of pictures that no training sees: how many are named right, and how much of the attention lies on patches
/// that the shape covers in part, over the share of such patches (1: it is spread evenly).
struct score {
  double right = 0, attention = 0;
};

inline score test(const model& m, Index number, std::uint64_t seed) {
  score mean;
  for (const scene& x : draw_scenes(number, transformer::random_key(seed, 0x7e57)).pictures) {
    const answer found = look_at(m, x);
    mean.right += double(found.shape == x.shape) / double(number);
    double on_shape = 0, covered = 0;
    for (Index p = 0; p < count; ++p) {
      bool shown = false;
      for (Index i = 0; i < patch * patch; ++i)
        shown |= x.shows(double(p % across * patch + i % patch) + 0.5,
                         double(p / across * patch + i / patch) + 0.5);
      if (shown) on_shape += double(found.attention(p / across, p % across)), covered += 1 / double(count);
    }
    mean.attention += on_shape / covered / double(number);
  }
  return mean;
}

}  // namespace patches
