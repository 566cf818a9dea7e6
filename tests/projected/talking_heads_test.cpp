// Heads that talk against their textbook in double, their gradients against differences.
#include "../support/max_abs.hpp"
#include "support.hpp"

#include <fovea/executor.hpp>
#include <fovea/talking_heads.hpp>

#include <limits>

namespace fovea_test {
namespace talking_heads_test {
namespace {

constexpr index_type heads = 4, kv_heads = 2, dim = 3, value_dim = 5;
using layer_type = fovea::talking_heads<double, heads, kv_heads>;

layer_type random_layer(random_source& random, fovea::executor_ref executor = {}) {
  layer_type layer({.executor = executor});
  fill(layer.p_l, random), fill(layer.p_w, random);
  return layer;
}

/// `slope`: of a bias slope (j - i), the last score.
template <class Seen>
Matrix textbook(const layer_type& layer, const Matrix& q, const Matrix& k, const Matrix& v, double slope,
                const Seen& seen) {
  std::vector<Matrix> s, u;
  for (index_type h = 0; h < heads; ++h)
    s.push_back(q.middleCols(h * dim, dim) * k.middleCols(h / 2 * dim, dim).transpose() /
                std::sqrt(1. * dim));
  for (index_type g = 0; g < heads; ++g) {
    Matrix l = Matrix::Zero(q.rows(), k.rows());
    for (index_type h = 0; h < heads; ++h) l += layer.p_l(h, g) * s[static_cast<std::size_t>(h)];
    for (Eigen::Index i = 0; i < l.rows(); ++i)
      for (Eigen::Index j = 0; j < l.cols(); ++j) l(i, j) = std::tanh(l(i, j)) + slope * double(j - i);
    u.push_back(softmax_rows(l, seen));
  }
  Matrix out(q.rows(), heads * value_dim);
  for (index_type h = 0; h < heads; ++h) {
    Matrix w = Matrix::Zero(q.rows(), k.rows());
    for (index_type g = 0; g < heads; ++g) w += layer.p_w(g, h) * u[static_cast<std::size_t>(g)];
    out.middleCols(h * value_dim, value_dim) = w * v.middleCols(h / 2 * value_dim, value_dim);
  }
  return out;
}

/// One block of rows and several; the same bits for any executor; rows that see nothing.
TEST(talking_heads, are_the_textbook_with_its_gradients) {
  random_source random(1);
  for (const auto& [queries, keys] : {std::pair{1, 1}, {3, 50}, {130, 41}}) {
    Matrix q = random_matrix(queries, heads * dim, random), k = random_matrix(keys, kv_heads * dim, random);
    Matrix v = random_matrix(keys, kv_heads * value_dim, random);
    const Matrix d_out = random_matrix(queries, heads * value_dim, random);
    layer_type layer = random_layer(random);
    const auto own = fovea::score([](auto s, auto i, auto j) {
      using number = decltype(s);
      return s + number(0.05) * (j - i);
    });
    const fovea::softcap cap{1.0};  // tanh
    const fovea::causal_offset seen{keys - queries};
    const auto wanted = [&] {
      return textbook(layer, q, k, v, 0.05, [&](auto i, auto j) { return j <= i + keys - queries; });
    };
    EXPECT_LT(fovea_test::max_abs(layer(q, k, v, seen, own, cap) - wanted()), 1e-12) << queries;
    const auto loss = [&] { return wanted().cwiseProduct(d_out).sum(); };
    auto gradient = layer.zero_gradient();
    gradient.p_l.setOnes();  // is added to
    const auto d = layer.backward(q, k, v, d_out, gradient, seen, own, cap);
    const Matrix d_l = gradient.p_l - Matrix::Ones(heads, heads);
    expect_slopes("d_q", q, d.d_q, loss), expect_slopes("d_k", k, d.d_k, loss);
    expect_slopes("d_v", v, d.d_v, loss), expect_slopes("p_l", layer.p_l, d_l, loss);
    expect_slopes("p_w", layer.p_w, gradient.p_w, loss);
    fovea::threads three{3};
    layer_type parallel({.executor = three});
    parallel.p_l = layer.p_l, parallel.p_w = layer.p_w;
    EXPECT_EQ(parallel(q, k, v, seen, own, cap), layer(q, k, v, seen, own, cap));
  }
}

/// With the identity, and in a batch, in float: attention.
TEST(talking_heads, that_say_nothing_are_attention) {
  random_source random(2);
  fovea::tensor<float> q(2, 3, 70, 8), k(2, 3, 90, 8), v(2, 3, 90, 4);
  for (auto* x : {&q, &k, &v})
    for (index_type i = 0; i < x->size(); ++i) x->data()[i] = static_cast<float>(random.uniform(-1, 1));
  fovea::threads three{3};
  const fovea::talking_heads<float> layer({.heads = 3, .executor = three});
  const auto got = layer(q, k, v, fovea::causal_bottom_right);
  const auto want = fovea::attention<float>({.heads = 3})(q, k, v, fovea::causal_bottom_right);
  for (index_type i = 0; i < got.size(); ++i) ASSERT_NEAR(got.data()[i], want.data()[i], 2e-6);
  const auto second = [](fovea::tensor<float>& x) {
    return fovea::bhsd(&x(1, 0, 0, 0), 1, 3, x.tokens(), x.dim());
  };
  const auto alone = layer(second(q), second(k), second(v), fovea::causal_bottom_right);
  for (index_type i = 0; i < alone.size(); ++i) ASSERT_EQ(alone.data()[i], (&got(1, 0, 0, 0))[i]);
  auto serial = layer.zero_gradient(), parallel = serial;
  const auto d = fovea::talking_heads<float>({.heads = 3}).backward(q, k, v, got, serial);
  const auto e = layer.backward(q, k, v, got, parallel);
  EXPECT_TRUE(serial.p_l == parallel.p_l && serial.p_w == parallel.p_w);
  for (index_type i = 0; i < d.d_k.size(); ++i) ASSERT_EQ(d.d_k.data()[i], e.d_k.data()[i]);
}

/// Blocks of rows are those of a sequence alone, however long the others are.
TEST(talking_heads, have_one_result_packed_and_alone) {
  random_source random(5);
  const Matrix q = random_matrix(66, heads * dim, random), k = random_matrix(6040, kv_heads * dim, random);
  const Matrix v = random_matrix(6040, kv_heads * value_dim, random);
  const layer_type layer = random_layer(random);
  const std::vector<index_type> of_q{0, 1, 66}, of_k{0, 6000, 6040};
  const Matrix packed = layer(fovea::ragged{q, of_q}, fovea::ragged{k, of_k}, fovea::ragged{v, of_k});
  const Matrix own_q = q.bottomRows(65), own_k = k.bottomRows(40), own_v = v.bottomRows(40);
  EXPECT_EQ(Matrix(packed.bottomRows(65)), layer(own_q, own_k, own_v));
}

TEST(talking_heads, know_nothing_of_what_is_hidden) {
  random_source random(3);
  Matrix q = random_matrix(12, heads * dim, random), k = random_matrix(12, kv_heads * dim, random);
  Matrix v = random_matrix(12, kv_heads * value_dim, random);
  const Matrix d_out = random_matrix(12, heads * value_dim, random);
  layer_type layer = random_layer(random);
  const auto seen = fovea::mask([](auto i, auto j) { return (i != 0) & (j != 5); });
  auto gradient = layer.zero_gradient(), other = gradient;
  const Matrix clean = layer(q, k, v, seen);
  const auto wanted = layer.backward(q, k, v, d_out, other, seen);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  q.row(0).setConstant(nan), k.row(5).setConstant(nan), v.row(5).setConstant(nan);
  const Matrix out = layer(q, k, v, seen);
  EXPECT_TRUE(out.allFinite() && (out.row(0).array() == 0).all());
  EXPECT_LT(fovea_test::max_abs(out - clean), 1e-14);
  const auto d = layer.backward(q, k, v, d_out, gradient, seen);
  EXPECT_LT(fovea_test::max_abs(d.d_q - wanted.d_q) + fovea_test::max_abs(d.d_k - wanted.d_k) +
                fovea_test::max_abs(d.d_v - wanted.d_v) + fovea_test::max_abs(gradient.p_l - other.p_l) +
                fovea_test::max_abs(gradient.p_w - other.p_w),
            1e-13);
  // A NaN of a value makes the rows that see it NaN, and no other.
  const auto later = fovea::mask([](auto i, auto j) { return (i > 3) | (j != 5); });
  q.row(0).setOnes(), k.row(5).setOnes();
  const Matrix rows = layer(q, k, v, later);
  EXPECT_TRUE(rows.topRows(4).allFinite() && rows.bottomRows(8).leftCols(value_dim).array().isNaN().all());
}

TEST(talking_heads, wrong_sizes_are_refused) {
  layer_type layer;
  const Matrix q = Matrix::Zero(3, heads * dim), k = Matrix::Zero(4, kv_heads * dim), v = k.topRows(3);
  expect_refused([&] { static_cast<void>(layer(q, k, v)); }, "k has 4 tokens but v has 3");
  Matrix o(2, heads * dim);
  expect_refused([&] { layer.into(o, q, k, k); }, "o has 2 tokens but q has 3");
  Matrix bias = Matrix::Zero(3, 4), d_bias = bias;
  auto gradient = layer.zero_gradient();
  expect_refused([&] { layer.backward(q, k, k, q, gradient, fovea::bias(bias, d_bias)); },
                 "talking_heads does not make the gradient of bias");
  layer.p_w.resize(2, 4);
  expect_refused([&] { static_cast<void>(layer(q, k, k)); }, "talking_heads' p_w is 2 x 4, not 4 x 4");
}

}  // namespace
}  // namespace talking_heads_test
}  // namespace fovea_test
