// Attention with a bias in two factors against its textbook in double, its gradients against differences.
#include "../support/max_abs.hpp"
#include "support.hpp"

#include <fovea/decomposed.hpp>
#include <fovea/executor.hpp>

namespace fovea_test {
namespace decomposed_test {
namespace {

constexpr index_type heads = 2, kv_heads = 1, dim = 5;
using decomposed = fovea::decomposed<double, heads, kv_heads>;

struct grid {
  index_type height, width;
  index_type tokens() const { return height * width; }
};

template <class Layer>
Matrix bias_of(const Layer& layer, const Matrix& q, const grid& g) {
  Matrix bias(g.tokens(), g.tokens());
  for (index_type i = 0; i < g.tokens(); ++i)
    for (index_type j = 0; j < g.tokens(); ++j)
      bias(i, j) =
          q.row(i).dot(layer.r_h.row(i / g.width - j / g.width + g.height - 1).template cast<double>()) +
          q.row(i).dot(layer.r_w.row(i % g.width - j % g.width + g.width - 1).template cast<double>());
  return bias;
}

Matrix textbook(const decomposed& layer, const Matrix& q, const Matrix& k, const Matrix& v, const grid& g) {
  Matrix out(q.rows(), heads * v.cols());
  for (index_type h = 0; h < heads; ++h) {
    const Matrix of_head = q.middleCols(h * dim, dim);
    const Matrix s = of_head * k.transpose() / std::sqrt(double(dim)) + bias_of(layer, of_head, g);
    out.middleCols(h * v.cols(), v.cols()) = softmax_rows(s, [&](auto i, auto j) { return j <= i + 9; }) * v;
  }
  return out;
}

decomposed random_layer(const grid& g, random_source& random, fovea::executor_ref executor = {}) {
  decomposed layer({.height = g.height, .width = g.width, .dim = dim, .executor = executor});
  fill(layer.r_h, random), fill(layer.r_w, random);
  return layer;
}

TEST(decomposed, is_the_textbook_with_its_gradients) {
  random_source random(1);
  // A register of keys in one row of the grid, in two, in more.
  for (const grid& g : {grid{1, 1}, grid{3, 4}, grid{9, 2}, grid{2, 9}, grid{7, 13}, grid{11, 16}}) {
    Matrix q = random_matrix(g.tokens(), heads * dim, random), k = random_matrix(g.tokens(), dim, random);
    Matrix v = random_matrix(g.tokens(), 4, random);
    const Matrix d_out = random_matrix(g.tokens(), heads * 4, random);
    decomposed layer = random_layer(g, random);
    const fovea::causal_offset seen{9};
    const auto [out, lse] = layer.with_lse(q, k, v, seen);
    EXPECT_LT(fovea_test::max_abs(out - textbook(layer, q, k, v, g)), 1e-12) << g.height << " x " << g.width;

    const auto loss = [&] { return textbook(layer, q, k, v, g).cwiseProduct(d_out).sum(); };
    auto gradient = layer.zero_gradient();
    gradient.r_h.setOnes();  // is added to
    const auto d = layer.backward(q, k, v, out, lse, d_out, gradient, seen);
    const Matrix d_h = gradient.r_h - Matrix::Ones(gradient.r_h.rows(), dim);
    expect_slopes("d_q", q, d.d_q, loss), expect_slopes("d_k", k, d.d_k, loss);
    expect_slopes("d_v", v, d.d_v, loss);
    expect_slopes("r_h", layer.r_h, d_h, loss), expect_slopes("r_w", layer.r_w, gradient.r_w, loss);
    fovea::threads three{3};
    decomposed parallel({.height = g.height, .width = g.width, .dim = dim, .executor = three});
    parallel.r_h = layer.r_h, parallel.r_w = layer.r_w;
    auto in_parallel = layer.zero_gradient();
    in_parallel.r_h.setOnes();
    const auto other = parallel.backward(q, k, v, out, lse, d_out, in_parallel, seen);
    EXPECT_TRUE(other.d_q == d.d_q && other.d_k == d.d_k && in_parallel.r_h == gradient.r_h &&
                in_parallel.r_w == gradient.r_w);
    EXPECT_TRUE(parallel(q, k, v, seen) == out);
  }
}

/// In float: the same as a bias of all cells.
TEST(decomposed, is_attention_with_its_bias_in_a_batch) {
  random_source random(2);
  const grid g{6, 10};
  fovea::decomposed<float> layer({.height = 6, .width = 10, .dim = 8, .heads = 3});
  fill(layer.r_h, random, 0.3), fill(layer.r_w, random, 0.3);
  fovea::tensor<float> q(2, 3, 60, 8), k(2, 3, 60, 8), v(2, 3, 60, 4), bias(2, 3, 60, 60);
  for (auto* x : {&q, &k, &v})
    for (index_type i = 0; i < x->size(); ++i) x->data()[i] = static_cast<float>(random.uniform(-1, 1));
  for (index_type b = 0; b < 2; ++b)
    for (index_type h = 0; h < 3; ++h) {
      const Matrix rows =
          Eigen::Map<const Eigen::Matrix<float, -1, -1, Eigen::RowMajor>>(&q(b, h, 0, 0), 60, 8)
              .cast<double>();
      Eigen::Map<Eigen::Matrix<float, -1, -1, Eigen::RowMajor>>(&bias(b, h, 0, 0), 60, 60) =
          bias_of(layer, rows, g).cast<float>();
    }
  const auto got = layer(q, k, v, fovea::sliding_window{.left = 40, .right = 20});
  const auto want = fovea::attention<float>({.heads = 3})(q, k, v, fovea::bias(bias),
                                                          fovea::sliding_window{.left = 40, .right = 20});
  for (index_type i = 0; i < got.size(); ++i) ASSERT_NEAR(got.data()[i], want.data()[i], 2e-6);
  const auto second = [](fovea::tensor<float>& x) { return fovea::bhsd(&x(1, 0, 0, 0), 1, 3, 60, x.dim()); };
  const auto alone = layer(second(q), second(k), second(v), fovea::sliding_window{.left = 40, .right = 20});
  for (index_type i = 0; i < alone.size(); ++i) ASSERT_EQ(alone.data()[i], (&got(1, 0, 0, 0))[i]);
  const auto weights = layer.weights(q, k);
  EXPECT_EQ(weights.tokens(), 60);
}

TEST(decomposed, gradients_know_nothing_of_what_is_hidden) {
  random_source random(3);
  const grid g{3, 4};
  Matrix q = random_matrix(12, heads * dim, random), k = random_matrix(12, dim, random);
  const Matrix v = random_matrix(12, 4, random), d_out = random_matrix(12, heads * 4, random);
  q.row(0).setConstant(std::numeric_limits<double>::quiet_NaN()), k.row(11) = q.row(0).head(dim);
  const fovea::causal_offset seen{-1};  // query 0 sees nothing, and nothing sees the last key
  const decomposed layer = random_layer(g, random);
  const auto [out, lse] = layer.with_lse(q, k, v, seen);
  auto gradient = layer.zero_gradient();
  const auto d = layer.backward(q, k, v, out, lse, d_out, gradient, seen);
  EXPECT_TRUE(out.allFinite() && d.d_q.allFinite() && d.d_k.allFinite() && d.d_v.allFinite() &&
              gradient.r_h.allFinite() && gradient.r_w.allFinite());
}

TEST(decomposed, wrong_sizes_are_refused) {
  random_source random(4);
  decomposed layer = random_layer({3, 4}, random);
  const Matrix x = random_matrix(10, dim, random), q = random_matrix(10, heads * dim, random);
  expect_refused([&] { static_cast<void>(layer(q, x, x)); },
                 "q has 10 tokens, not the 12 of a grid of 3 x 4");
  const Matrix twelve = random_matrix(12, heads * dim, random);
  expect_refused([&] { static_cast<void>(layer(twelve, x, x)); },
                 "a grid of 3 x 4 has 12 tokens, not the 12 of q and 10 of k");
  layer.r_h.resize(4, dim);
  expect_refused([&] { static_cast<void>(layer(twelve, x, x)); }, "decomposed: r_h is 4 x 5, not 5 x 5");
  expect_refused([] { decomposed({.height = 3, .width = 0, .dim = 4}); }, "decomposed's width is 0, below 1");
  constexpr index_type most = std::numeric_limits<index_type>::max();
  EXPECT_THROW(decomposed({.height = most, .width = 1, .dim = 4}), std::length_error);
  EXPECT_THROW(decomposed({.height = most, .width = most, .dim = 4}), std::length_error);
}

}  // namespace
}  // namespace decomposed_test
}  // namespace fovea_test
