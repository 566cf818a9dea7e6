// Luong's attentions against their textbook in double, their gradients against differences.
#include "../support/max_abs.hpp"
#include "support.hpp"

#include <fovea/executor.hpp>
#include <fovea/luong.hpp>
#include <fovea/reference.hpp>

namespace fovea_test {
namespace luong_test {
namespace {

using fovea::luong_score;
using fovea::luong_window;

constexpr index_type heads = 2, kv_heads = 1, dim = 5, hidden = 7, value_dim = 4, predicted = 3, distance = 4;

template <luong_score Score, luong_window Window, class T = double>
using layer_of = fovea::luong<T, Score, Window, heads, kv_heads>;

template <class Layer>
Layer random_layer(fovea::executor_ref executor = {}) {
  Layer layer({.query_dim = dim,
               .hidden = hidden,
               .positions = 60,
               .distance = distance,
               .predicted = predicted,
               .executor = executor});
  random_source random(5);
  for (auto* w : {&layer.w_a, &layer.w_p, &layer.network.w_q, &layer.network.w_k}) fill(*w, random);
  fill(layer.v_p, random, 2), fill(layer.network.v, random);
  return layer;
}

/// Equations 7 to 10, head by head.
template <luong_score Score, luong_window Window, class T>
Matrix textbook(const layer_of<Score, Window, T>& layer, const Matrix& q, const Matrix& k, const Matrix& v) {
  Matrix out(q.rows(), heads * value_dim);
  for (index_type h = 0; h < heads; ++h) {
    const Matrix x = q.middleCols(h * dim, dim);
    const auto part = [&](const auto& w, index_type rows) {
      return Matrix(w.middleRows(h * rows, rows).template cast<double>());
    };
    Matrix s(q.rows(), k.rows());
    if constexpr (Score == luong_score::dot) s = x * k.transpose();
    if constexpr (Score == luong_score::general) s = x * part(layer.w_a, dim).transpose() * k.transpose();
    if constexpr (Score == luong_score::location)  // of the key/value head
      s = x * layer.w_a.topRows(k.rows()).template cast<double>().transpose();
    if constexpr (Score == luong_score::concat) {
      Matrix w_a(hidden, 2 * dim), both(2 * dim, 1);
      w_a << part(layer.network.w_q, hidden), layer.network.w_k.template cast<double>();
      for (Eigen::Index i = 0; i < s.rows(); ++i)
        for (Eigen::Index j = 0; j < s.cols(); ++j) {
          both << x.row(i).transpose(), k.row(j).transpose();
          const Eigen::VectorXd t = (w_a * both).array().tanh();
          s(i, j) = layer.network.v.segment(h * hidden, hidden).template cast<double>().dot(t);
        }
    }
    Eigen::ArrayXd p = Eigen::ArrayXd::LinSpaced(q.rows(), 0, double(q.rows() - 1));
    if constexpr (Window == luong_window::local_p) {
      const Matrix t = (x * part(layer.w_p, predicted).transpose()).array().tanh();
      const Eigen::ArrayXd logits =
          (t * layer.v_p.segment(h * predicted, predicted).template cast<double>().transpose()).array();
      p = double(k.rows()) / (1 + (-logits).exp());
    }
    Matrix a = softmax_rows(s, [&](auto i, auto j) {
      return Window == luong_window::global || std::abs(double(j) - p[i]) <= distance;
    });
    const double sigma = distance / 2.0;
    if constexpr (Window == luong_window::local_p)
      for (Eigen::Index i = 0; i < a.rows(); ++i)
        for (Eigen::Index j = 0; j < a.cols(); ++j)
          a(i, j) *= std::exp(-std::pow(double(j) - p[i], 2) / (2 * sigma * sigma));
    out.middleCols(h * value_dim, value_dim) = a * v;
  }
  return out;
}

struct inputs {
  Matrix q, k, v, d_out;
  inputs(index_type queries, index_type keys) {
    random_source random(1);
    q = random_matrix(queries, heads * dim, random), k = random_matrix(keys, kv_heads * dim, random);
    v = random_matrix(keys, kv_heads * value_dim, random);
    d_out = random_matrix(queries, heads * value_dim, random);
  }
};

/// Few rows and many; and gradients.
template <luong_score Score, luong_window Window>
void expect_textbook() {
  using layer_type = layer_of<Score, Window>;
  auto layer = random_layer<layer_type>();
  for (const index_type queries : {2, 40}) {
    const inputs x(queries, 50);
    EXPECT_LT(fovea_test::max_abs(layer(x.q, x.k, x.v) - textbook<Score, Window>(layer, x.q, x.k, x.v)),
              1e-13);
    const auto p = layer.weights(x.q, x.k);
    for (index_type h = 0; h < heads; ++h) {
      const Eigen::Map<const Matrix> of_head(&p(0, h, 0, 0), queries, 50);
      EXPECT_LT(
          fovea_test::max_abs(of_head * x.v - layer(x.q, x.k, x.v).middleCols(h * value_dim, value_dim)),
          1e-13);
    }
  }
  inputs x(5, 20);
  const auto loss = [&] { return layer(x.q, x.k, x.v).cwiseProduct(x.d_out).sum(); };
  const auto gradients = [&](const layer_type& of) {
    const auto [out, lse] = of.with_lse(x.q, x.k, x.v);
    auto parameters = of.zero_gradient();
    auto d = of.backward(x.q, x.k, x.v, out, lse, x.d_out, parameters);
    return std::pair(std::move(d), std::move(parameters));
  };
  const auto [d, g] = gradients(layer);
  expect_slopes("d_q", x.q, d.d_q, loss), expect_slopes("d_k", x.k, d.d_k, loss);
  expect_slopes("d_v", x.v, d.d_v, loss), expect_slopes("w_a", layer.w_a, g.w_a, loss);
  expect_slopes("w_p", layer.w_p, g.w_p, loss), expect_slopes("v_p", layer.v_p, g.v_p, loss);
  expect_slopes("w_q", layer.network.w_q, g.network.w_q, loss);
  expect_slopes("w_k", layer.network.w_k, g.network.w_k, loss);
  expect_slopes("v_a", layer.network.v, g.network.v, loss);
  fovea::threads three{3};
  const auto [parallel_d, parallel] = gradients(random_layer<layer_type>(three));
  EXPECT_EQ(parallel_d.d_q, d.d_q);
  EXPECT_TRUE(parallel.w_a == g.w_a && parallel.w_p == g.w_p && parallel.network.v == g.network.v);
}

TEST(luong, is_the_textbook) {
  expect_textbook<luong_score::dot, luong_window::local_m>();
  expect_textbook<luong_score::general, luong_window::local_p>();
  expect_textbook<luong_score::concat, luong_window::local_p>();
  expect_textbook<luong_score::location, luong_window::global>();
}

TEST(luong, in_float) {
  using layer_type = layer_of<luong_score::general, luong_window::local_p, float>;
  const auto layer = random_layer<layer_type>();
  const inputs x(40, 50);
  const Eigen::MatrixXf q = x.q.cast<float>(), k = x.k.cast<float>(), v = x.v.cast<float>();
  const Matrix out = layer(q, k, v).cast<double>();
  EXPECT_LT(
      fovea_test::max_abs(out - textbook<luong_score::general, luong_window::local_p>(layer, x.q, x.k, x.v)),
      1e-4);  // of places that move by 1e-5
}

/// The window and its Gaussian, as the reference takes them.
TEST(luong, has_a_window_that_the_reference_takes) {
  const auto layer = random_layer<layer_of<luong_score::dot, luong_window::local_p>>();
  const inputs x(9, 50);
  const Matrix p = layer.places(x.q, x.k);
  const auto centres = fovea::read_only(fovea::as_sequences(p, heads, "p"));
  const auto wanted = fovea::reference(x.q, x.k, x.v, {.heads = heads, .kv_heads = kv_heads, .scale = 1.0},
                                       fovea::window_around<double>{centres, double(distance)},
                                       fovea::gaussian_around<double>{centres, distance / 2.0});
  const Matrix out = layer(x.q, x.k, x.v);
  for (index_type i = 0; i < 9; ++i)
    for (index_type c = 0; c < heads * value_dim; ++c)
      EXPECT_NEAR(out(i, c), wanted.out(0, c / value_dim, i, c % value_dim), 1e-14);
}

/// A sequence's length is that of its own keys; a NaN in a query stays in its row.
TEST(luong, predicts_in_each_sequence_and_hides_no_nan) {
  const auto layer = random_layer<layer_of<luong_score::general, luong_window::local_p>>();
  inputs x(12, 50);
  x.q(3, 1) = std::numeric_limits<double>::quiet_NaN();
  const std::vector<index_type> starts{0, 6, 12}, key_starts{0, 35, 50};
  const Matrix packed =
      layer(fovea::ragged{x.q, starts}, fovea::ragged{x.k, key_starts}, fovea::ragged{x.v, key_starts});
  const Matrix second =
      layer(Matrix(x.q.bottomRows(6)), Matrix(x.k.bottomRows(15)), Matrix(x.v.bottomRows(15)));
  EXPECT_LT(fovea_test::max_abs(packed.bottomRows(6) - second), 1e-13);
  EXPECT_TRUE(packed.row(3).head(value_dim).array().isNaN().all());
  EXPECT_FALSE(packed.topRows(3).array().isNaN().any());
  EXPECT_FALSE(packed.middleRows(4, 2).array().isNaN().any());
}

/// A NaN in a query that sees nothing, and in a key that nothing sees, reaches no gradient.
TEST(luong, gradients_know_nothing_of_what_is_hidden) {
  const auto layer = random_layer<layer_of<luong_score::concat, luong_window::local_p>>();
  inputs x(6, 9);
  const auto seen = fovea::mask([](auto q, auto k) { return (q != 3) & (k != 5); });
  const auto gradients = [&](double of_hidden) {
    x.q.row(3).setConstant(of_hidden), x.k.row(5).setConstant(of_hidden), x.v.row(5).setConstant(of_hidden);
    const auto [out, lse] = layer.with_lse(x.q, x.k, x.v, seen);
    auto g = layer.zero_gradient();
    const auto d = layer.backward(x.q, x.k, x.v, out, lse, x.d_out, g, seen);
    std::vector<double> all;
    for (const Matrix& part : {Matrix(out), Matrix(d.d_q), Matrix(d.d_k), Matrix(d.d_v), g.w_p, Matrix(g.v_p),
                               g.network.w_q, g.network.w_k, Matrix(g.network.v)})
      all.insert(all.end(), part.data(), part.data() + part.size());
    return all;
  };
  EXPECT_EQ(gradients(std::numeric_limits<double>::quiet_NaN()), gradients(0));
}

/// A window that no distance leaves is none, however long.
TEST(luong, windows_of_any_length) {
  const inputs x(7, 20);
  const fovea::attention<double, heads, kv_heads> wanted({.scale = 1.0});
  for (const index_type long_way :
       {index_type(1000), index_type(1) << 31, index_type(1) << 62, std::numeric_limits<index_type>::max()}) {
    layer_of<luong_score::dot, luong_window::local_p> predicting({.query_dim = dim, .distance = long_way});
    predicting.w_p.setOnes(), predicting.v_p.setOnes();
    const layer_of<luong_score::dot, luong_window::local_m> moving({.query_dim = dim, .distance = long_way});
    const Matrix all = wanted(x.q, x.k, x.v);
    EXPECT_EQ(moving(x.q, x.k, x.v), all);
    EXPECT_LT(fovea_test::max_abs(predicting(x.q, x.k, x.v) - all), 1e-3) << long_way;
  }
}

TEST(luong, says_what_does_not_fit) {
  const auto layer = random_layer<layer_of<luong_score::location, luong_window::global>>();
  const inputs x(2, 61);
  expect_refused([&] { static_cast<void>(layer(x.q, x.k, x.v)); },
                 "k has 61 tokens but luong's positions is 60");
  const Matrix wide = Matrix::Random(7, heads * 9);
  expect_refused([&] { static_cast<void>(layer(wide, x.k.topRows(30).eval(), x.v.topRows(30).eval())); },
                 "q has 9 dimensions a head but luong's query_dim is " + std::to_string(dim));
  using generals = layer_of<luong_score::general, luong_window::global>;
  const generals general({.query_dim = dim, .key_dim = 3});
  const Matrix of_keys = Matrix::Random(7, kv_heads * 8);
  expect_refused([&] { static_cast<void>(general(x.q, of_keys, of_keys)); },
                 "k has 8 dimensions a head but luong's key_dim is 3");
  using dots = layer_of<luong_score::dot, luong_window::local_m>;
  const dots dot({.query_dim = 6});
  const Matrix six = Matrix::Random(7, heads * 9), nine = Matrix::Random(7, kv_heads * 9);
  expect_refused([&] { static_cast<void>(dot(six, nine, nine)); },
                 "q has 9 dimensions a head but luong's query_dim is 6");
  expect_refused([] { static_cast<void>(dots({.query_dim = 4, .key_dim = 3})); },
                 "luong's query_dim is 4 but key_dim is 3: dot needs the same");
}

}  // namespace
}  // namespace luong_test
}  // namespace fovea_test
