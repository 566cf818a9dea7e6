// Additive attention against its textbook in double, its gradients against differences.
#include "../support/max_abs.hpp"
#include "support.hpp"

#include <fovea/executor.hpp>
#include <fovea/kv_cache.hpp>

namespace fovea_test {
namespace additive_test {
namespace {

constexpr index_type heads = 4, kv_heads = 2, hidden = 19, query_dim = 5, key_dim = 3, value_dim = 6;
using additive = fovea::additive<double, heads, kv_heads>;

template <class Layer>
Layer random_layer(bool normalised, double size = 1) {
  Layer layer({.hidden = hidden, .query_dim = query_dim, .key_dim = key_dim, .normalised = normalised});
  random_source random(5);
  fill(layer.w_q, random, size), fill(layer.w_k, random, size), fill(layer.b, random), fill(layer.v, random);
  if (normalised) fill(layer.g, random, 2);
  return layer;
}

/// s_ij = v^T tanh(W_q q_i + W_k k_j + b), softmax, V; seen(i, j).
template <class Layer, class Seen>
Matrix textbook(const Layer& layer, const Matrix& q, const Matrix& k, const Matrix& v, const Seen& seen) {
  Matrix out(q.rows(), heads * value_dim);
  for (index_type h = 0; h < heads; ++h) {
    const index_type of = h / (heads / kv_heads);
    const Matrix z_q = q.middleCols(h * query_dim, query_dim) *
                       layer.w_q.middleRows(h * hidden, hidden).template cast<double>().transpose();
    const Matrix z_k = k.middleCols(of * key_dim, key_dim) *
                       layer.w_k.middleRows(of * hidden, hidden).template cast<double>().transpose();
    Eigen::RowVectorXd w = layer.v.segment(h * hidden, hidden).template cast<double>();
    if (layer.g.size() > 0) w *= double(layer.g[h]) / w.norm();
    const Eigen::RowVectorXd b = layer.b.segment(h * hidden, hidden).template cast<double>();
    Matrix s(q.rows(), k.rows());
    for (Eigen::Index i = 0; i < s.rows(); ++i)
      for (Eigen::Index j = 0; j < s.cols(); ++j)
        s(i, j) = (z_q.row(i) + z_k.row(j) + b).array().tanh().matrix().dot(w);
    out.middleCols(h * value_dim, value_dim) =
        softmax_rows(s, seen) * v.middleCols(of * value_dim, value_dim);
  }
  return out;
}

struct inputs {
  Matrix q, k, v, d_out;
  inputs(index_type queries, index_type keys) {
    random_source random(1);
    q = random_matrix(queries, heads * query_dim, random),
    k = random_matrix(keys, kv_heads * key_dim, random);
    v = random_matrix(keys, kv_heads * value_dim, random);
    d_out = random_matrix(queries, heads * value_dim, random);
  }
};

constexpr auto all_seen = [](auto, auto) { return true; };

TEST(additive, is_the_textbook) {
  for (const auto& [queries, keys] : {std::pair<index_type, index_type>{1, 1}, {3, 40}, {30, 70}}) {
    const inputs x(queries, keys);
    const index_type offset = keys - queries;
    const auto causal = [&](auto i, auto j) { return j <= i + offset; };
    for (const bool normalised : {false, true}) {
      const auto layer = random_layer<additive>(normalised);
      EXPECT_LT(fovea_test::max_abs(layer(x.q, x.k, x.v) - textbook(layer, x.q, x.k, x.v, all_seen)), 1e-13);
      const auto [out, lse] = layer.with_lse(x.q, x.k, x.v, fovea::causal_bottom_right);
      EXPECT_LT(fovea_test::max_abs(out - textbook(layer, x.q, x.k, x.v, causal)), 1e-13);
    }
    const auto single = random_layer<fovea::additive<float, heads, kv_heads>>(true);
    const Eigen::MatrixXf q = x.q.cast<float>(), k = x.k.cast<float>(), v = x.v.cast<float>();
    const Matrix in_float = single(q, k, v).template cast<double>();
    EXPECT_LT(fovea_test::max_abs(in_float - textbook(single, x.q, x.k, x.v, all_seen)), 3e-6);
  }
}

/// Projections beyond the exponentials' range: exact where they cancel.
TEST(additive, takes_projections_of_any_size) {
  const inputs x(9, 40);
  const auto layer = random_layer<additive>(false, 200);
  const auto single = random_layer<fovea::additive<float, heads, kv_heads>>(false, 200);
  const Matrix wanted = textbook(layer, x.q, x.k, x.v, all_seen);
  EXPECT_LT(fovea_test::max_abs(layer(x.q, x.k, x.v) - wanted), 1e-11);
  const Eigen::MatrixXf q = x.q.cast<float>(), k = x.k.cast<float>(), v = x.v.cast<float>();
  const Matrix in_float = single(q, k, v).template cast<double>();
  EXPECT_LT(fovea_test::max_abs(in_float - wanted), 1e-3);  // of logits that move by 1e-4
}

/// Keys beyond the exponentials' range beside queries within it: where tanh is 1 or -1, and its slope 0.
TEST(additive, takes_keys_of_any_size) {
  const inputs x(9, 40);
  auto layer = random_layer<additive>(false);
  layer.w_k.topRows(hidden) *= 1000;
  EXPECT_LT(fovea_test::max_abs(layer(x.q, x.k, x.v) - textbook(layer, x.q, x.k, x.v, all_seen)), 1e-12);
  const auto [out, lse] = layer.with_lse(x.q, x.k, x.v);
  auto gradient = layer.zero_gradient();
  const auto d = layer.backward(x.q, x.k, x.v, out, lse, x.d_out, gradient);
  EXPECT_TRUE(d.d_q.allFinite() && d.d_k.allFinite() && gradient.w_k.allFinite());
}

/// Which form is taken is nothing of keys: hidden ones of any size leave every bit as it is.
TEST(additive, bits_do_not_depend_on_hidden_keys) {
  inputs x(20, 60);
  const auto layer = random_layer<additive>(false);
  const std::vector<index_type> lengths{50};
  const fovea::key_lengths seen{lengths};
  const Matrix wanted = layer(x.q, x.k, x.v, seen);
  x.k.bottomRows(10) *= 1e6;
  EXPECT_EQ(layer(x.q, x.k, x.v, seen), wanted);
  x.k.bottomRows(10).setConstant(std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(layer(x.q, x.k, x.v, seen), wanted);
}

TEST(additive, gradients_are_those_of_differences) {
  for (const double size : {1.0, 100.0})
    for (const bool normalised : {false, true}) {
      if (size > 1 && normalised) continue;
      inputs x(5, 20);
      auto layer = random_layer<additive>(normalised, size);
      const auto holes = fovea::mask([](auto q, auto k) { return (k == q) | ((k & 3) != 1); });
      const auto loss = [&] { return layer(x.q, x.k, x.v, holes).cwiseProduct(x.d_out).sum(); };
      const auto [out, lse] = layer.with_lse(x.q, x.k, x.v, holes);
      auto gradient = layer.zero_gradient();
      const auto d = layer.backward(x.q, x.k, x.v, out, lse, x.d_out, gradient, holes);
      const double error = size > 1 ? 1e-5 : 1e-8;  // of differences, where slopes turn within a step
      expect_slopes("d_q", x.q, d.d_q, loss, error), expect_slopes("d_k", x.k, d.d_k, loss, error);
      expect_slopes("d_v", x.v, d.d_v, loss, error);
      additive::each_parameter(
          [&](const char* name, auto& p, const auto& g) { expect_slopes(name, p, g, loss, error); }, layer,
          gradient);
    }
}

TEST(additive, has_the_bits_of_any_executor_and_of_a_sequence_alone) {
  const inputs x(60, 200);
  const std::vector<index_type> starts{0, 20, 60}, key_starts{0, 150, 200};
  fovea::threads three{3};
  const auto layer = random_layer<additive>(true);
  additive parallel(
      {.hidden = hidden, .query_dim = query_dim, .key_dim = key_dim, .normalised = true, .executor = three});
  parallel.w_q = layer.w_q, parallel.w_k = layer.w_k, parallel.b = layer.b, parallel.v = layer.v;
  parallel.g = layer.g;
  const auto run = [&](const additive& of) {
    const fovea::ragged q{x.q, starts}, k{x.k, key_starts}, v{x.v, key_starts};
    const auto [out, lse] = of.with_lse(q, k, v);
    auto gradient = of.zero_gradient();
    const auto d = of.backward(q, k, v, fovea::ragged{out, starts}, fovea::ragged{lse, starts},
                               fovea::ragged{x.d_out, starts}, gradient);
    return std::tuple(out, d.d_q, d.d_k, d.d_v, gradient.w_q, gradient.w_k, gradient.b, gradient.v,
                      gradient.g);
  };
  EXPECT_EQ(run(layer), run(parallel));
  const Matrix alone = layer(x.q.topRows(20), x.k.topRows(150), x.v.topRows(150));
  EXPECT_LT(fovea_test::max_abs(std::get<0>(run(layer)).topRows(20) - alone), 1e-13);
}

/// Also beside a sequence whose projections are beyond the exponentials' range, and as one beside others.
TEST(additive, bits_do_not_depend_on_the_batch) {
  using layer_type = fovea::additive<float, heads, kv_heads>;
  const inputs x(60, 200);
  const auto layer = random_layer<layer_type>(false);
  using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Rows q = x.q.cast<float>(), k = x.k.cast<float>();
  const Rows v = x.v.cast<float>(), d_out = x.d_out.cast<float>();
  q.middleRows(20, 17) *= 100, k.middleRows(90, 60) *= 100;  // the second of three
  const std::vector<index_type> starts{0, 20, 37, 60}, key_starts{0, 90, 150, 200};
  const auto run = [&](const auto& of_q, const auto& of_k, const auto& of_v, const auto& of_out,
                       const auto& as_q) {
    const auto [out, lse] = layer.with_lse(of_q, of_k, of_v);
    auto gradient = layer.zero_gradient();
    const auto d = layer.backward(of_q, of_k, of_v, as_q(out), as_q(lse), of_out, gradient);
    return std::array<Rows, 5>{out, lse, d.d_q, d.d_k, d.d_v};
  };
  const auto all = run(fovea::ragged{q, starts}, fovea::ragged{k, key_starts}, fovea::ragged{v, key_starts},
                       fovea::ragged{d_out, starts}, [&](auto& y) {
                         return fovea::ragged{y, starts};
                       });
  for (std::size_t b = 0; b < 3; ++b) {
    const auto rows = [&](const Rows& y) { return Rows(y.middleRows(starts[b], starts[b + 1] - starts[b])); };
    const auto keys = [&](const Rows& y) {
      return Rows(y.middleRows(key_starts[b], key_starts[b + 1] - key_starts[b]));
    };
    const auto alone = run(rows(q), keys(k), keys(v), rows(d_out), [](auto& y) -> auto& { return y; });
    for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(alone[i], i < 3 ? rows(all[i]) : keys(all[i])) << b << i;
  }
}

TEST(additive, decodes_from_a_cache_of_projected_keys) {
  const inputs x(2, 40);
  const auto layer = random_layer<additive>(false);
  fovea::kv_cache<double, kv_heads> cache(40, hidden, {.value_dim = value_dim});
  cache.append(layer.project_keys(x.k), x.v);
  const auto causal = [](auto i, auto j) { return j <= i + 38; };
  EXPECT_LT(fovea_test::max_abs(layer(x.q, cache, fovea::causal) - textbook(layer, x.q, x.k, x.v, causal)),
            1e-13);
}

/// v / |v| knows no length, though squares of its numbers may be none.
TEST(additive, normalises_v_of_any_length) {
  const inputs x(5, 9);
  const Eigen::MatrixXf q = x.q.cast<float>(), k = x.k.cast<float>(), v = x.v.cast<float>();
  const auto layer = random_layer<additive>(true);
  fovea::additive<float, heads, kv_heads> layer_32(layer.options());
  layer_32.w_q = layer.w_q.cast<float>(), layer_32.w_k = layer.w_k.cast<float>();
  layer_32.b = layer.b.cast<float>(), layer_32.v = layer.v.cast<float>(), layer_32.g = layer.g.cast<float>();
  for (const double by : {1e-290, 1e-200, 1e200, 1e290, 1e307}) {
    auto scaled = layer;
    scaled.v *= by;
    const auto [out, lse] = scaled.with_lse(x.q, x.k, x.v);
    EXPECT_LT(fovea_test::max_abs(out - layer(x.q, x.k, x.v)), 1e-12) << by;
    auto gradient = scaled.zero_gradient();
    scaled.backward(x.q, x.k, x.v, out, lse, out, gradient);
    EXPECT_TRUE(gradient.v.allFinite() && gradient.g.allFinite()) << by;
  }
  for (const float by : {1e-38f, 1e-30f, 1e30f, 1e37f}) {
    auto scaled = layer_32;
    scaled.v *= by;
    EXPECT_LT(fovea_test::max_abs(scaled(q, k, v) - layer_32(q, k, v)), 1e-5f) << by;
  }
}

TEST(additive, says_what_does_not_fit) {
  const inputs x(2, 4);
  auto layer = random_layer<additive>(true);
  expect_refused([&] { static_cast<void>(layer(x.k, x.k, x.v)); },
                 "q has 6 columns, which 4 heads do not divide");
  expect_refused([&] { static_cast<void>(additive({.query_dim = 3})); }, "additive's hidden is 0, below 1");
  auto gradient = layer.zero_gradient();
  layer.v.setZero();
  expect_refused([&] { static_cast<void>(layer(x.q, x.k, x.v)); },
                 "v of head 0 is of length 0: it can not be normalised");
}

}  // namespace
}  // namespace additive_test
}  // namespace fovea_test
