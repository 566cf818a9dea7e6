// The parts of a Transformer put together: a small model learns, the same on one thread and on two.
#include "transformer/adamw.hpp"
#include "transformer/clip.hpp"
#include "transformer/cross_entropy.hpp"
#include "transformer/dropout.hpp"
#include "transformer/embedding.hpp"
#include "transformer/feed_forward.hpp"
#include "transformer/layer_norm.hpp"
#include "transformer/schedule.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace {

using namespace transformer;

/// Says what follows a token: embedding, a feed-forward block around which x flows on, the embedding again.
struct small_model {
  embedding<float> words;
  layer_norm<float> norm, last;
  feed_forward<float> think;

  struct saved {
    layer_norm<float>::saved norm, last;
    feed_forward<float>::saved think;
    Matrix<float> seen;
  };

  small_model(Index vocabulary, Index channels)
      : words(vocabulary, channels, random_key(1, 0)),
        norm(channels),
        last(channels),
        think(channels, 2 * channels, random_key(1, 1)) {}

  Matrix<float> operator()(std::span<const int> tokens, saved& s, std::uint64_t key) const {
    Matrix<float> x = words(tokens);
    Matrix<float> y = think(norm(x, s.norm), s.think);
    drop(y, key);
    x += y;
    s.seen = last(std::move(x), s.last);
    return words.logits(s.seen);
  }

  void backward(const Matrix<float>& dlogits, std::span<const int> tokens, const saved& s, std::uint64_t key,
                small_model& gradient) const {
    Matrix<float> dx =
        last.backward(words.logits_backward(dlogits, s.seen, gradient.words), s.last, gradient.last);
    Matrix<float> dy = dx;
    drop(dy, key);
    dx += norm.backward(think.backward(dy, s.think, gradient.think), s.norm, gradient.norm);
    words.backward(dx, tokens, gradient.words);
  }

  static void each_parameter(const std::string& name, const auto& f, auto&... of) {
    embedding<float>::each_parameter(part(name, "words"), f, of.words...);
    layer_norm<float>::each_parameter(part(name, "norm"), f, of.norm...);
    layer_norm<float>::each_parameter(part(name, "last"), f, of.last...);
    feed_forward<float>::each_parameter(part(name, "think"), f, of.think...);
  }

  static constexpr dropout drop{.rate = 0.1};
};

/// The losses of some steps towards "3 t + 1 follows t", each batch in two parts.
std::vector<double> losses(small_model& model, bool two_threads) {
  constexpr int vocabulary = 11, steps = 150;
  constexpr Index batch = 32;
  const cross_entropy<float> wrong{.smoothing = 0.05f};
  const inverse_sqrt_schedule rate{.peak = 0.01, .warm_up = 20};
  std::vector<small_model> gradients(2, zeros_like(model));
  std::vector<small_model::saved> kept(2);
  auto parameters = parameters_of<float>(model, gradients[0]);
  adamw<float> optimiser(parameters);
  std::vector<double> all;
  for (int step = 1; step <= steps; ++step) {
    std::vector<double> sums(2);
    const auto half = [&](int side) {
      const auto at = static_cast<std::size_t>(side);
      random_stream random(random_key(2, step, side));
      std::vector<int> tokens(batch / 2), next;
      for (int& t : tokens)
        next.push_back((3 * (t = static_cast<int>(random.below(vocabulary))) + 1) % vocabulary);
      set_zero(gradients[at]);
      const std::uint64_t key = random_key(3, step, side);
      const auto l = wrong(model(tokens, kept[at], key), next, batch);
      model.backward(l.gradient, tokens, kept[at], key, gradients[at]);
      sums[at] = l.sum;
    };
    if (two_threads) {
      std::thread other(half, 1);
      half(0);
      other.join();
    } else {
      half(1), half(0);
    }
    add(gradients[0], gradients[1]);
    clip_gradients<float>(parameters, 1);
    optimiser.step(parameters, rate(step));
    all.push_back((sums[0] + sums[1]) / batch);
  }
  return all;
}

TEST(Training, LearnsTheSameOnOneThreadAndOnTwo) {
  small_model one(11, 16), two = one;
  const auto alone = losses(one, false), together = losses(two, true);
  EXPECT_GT(alone.front(), 1.5);
  EXPECT_LT(alone.back(), 0.6) << "smoothed labels alone cost 0.3";
  EXPECT_EQ(alone, together);
  const auto same = [](const std::string& name, const auto& a, const auto& b) { EXPECT_EQ(a, b) << name; };
  small_model::each_parameter("", same, one, two);
}

}  // namespace
