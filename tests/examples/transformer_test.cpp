// The parts around attention: gradients against central differences in double, the optimiser and the loss
// against closed forms.
#include "../support/max_abs.hpp"
#include "../support/worse.hpp"
#include "transformer/adamw.hpp"
#include "transformer/clip.hpp"
#include "transformer/cross_entropy.hpp"
#include "transformer/dropout.hpp"
#include "transformer/embedding.hpp"
#include "transformer/feed_forward.hpp"
#include "transformer/gated_delta.hpp"
#include "transformer/layer_norm.hpp"
#include "transformer/rms_norm.hpp"
#include "transformer/schedule.hpp"

#include <gtest/gtest.h>

#include <numeric>

namespace {

using namespace transformer;
using M = Matrix<double>;

constexpr Index tokens = 5, channels = 6;

/// d f / d value by central differences, against `slopes`; `value` is where f looks.
void expect_slopes(const auto& f, auto& value, const auto& slopes, const std::string& name) {
  ASSERT_EQ(value.size(), slopes.size()) << name;
  constexpr double h = 3e-5;
  double error = 0, scale = 0;
  for (Index i = 0; i < value.size(); ++i) {
    const double was = value.data()[i];
    const auto at = [&](double step) { return value.data()[i] = was + step, f(); };
    const double measured = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    value.data()[i] = was;
    error = fovea_test::worse(error, std::abs(measured - slopes.data()[i]));
    scale = std::max(scale, std::abs(measured));
  }
  EXPECT_GT(scale, 1e-3) << name;
  EXPECT_LT(error, 1e-8 * scale) << name;
}

/// Parameters away from the values they start with.
template <class Module>
void shake(Module& module) {
  std::uint64_t key = 7;
  Module::each_parameter(
      "", [&](const auto&, auto& p) { p += uniform_matrix<double>(p.rows(), p.cols(), 0.3, ++key); }, module);
}

template <class Module>
void expect_gradients(Module module) {
  shake(module);
  M x = uniform_matrix<double>(tokens, channels, 1.5, 1);
  typename Module::saved saved;
  const M y = module(x, saved);
  EXPECT_TRUE(y.isApprox(module(x), 1e-14)) << "training and inference differ";
  const M weights = uniform_matrix<double>(y.rows(), y.cols(), 1, 2);
  const auto f = [&] { return module(x).cwiseProduct(weights).sum(); };

  Module gradient = zeros_like(module);
  const M dx = module.backward(weights, saved, gradient);
  expect_slopes(f, x, dx, "x");
  std::vector<std::string> names;
  const auto check = [&](const std::string& name, auto& value, const auto& slopes) {
    names.push_back(name);
    expect_slopes(f, value, slopes, name);
  };
  Module::each_parameter("", check, module, gradient);
  EXPECT_FALSE(names.empty());

  Module twice = gradient;  // backward adds
  module.backward(weights, saved, twice);
  add(gradient, gradient);
  const auto same = [](const std::string& name, const auto& a, const auto& b) {
    EXPECT_TRUE(a.isApprox(b, 1e-14)) << name;
  };
  Module::each_parameter("", same, twice, gradient);
}

TEST(Transformer, LinearsHaveTheirGradients) {
  expect_gradients(linear<double>(channels, 4, 3));
  expect_gradients(linear<double>(channels, 4, 3, false));
}

TEST(Transformer, NormsHaveTheirGradients) {
  expect_gradients(layer_norm<double>(channels));
  expect_gradients(rms_norm<double>(channels));
}

TEST(Transformer, NormsDoWhatTheyAreNamedFor) {
  const M x = uniform_matrix<double>(tokens, channels, 3, 1);
  const M layer = layer_norm<double>(channels)(x), rms = rms_norm<double>(channels)(x);
  for (Index i = 0; i < tokens; ++i) {
    EXPECT_NEAR(layer.row(i).mean(), 0, 1e-14);
    EXPECT_NEAR(layer.row(i).squaredNorm(), channels, 1e-4);
    EXPECT_NEAR(rms.row(i).squaredNorm(), channels, 1e-4);
  }
}

TEST(Transformer, FeedForwardsHaveTheirGradients) {
  expect_gradients(feed_forward<double>(channels, 9, 3));
  expect_gradients(feed_forward<double, relu>(channels, 9, 3));
  expect_gradients(gated_feed_forward<double>(channels, 9, 3));
  expect_gradients(gated_feed_forward<double, gelu>(channels, 9, 3));
}

TEST(Transformer, LayersOfGatedDeltasHaveTheirGradients) {
  const gated_delta_options sizes{.width = channels, .heads = 2, .dim = 3, .value_dim = 4};
  expect_gradients(gated_delta<double>(sizes, 3));
  using both = bidirectional<gated_delta<double>>;
  expect_gradients(both{gated_delta<double>(sizes, 3), gated_delta<double>(sizes, 4)});
}

/// Token after token, by the formulas that stand in the header.
TEST(Transformer, ALayerOfGatedDeltasIsItsRecurrence) {
  constexpr Index heads = 2, dim = 3, value_dim = 4, kernel = 4, keys = heads * dim,
                  values = heads * value_dim;
  gated_delta<double> layer({.width = channels, .heads = heads, .dim = dim, .value_dim = value_dim}, 3);
  shake(layer);
  const M x = uniform_matrix<double>(tokens, channels, 1.5, 1);
  const M projected = x * layer.inputs.weight.transpose();
  const auto sigmoid = [](double at) { return 1 / (1 + std::exp(-at)); };
  std::vector<M> states(heads, M::Zero(dim, value_dim));
  M gated(tokens, values);
  for (Index t = 0; t < tokens; ++t) {
    Row<double> c = Row<double>::Zero(2 * keys + values);
    for (Index i = 0; i < kernel; ++i)
      if (t - kernel + 1 + i >= 0)
        c.array() +=
            layer.convolution.row(i).array() * projected.row(t - kernel + 1 + i).head(c.size()).array();
    for (Index j = 0; j < c.size(); ++j) c(j) *= sigmoid(c(j));
    const Row<double> rates = x.row(t) * layer.rates.weight.transpose() + layer.rates.bias;
    for (Index h = 0; h < heads; ++h) {
      const auto unit = [&](Index from) -> Column<double> {
        const Column<double> part = c.segment(from + h * dim, dim).transpose();
        return part / std::sqrt(part.squaredNorm() + 1e-6);
      };
      const Column<double> q = unit(0), k = unit(keys);
      const Row<double> v = c.segment(2 * keys + h * value_dim, value_dim);
      M& s = states[static_cast<std::size_t>(h)];
      s *= std::exp(-std::exp(layer.log_rate(h)) * std::log1p(std::exp(rates(h))));
      s += k * (sigmoid(rates(heads + h)) * (v - k.transpose() * s));
      const Row<double> o = q.transpose() * s / std::sqrt(static_cast<double>(dim));
      const double norm = std::sqrt(o.squaredNorm() / static_cast<double>(value_dim) + layer.norm.epsilon);
      for (Index j = 0; j < value_dim; ++j) {
        const double z = projected(t, c.size() + h * value_dim + j);
        gated(t, h * value_dim + j) = o(j) / norm * layer.norm.weight(j) * z * sigmoid(z);
      }
    }
  }
  EXPECT_TRUE(layer(x).isApprox(gated * layer.out.weight.transpose(), 1e-12));
}

/// Sequences of a batch do not see each other, and a token of one direction sees one side of it.
TEST(Transformer, LayersOfGatedDeltasReadOneSequenceEachWay) {
  const gated_delta_options sizes{.width = channels, .heads = 2};
  const bidirectional<gated_delta<double>> layer{gated_delta<double>(sizes, 3),
                                                 gated_delta<double>(sizes, 4)};
  const M x = uniform_matrix<double>(7, channels, 1.5, 1);
  const std::vector<fovea::index_type> offsets{0, 3, 3, 7};
  const M y = layer({x, offsets});
  EXPECT_TRUE(y.topRows(3).isApprox(layer(x.topRows(3)), 1e-13));
  EXPECT_TRUE(y.bottomRows(4).isApprox(layer(x.bottomRows(4)), 1e-13));
  M other = x;
  other.row(4) *= 2;
  const M ahead = layer.ahead({x, offsets}) - layer.ahead({other, offsets}),
          both = y - layer({other, offsets});
  EXPECT_TRUE(ahead.topRows(4).isZero(0));
  EXPECT_TRUE(both.topRows(3).isZero(0));
  for (Index i = 3; i < 7; ++i) {
    EXPECT_EQ(ahead.row(i).norm() > 1e-6, i >= 4) << i;
    EXPECT_GT(both.row(i).norm(), 1e-6) << i;
  }
  EXPECT_THROW(layer({x, std::vector<fovea::index_type>{0, 3}}), std::invalid_argument);
  EXPECT_THROW(layer(M::Zero(2, channels + 1)), std::invalid_argument);
}

TEST(Transformer, ActivationsHaveTheirValues) {
  const M x = (M(1, 3) << -1, 0, 2).finished();
  M y(1, 3);
  relu::apply(x, y);
  EXPECT_EQ(y, (M(1, 3) << 0, 0, 2).finished());
  silu::apply(x, y);
  EXPECT_TRUE(y.isApprox((M(1, 3) << -1 / (1 + std::exp(1)), 0, 2 / (1 + std::exp(-2))).finished(), 1e-14));
  gelu::apply(x, y);  // x Phi(x), of which it is an approximation
  for (Index i = 0; i < 3; ++i) EXPECT_NEAR(y(i), x(i) * (1 + std::erf(x(i) / std::sqrt(2))) / 2, 5e-4);
}

TEST(Transformer, EmbeddingsHaveTheirGradients) {
  embedding<double> embed(4, channels, 3);
  const std::vector<int> ids{2, 0, 2, 3};
  const M weights = uniform_matrix<double>(4, channels, 1, 2);
  auto gradient = zeros_like(embed);
  embed.backward(weights, ids, gradient);
  expect_slopes([&] { return embed(ids).cwiseProduct(weights).sum(); }, embed.weight, gradient.weight,
                "weight");
  EXPECT_TRUE(gradient.weight.row(1).isZero(0));
  EXPECT_TRUE(gradient.weight.row(2).isApprox(std::sqrt(6.) * (weights.row(0) + weights.row(2)), 1e-14));

  M x = uniform_matrix<double>(tokens, channels, 1, 4);
  const M scores = uniform_matrix<double>(tokens, 4, 1, 5);
  set_zero(gradient);
  const M dx = embed.logits_backward(scores, x, gradient);
  const auto f = [&] { return embed.logits(x).cwiseProduct(scores).sum(); };
  expect_slopes(f, embed.weight, gradient.weight, "weight of the logits");
  expect_slopes(f, x, dx, "x of the logits");
  EXPECT_THROW(embed(std::vector<int>{4}), std::out_of_range);
  EXPECT_THROW(embed(std::vector<int>{-1}), std::out_of_range);
}

TEST(Transformer, PositionsStartAnewInEachSequence) {
  const M table = sinusoidal_positions<double>(8, channels);
  EXPECT_EQ(table.row(0), (M(1, 6) << 0, 1, 0, 1, 0, 1).finished());
  EXPECT_DOUBLE_EQ(table(3, 0), std::sin(3.));
  EXPECT_DOUBLE_EQ(table(3, 1), std::cos(3.));
  EXPECT_DOUBLE_EQ(table(5, 4), std::sin(5 / std::pow(10000., 4. / 6)));
  M x = M::Zero(5, channels);
  const std::vector<std::ptrdiff_t> offsets{0, 2, 2, 5};
  add_positions<double>(x, offsets, table);
  EXPECT_EQ(x.topRows(2), table.topRows(2));
  EXPECT_EQ(x.bottomRows(3), table.topRows(3));
  add_positions<double>(x, std::vector<std::ptrdiff_t>{0, 1}, table, 7);
  EXPECT_EQ(x.row(0), table.row(0) + table.row(7));
  EXPECT_THROW(add_positions<double>(x, offsets, table, 6), std::out_of_range);
}

TEST(Transformer, TheLossHasItsGradient) {
  M logits = uniform_matrix<double>(tokens, channels, 2, 1);
  const std::vector<int> targets{0, 3, -1, 5, 3};
  for (const double smoothing : {0., 0.1}) {
    const cross_entropy<double> wrong{.smoothing = smoothing};
    const auto l = wrong(logits, targets);
    EXPECT_EQ(l.tokens, 4);
    EXPECT_TRUE(l.gradient.row(2).isZero(0)) << "padding";
    expect_slopes([&] { return wrong(logits, targets).mean(); }, logits, l.gradient, "logits");
  }
}

TEST(Transformer, SmoothedLabelsInClosedForm) {
  const double e = 0.3;
  const cross_entropy<double> wrong{.smoothing = e};
  const std::vector<int> target{1};
  // Equal logits: log 4. Logits (0, a, 0, 0): log(3 + exp(a)) - (1 - e) a - e a / 4.
  EXPECT_NEAR(wrong(M::Constant(1, 4, 7), target).mean(), std::log(4.), 1e-14);
  const double a = 1.7;
  const M logits = (M(1, 4) << 0, a, 0, 0).finished();
  EXPECT_NEAR(wrong(logits, target).mean(), std::log(3 + std::exp(a)) - (1 - e) * a - e * a / 4, 1e-14);
  // Where p is the smoothed label itself, the slope is 0 and the loss its entropy.
  const M best = (M(1, 4) << e / 4, 1 - e + e / 4, e / 4, e / 4).finished().array().log().matrix();
  EXPECT_LT(fovea_test::max_abs(wrong(best, target).gradient), 1e-15);
  EXPECT_NEAR(wrong(best, target).mean(), -(best.array().exp() * best.array()).sum(), 1e-14);
}

TEST(Transformer, LossesOfPartsAddUp) {
  const M logits = uniform_matrix<double>(4, channels, 2, 1);
  const std::vector<int> targets{0, 9, 4, 5};
  const cross_entropy<double> wrong{.smoothing = 0.1, .ignored = 9};
  const auto whole = wrong(logits, targets);
  EXPECT_EQ(wrong.counted(targets), 3);
  const std::span<const int> all(targets);
  const auto upper = wrong(logits.topRows(2), all.first(2), 3),
             lower = wrong(logits.bottomRows(2), all.last(2), 3);
  EXPECT_NEAR(upper.sum + lower.sum, whole.sum, 1e-14);
  EXPECT_EQ(upper.gradient, whole.gradient.topRows(2));
  EXPECT_EQ(lower.gradient, whole.gradient.bottomRows(2));
  EXPECT_EQ(wrong(logits, std::vector<int>(4, 9)).mean(), 0) << "only padding";
  EXPECT_THROW(wrong(logits, std::vector<int>(4, 6)), std::out_of_range);
  EXPECT_THROW(wrong(logits, std::vector<int>(3, 0)), std::invalid_argument);
}

TEST(Transformer, AdamwByHand) {
  linear<double> model, gradient;
  model.weight = (M(2, 1) << 1, -2).finished(), model.bias = (M(1, 2) << 0.5, 3).finished();
  gradient.weight = (M(2, 1) << 0.2, -4).finished(), gradient.bias = (M(1, 2) << 0, 1).finished();
  auto parameters = parameters_of<double>(model, gradient);
  EXPECT_EQ(parameters[0].name, "weight");
  EXPECT_EQ(parameters[1].name, "bias");
  adamw<double> optimiser(parameters, {.beta1 = 0.9, .beta2 = 0.99, .epsilon = 0, .weight_decay = 0.1});
  // Step 1: m / (1 - beta1) = g and v / (1 - beta2) = g^2, so each weight moves by the rate, against its
  // sign.
  gradient.bias(0) = 1e-3;
  optimiser.step(parameters, 0.01);
  EXPECT_NEAR(model.weight(0), 1 - 0.01 - 0.01 * 0.1 * 1, 1e-14);
  EXPECT_NEAR(model.weight(1), -2 + 0.01 + 0.01 * 0.1 * 2, 1e-14);
  EXPECT_NEAR(model.bias(0), 0.5 - 0.01, 1e-14) << "biases don't decay";
  EXPECT_NEAR(model.bias(1), 3 - 0.01, 1e-14);
  // Step 2, with g = 0.2 and then -0.6: m = 0.9 * 0.02 - 0.06, v = 0.99 * 0.0004 + 0.0036.
  const double before = model.weight(0);
  gradient.weight(0) = -0.6;
  optimiser.step(parameters, 0.02);
  const double m = (0.9 * 0.02 - 0.06) / (1 - 0.81), v = (0.99 * 0.0004 + 0.0036) / (1 - 0.9801);
  EXPECT_NEAR(model.weight(0), before - 0.02 * (m / std::sqrt(v) + 0.1 * before), 1e-14);
  EXPECT_EQ(optimiser.steps(), 2);
  std::vector<std::string> names;
  optimiser.each_state([&](const std::string& name, const auto& state) {
    names.push_back(name);
    if (name == "adamw.first.weight") {
      EXPECT_NEAR(state(0), 0.9 * 0.02 - 0.06, 1e-15);
    }
  });
  EXPECT_EQ(names.size(), 4u);
}

TEST(Transformer, AnInterruptedRunContinuesBitForBit) {
  const linear<float> start(3, 2, 5);
  const auto train = [](linear<float> model, adamw<float>& optimiser, int from, int to) {
    auto gradient = zeros_like(model);
    auto parameters = parameters_of<float>(model, gradient);
    for (int i = from; i < to; ++i) {
      parameters[0].gradient = uniform_matrix<float>(2, 3, 1, random_key(1, i));
      parameters[1].gradient = uniform_matrix<float>(1, 2, 1, random_key(2, i));
      optimiser.step(parameters, 0.1);
    }
    return model;
  };
  auto gradient = start, model = start;
  const auto parameters = parameters_of<float>(model, gradient);
  adamw<float> whole(parameters), before(parameters), after(parameters);
  const auto expected = train(start, whole, 0, 6);
  const auto half = train(start, before, 0, 3);
  std::vector<Matrix<float>> kept;
  before.each_state([&](const std::string&, const auto& state) { kept.push_back(state); });
  std::size_t next = 0;
  after.each_state([&](const std::string&, auto& state) { state = kept[next++]; });
  after.resume(before.steps());
  EXPECT_EQ(train(half, after, 3, 6).weight, expected.weight);
}

TEST(Transformer, ClippingScalesAllGradientsAlike) {
  linear<double> model(2, 1, 1), gradient = model;
  gradient.weight << 3, 0;
  gradient.bias << 4;
  auto parameters = parameters_of<double>(model, gradient);
  EXPECT_DOUBLE_EQ(clip_gradients<double>(parameters, 6), 5);
  EXPECT_EQ(gradient.bias(0), 4) << "short enough";
  EXPECT_DOUBLE_EQ(clip_gradients<double>(parameters, 1), 5);
  EXPECT_DOUBLE_EQ(gradient.weight(0), 0.6);
  EXPECT_DOUBLE_EQ(gradient.bias(0), 0.8);
}

TEST(Transformer, SchedulesRiseAndFall) {
  const inverse_sqrt_schedule root{.peak = 2, .warm_up = 100};
  EXPECT_DOUBLE_EQ(root(1), 0.02);
  EXPECT_DOUBLE_EQ(root(100), 2);
  EXPECT_DOUBLE_EQ(root(400), 1);
  const cosine_schedule wave{.peak = 2, .least = 0.5, .warm_up = 10, .steps = 110};
  EXPECT_DOUBLE_EQ(wave(5), 1);
  EXPECT_DOUBLE_EQ(wave(10), 2);
  EXPECT_DOUBLE_EQ(wave(60), 1.25);
  EXPECT_DOUBLE_EQ(wave(110), 0.5);
  EXPECT_DOUBLE_EQ(wave(500), 0.5);
}

TEST(Transformer, DropoutDropsItsShareAndKeepsTheMean) {
  const dropout drop{.rate = 0.2};
  Matrix<float> x = Matrix<float>::Ones(200, 500), again = x, other = x;
  drop(x, random_key(1, 2, 3));
  drop(again, random_key(1, 2, 3));
  drop(other, random_key(1, 2, 4));
  EXPECT_EQ(x, again);
  EXPECT_NEAR(static_cast<double>((x.array() == 0).count()), 20000, 600);
  EXPECT_NEAR(static_cast<double>((x.array() == 0 && other.array() == 0).count()), 4000, 300);
  EXPECT_NEAR(x.mean(), 1, 0.008);
  EXPECT_EQ(x.maxCoeff(), 1.25f);
  for (const Index away : {1, 2, 500}) {  // neighbours fall independently of each other
    Index both = 0;
    for (Index i = 0; i + away < x.size(); ++i) both += x.data()[i] == 0 && x.data()[i + away] == 0;
    EXPECT_NEAR(static_cast<double>(both), 4000, 300) << away;
  }
  Matrix<float> untouched = Matrix<float>::Ones(2, 2);
  dropout{}(untouched, 1);
  EXPECT_EQ(untouched, (Matrix<float>::Ones(2, 2)));
}

TEST(Transformer, ModulesSayWhatTheyLearn) {
  const gated_feed_forward<float> gated(4, 8, 1);
  EXPECT_EQ(parameter_count(gated), 3 * 4 * 8);
  std::string names;
  const feed_forward<float> plain(4, 8, 1);
  plain.each_parameter(
      "block.2", [&](const std::string& name, const auto&) { names += name + " "; }, plain);
  EXPECT_EQ(names, "block.2.widen.weight block.2.widen.bias block.2.narrow.weight block.2.narrow.bias ");
  linear<float> a(2, 3, 1), b(3, 2, 1);
  EXPECT_THROW(parameters_of<float>(a, b), std::invalid_argument);
}

TEST(Transformer, StreamsOfRandomNumbersAreEven) {
  random_stream a(random_key(1, 2)), same(random_key(1, 2)), other(random_key(2, 1));
  EXPECT_EQ(a.bits(), same.bits());
  EXPECT_NE(a.bits(), other.bits());
  std::vector<int> seen(10);
  for (int i = 0; i < 10000; ++i) ++seen[a.below(10)];
  for (const int n : seen) EXPECT_NEAR(n, 1000, 150);
  EXPECT_EQ(mixed(0), 0xe220a8397b1dcdafu) << "the first number of SplitMix64 from 0";
}

}  // namespace
