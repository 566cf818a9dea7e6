// The layer against the textbook in double, and its gradients against central differences.
#include "../support/max_abs.hpp"
#include "../support/worse.hpp"
#include "support.hpp"

#include <fovea/kv_cache.hpp>

namespace layer_test {

using namespace multi_head_test;
using fovea::index_type;

const fovea::rotary_table<double> table(16, 6);

struct shape {
  const char* name;
  options o;
  offsets queries, keys;  // no keys: self-attention
};

/// Shapes and options in combinations that share no code path by accident: self and cross, grouped, rotary in
/// both pairings and of a part of a head, norms, no biases, values of another dim, packed sequences.
std::vector<shape> shapes() {
  return {
      {"self", {.width = 8, .heads = 2}, {0, 5}, {}},
      {"self, grouped, without biases", {.width = 12, .heads = 6, .kv_heads = 2, .bias = false}, {0, 4}, {}},
      {"self, packed", {.width = 8, .heads = 2}, {0, 3, 3, 8}, {}},
      {"self, packed, rotary, norm",
       {.width = 12, .heads = 2, .normalised = true, .rotary = table.angles()},
       {0, 1, 5, 9},
       {}},
      {"self, part of a head rotary by neighbours, other dims, a scale",
       {.width = 7,
        .heads = 2,
        .kv_heads = 1,
        .dim = 8,
        .value_dim = 3,
        .scale = 0.3,
        .rotary = table.angles(),
        .pairs = fovea::rotary_pairs::interleaved},
       {0, 6},
       {}},
      {"cross", {.width = 8, .heads = 2}, {0, 3}, {0, 5}},
      {"cross, packed", {.width = 8, .heads = 4, .kv_heads = 2}, {0, 3, 4, 7}, {0, 2, 2, 6}},
      {"cross from another width, norm, rotary",
       {.width = 12, .heads = 2, .memory_width = 5, .normalised = true, .rotary = table.angles()},
       {0, 2, 5},
       {0, 4, 7}},
  };
}

matrix forward(const layer& l, const shape& s, const matrix& x, const matrix& memory, const auto&... mods) {
  return s.keys.empty() ? l({x, s.queries}, mods...) : l({x, s.queries}, {memory, s.keys}, mods...);
}

matrix textbook(const layer& l, const shape& s, const matrix& x, const matrix& memory, const auto&... mods) {
  const bool self = s.keys.empty();
  const offsets& keys = self ? s.queries : s.keys;
  matrix y(x.rows(), l.options().width);
  for (std::size_t b = 0; b + 1 < s.queries.size(); ++b) {
    const index_type n = s.queries[b + 1] - s.queries[b], m = keys[b + 1] - keys[b];
    const matrix xb = x.middleRows(s.queries[b], n), mb = (self ? x : memory).middleRows(keys[b], m);
    y.middleRows(s.queries[b], n) = multi_head_test::textbook(l, xb, mb, mods...);
  }
  return y;
}

/// d f / d value by central differences, against `slopes`; `value` is where f looks.
void expect_slopes(const auto& f, auto& value, const auto& slopes, const std::string& name) {
  ASSERT_EQ(value.rows(), slopes.rows()) << name;
  ASSERT_EQ(value.cols(), slopes.cols()) << name;
  constexpr double h = 1e-3;
  double error = 0, scale = 0;
  for (index_type i = 0; i < value.size(); ++i) {
    const double was = value.data()[i];
    const auto at = [&](double step) { return value.data()[i] = was + step, f(); };
    // Three pairs of points: the error is of order h^6.
    const double measured =
        (45 * (at(h) - at(-h)) - 9 * (at(2 * h) - at(-2 * h)) + (at(3 * h) - at(-3 * h))) / (60 * h);
    value.data()[i] = was;
    error = fovea_test::worse(error, std::abs(measured - slopes.data()[i]));
    scale = std::max(scale, std::abs(measured));
  }
  EXPECT_GT(scale, 1e-3) << name;
  EXPECT_LT(error, 1e-8 * scale) << name;
}

void expect_all(const shape& s, const auto&... mods) {
  SCOPED_TRACE(s.name);
  layer l = random_layer(s.o);
  const bool self = s.keys.empty();
  matrix x = random_matrix(s.queries.back(), s.o.width, 1);
  matrix memory = self ? matrix() : random_matrix(s.keys.back(), l.options().memory_width, 2);
  const matrix weights = random_matrix(x.rows(), s.o.width, 3);

  layer::saved saved;
  const matrix y =
      self ? l({x, s.queries}, saved, mods...) : l({x, s.queries}, {memory, s.keys}, saved, mods...);
  EXPECT_LT(distance(y, textbook(l, s, x, memory, mods...)), 1e-13);
  EXPECT_EQ(y, forward(l, s, x, memory, mods...)) << "training and inference differ";
  if (!self) {
    EXPECT_EQ(y, l({x, s.queries}, l.project({memory, s.keys}), mods...)) << "projected once";
  }

  const auto f = [&] { return forward(l, s, x, memory, mods...).cwiseProduct(weights).sum(); };
  layer gradient = l.zero_gradient();
  const auto [d_x, d_memory] = l.backward(weights, saved, gradient, mods...);
  expect_slopes(f, x, d_x, "x");
  if (!self) expect_slopes(f, memory, d_memory, "memory");
  int parameters = 0;
  const auto check = [&](const std::string& name, auto& value, const auto& slopes) {
    ++parameters;
    expect_slopes(f, value, slopes, name);
  };
  layer::each_parameter("", check, l, gradient);
  EXPECT_EQ(parameters, 2 + (s.o.bias ? 2 : 0) + (s.o.normalised ? 2 : 0) + (l.has_memory_weight() ? 1 : 0));

  if (s.o.bias && !s.o.normalised && s.o.rotary.cos.cols == 0 && sizeof...(mods) == 0) {
    EXPECT_LT(fovea_test::max_abs(gradient.b_k()), 1e-13) << "it moves all logits of a row alike";
  }

  layer twice = gradient;  // backward adds
  l.backward(weights, saved, twice, mods...);
  const auto doubled = [](const std::string& name, const auto& a, const auto& b) {
    EXPECT_LT(distance(a, 2 * b), 1e-13 * (1 + fovea_test::max_abs(b))) << name;
  };
  layer::each_parameter("", doubled, twice, gradient);
}

TEST(MultiHead, WithoutMasks) {
  for (const shape& s : shapes()) expect_all(s);
}

TEST(MultiHead, Causal) {
  for (const shape& s : shapes())
    if (s.keys.empty()) expect_all(s, fovea::causal);
}

TEST(MultiHead, TakesMasksAndScores) {
  const std::vector<float> slopes{0.5f, 0.25f};
  for (const shape& s : shapes())
    if (s.o.heads == 2) expect_all(s, fovea::causal_top_left, fovea::softcap{2.}, fovea::alibi{slopes});
}

TEST(MultiHead, TakesBlocksAndColumnMajorMatrices) {
  const layer l = random_layer({.width = 8, .heads = 2});
  const matrix wide = random_matrix(9, 20, 1), x = wide.block(2, 3, 6, 8);
  const matrix y = l(x);
  EXPECT_EQ(y, l(wide.block(2, 3, 6, 8)));
  EXPECT_EQ(y, l(Eigen::MatrixXd(x)));
  const std::vector<int> whole{0, 6};
  EXPECT_EQ(y, l(fovea::ragged{x, whole}));
  EXPECT_EQ(l(x, x), l({x, offsets{0, 6}}, {x, offsets{0, 6}}));
  EXPECT_LT(distance(y, l(x, x)), 1e-14) << "to itself, by two products";
}

TEST(MultiHead, ShowsItsWeights) {
  const layer l = random_layer({.width = 8, .heads = 4, .kv_heads = 2});
  const matrix x = random_matrix(3, 8, 1), memory = random_matrix(5, 8, 2);
  const auto p = l.weights(x, memory);
  matrix o(3, 8);
  const matrix v = (memory * l.w_v().transpose()).rowwise() + layer(l).b_v();
  for (index_type h = 0; h < 4; ++h)
    for (index_type i = 0; i < 3; ++i) {
      o.row(i).segment(2 * h, 2).setZero();
      for (index_type j = 0; j < 5; ++j)
        o.row(i).segment(2 * h, 2) += p(0, h, i, j) * v.row(j).segment(2 * (h / 2), 2);
    }
  EXPECT_LT(distance(l(x, memory), (o * l.out_weight.transpose()).rowwise() + l.out_bias), 1e-14);
}

TEST(MultiHead, SameBitsForAnyExecutor) {
  const fovea::threads pool(3);
  options o{.width = 16, .heads = 4};
  const layer alone = random_layer(o);
  o.executor = pool;
  const layer shared = random_layer(o);
  const matrix x = random_matrix(70, 16, 1), d = random_matrix(70, 16, 2);
  layer::saved a, b;
  EXPECT_EQ(alone(x, a), shared(x, b));
  layer g = alone.zero_gradient(), h = g;
  EXPECT_EQ(alone.backward(d, a, g).x, shared.backward(d, b, h).x);
  EXPECT_EQ(g.qkv_weight, h.qkv_weight);
}

TEST(MultiHead, EmptyInputs) {
  layer l = random_layer({.width = 8, .heads = 2});
  layer::saved s;
  layer g = l.zero_gradient();
  EXPECT_EQ(l(matrix(0, 8), s).rows(), 0);
  EXPECT_EQ(l.backward(matrix(0, 8), s, g).x.rows(), 0);
  EXPECT_TRUE(g.qkv_weight.isZero(0));
  const matrix x = random_matrix(2, 8, 1);
  const matrix y = l(x, matrix(0, 8), s);  // no key at all: attention is 0
  EXPECT_EQ(y.row(0), l.out_bias);
  const auto d = l.backward(x, s, g);
  EXPECT_TRUE(d.x.isZero(0));
  EXPECT_EQ(d.memory.rows(), 0);
}

TEST(MultiHead, RandomWeightsLieWithinGlorotsBounds) {
  layer l({.width = 12, .heads = 3, .kv_heads = 1});
  EXPECT_TRUE(l.qkv_weight.isZero(0)) << "before that";
  fovea_test::random_source random(3);
  l.randomise([&] { return random.uniform(-1, 1); });
  const auto within = [](const auto& w, double inputs, double outputs) {
    const double bound = std::sqrt(6 / (inputs + outputs)), most = fovea_test::max_abs(w);
    EXPECT_LE(most, bound);
    EXPECT_GT(most, 0.8 * bound);
  };
  within(l.w_q(), 12, 12), within(l.w_k(), 12, 4), within(l.w_v(), 12, 4), within(l.out_weight, 12, 12);
  EXPECT_TRUE(l.qkv_bias.isZero(0));
}

/// Rows of no sequence are not read; results and gradients are 0 there, and all others are as without them.
TEST(MultiHead, RowsOfNoSequence) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const layer l = random_layer({.width = 8, .heads = 2, .memory_width = 6, .normalised = true});
  const offsets of_x{2, 3, 6}, of_memory{1, 4, 6}, own_x{0, 1, 4}, own_memory{0, 3, 5};
  matrix x = matrix::Constant(9, 8, nan), memory = matrix::Constant(6, 6, nan), d_y = x;
  x.middleRows(2, 4) = random_matrix(4, 8, 1), d_y.middleRows(2, 4) = random_matrix(4, 8, 2);
  memory.middleRows(1, 5) = random_matrix(5, 6, 3);
  const auto expect = [](const matrix& got, index_type first, const matrix& wanted) {
    EXPECT_EQ(matrix(got.middleRows(first, wanted.rows())), wanted);
    EXPECT_TRUE(got.topRows(first).isZero(0));
    EXPECT_TRUE(got.bottomRows(got.rows() - first - wanted.rows()).isZero(0));
  };
  const matrix xs = x.middleRows(2, 4), memories = memory.middleRows(1, 5), ds = d_y.middleRows(2, 4);
  layer::saved s, alone;
  const matrix y = l({x, of_x}, {memory, of_memory}, s);
  expect(y, 2, l({xs, own_x}, {memories, own_memory}, alone));
  expect(l({x, of_x}, l.project({memory, of_memory})), 2, matrix(y.middleRows(2, 4)));
  layer gradient = l.zero_gradient(), wanted = gradient;
  const auto d = l.backward(d_y, s, gradient), d_alone = l.backward(ds, alone, wanted);
  ASSERT_EQ(d.x.rows(), 9);
  ASSERT_EQ(d.memory.rows(), 6);
  expect(d.x, 2, d_alone.x), expect(d.memory, 1, d_alone.memory);
  layer::each_parameter(
      "", [](const std::string& name, const auto& a, const auto& b) { EXPECT_EQ(a, b) << name; }, gradient,
      wanted);
}

/// The same for rows between sequences, where these have lengths.
TEST(MultiHead, RowsBetweenSequences) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const layer l = random_layer({.width = 8, .heads = 2, .memory_width = 6, .normalised = true});
  const offsets of_x{2, 5, 5}, counts_x{1, 0, 3}, of_memory{0, 3, 4}, counts_memory{3, 1, 1},
      own_x{0, 1, 1, 4}, own_memory{0, 3, 4, 5};
  matrix x = matrix::Constant(9, 8, nan), memory = matrix::Constant(6, 6, nan), d_y = x;
  const matrix xs = random_matrix(4, 8, 1), ds = random_matrix(4, 8, 2), memories = random_matrix(5, 6, 3);
  x.row(2) = xs.row(0), x.middleRows(5, 3) = xs.bottomRows(3), memory.topRows(5) = memories;
  d_y.row(2) = ds.row(0), d_y.middleRows(5, 3) = ds.bottomRows(3);
  const auto expect = [](const matrix& got, const matrix& wanted) {
    ASSERT_EQ(got.rows(), 9);
    EXPECT_EQ(matrix(got.row(2)), matrix(wanted.row(0)));
    EXPECT_EQ(matrix(got.middleRows(5, 3)), matrix(wanted.bottomRows(3)));
    EXPECT_TRUE(got.topRows(2).isZero(0) && got.middleRows(3, 2).isZero(0) && got.bottomRows(1).isZero(0));
  };
  layer::saved s, alone;
  const matrix y = l({x, of_x, counts_x}, {memory, of_memory, counts_memory}, s),
               y_alone = l({xs, own_x}, {memories, own_memory}, alone);
  expect(y, y_alone);
  expect(l(fovea::ragged{x, of_x, counts_x}, l.project({memory, of_memory, counts_memory})), y_alone);
  layer gradient = l.zero_gradient(), wanted = gradient;
  const auto d = l.backward(d_y, s, gradient), d_alone = l.backward(ds, alone, wanted);
  expect(d.x, d_alone.x);
  EXPECT_EQ(matrix(d.memory.topRows(5)), d_alone.memory);
  EXPECT_TRUE(d.memory.bottomRows(1).isZero(0));
  layer::each_parameter(
      "", [](const std::string& name, const auto& a, const auto& b) { EXPECT_EQ(a, b) << name; }, gradient,
      wanted);
  // Self-attention, and a step of decoding with a cache each.
  const layer self = random_layer({.width = 8, .heads = 2});
  expect(self({x, of_x, counts_x}, fovea::causal), self({xs, own_x}, fovea::causal));
  using cache = fovea::kv_cache<double>;
  const auto empty = [] { return cache(8, 4, {.heads = 2}); };
  cache a = empty(), b = empty(), c = empty(), a2 = empty(), b2 = empty(), c2 = empty();
  cache* const caches[] = {&a, &b, &c};
  cache* const others[] = {&a2, &b2, &c2};
  using span = std::span<cache* const>;
  expect(self({x, of_x, counts_x}, span(caches), fovea::causal),
         self({xs, own_x}, span(others), fovea::causal));
}

}  // namespace layer_test
