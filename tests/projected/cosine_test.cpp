// Attention by cosines against its textbook in double, its gradients against differences.
#include "../support/max_abs.hpp"
#include "support.hpp"

#include <fovea/cosine.hpp>
#include <fovea/executor.hpp>
#include <fovea/kv_cache.hpp>

namespace fovea_test {
namespace cosine_test {
namespace {

constexpr index_type heads = 2, kv_heads = 1, dim = 5;
using cosine = fovea::cosine<double, heads, kv_heads>;

Matrix textbook(const cosine& layer, const Matrix& q, const Matrix& k, const Matrix& v) {
  Matrix out(q.rows(), heads * v.cols());
  for (index_type h = 0; h < heads; ++h) {
    const double scale = std::min(100.0, std::exp(layer.log_scale[h]));
    const Matrix s =
        scale * q.middleCols(h * dim, dim).rowwise().normalized() * k.rowwise().normalized().transpose();
    out.middleCols(h * v.cols(), v.cols()) =
        softmax_rows(s, [&](auto i, auto j) { return j <= i + k.rows() - q.rows(); }) * v;
  }
  return out;
}

TEST(cosine, is_the_textbook_with_its_gradients) {
  random_source random(1);
  for (const index_type queries : {3, 40}) {
    Matrix q = random_matrix(queries, heads * dim, random), k = random_matrix(50, dim, random);
    Matrix v = random_matrix(50, 4, random);
    const Matrix d_out = random_matrix(queries, heads * 4, random);
    cosine layer;
    layer.log_scale << 1.3, 5;  // the second beyond ln 100
    const auto [out, lse] = layer.with_lse(q, k, v, fovea::causal_bottom_right);
    EXPECT_LT(fovea_test::max_abs(out - textbook(layer, q, k, v)), 1e-12);
    fovea::kv_cache<double, kv_heads> cache(50, dim, {.value_dim = 4});
    cache.append(layer.unit_keys(k), v);
    EXPECT_LT(fovea_test::max_abs(layer(q, cache, fovea::causal) - out), 1e-12);

    const auto loss = [&] { return textbook(layer, q, k, v).cwiseProduct(d_out).sum(); };
    auto d_log_scale = layer.zero_gradient();
    const auto d = layer.backward(q, k, v, out, lse, d_out, d_log_scale, fovea::causal_bottom_right);
    expect_slopes("d_q", q, d.d_q, loss, 1e-6), expect_slopes("d_k", k, d.d_k, loss, 1e-6);
    expect_slopes("d_v", v, d.d_v, loss), expect_slopes("log_scale", layer.log_scale, d_log_scale, loss);
    fovea::threads three{3};
    cosine parallel({.executor = three});
    parallel.log_scale = layer.log_scale;
    auto in_parallel = layer.zero_gradient();
    const auto other = parallel.backward(q, k, v, out, lse, d_out, in_parallel, fovea::causal_bottom_right);
    EXPECT_TRUE(other.d_q == d.d_q && other.d_k == d.d_k && in_parallel == d_log_scale);
  }
}

TEST(cosine, gradients_know_nothing_of_what_is_hidden) {
  random_source random(2);
  Matrix q = random_matrix(6, heads * dim, random), k = random_matrix(9, dim, random);
  const Matrix v = random_matrix(9, 4, random), d_out = random_matrix(6, heads * 4, random);
  q.row(0).setConstant(std::numeric_limits<double>::quiet_NaN()), k.row(8) = q.row(0).head(dim);
  const fovea::causal_offset seen{-1};  // query 0 sees nothing, and nothing sees key 8
  const cosine layer;
  const auto [out, lse] = layer.with_lse(q, k, v, seen);
  auto d_log_scale = layer.zero_gradient();
  const auto d = layer.backward(q, k, v, out, lse, d_out, d_log_scale, seen);
  EXPECT_TRUE(d.d_q.allFinite() && d.d_k.allFinite() && d.d_v.allFinite() && d_log_scale.allFinite());
}

/// A cosine knows no length, as long as numbers do: their squares may be none.
TEST(cosine, of_vectors_of_any_length) {
  random_source random(3);
  const Matrix q = random_matrix(3, heads * dim, random), k = random_matrix(9, dim, random),
               v = random_matrix(9, 3, random);
  const Eigen::MatrixXf q_32 = q.cast<float>(), k_32 = k.cast<float>(), v_32 = v.cast<float>();
  const cosine layer;
  const fovea::cosine<float, heads, 1> layer_32;
  const auto gradient = [&](const auto& of, const auto& x, const auto& y, const auto& values) {
    const auto [out, lse] = of.with_lse(x, y, values);
    auto d_log_scale = of.zero_gradient();
    return of.backward(x, y, values, out, lse, out, d_log_scale);
  };
  const auto wanted = gradient(layer, q, k, v);
  for (const double by : {1e-10, 1e20, 1e100, 1e170, 1e290, 5e307}) {
    EXPECT_LT(fovea_test::max_abs(layer(Matrix(q * by), Matrix(k * by), v) - layer(q, k, v)), 1e-12) << by;
    const auto d = gradient(layer, Matrix(q * by), Matrix(k * by), v);
    EXPECT_LT(fovea_test::max_abs(d.d_q * by - wanted.d_q), 1e-12) << by;
    EXPECT_LT(fovea_test::max_abs(d.d_k * by - wanted.d_k), 1e-12) << by;
  }
  for (const float by : {1e-10f, 1e15f, 1e20f, 1e30f, 1e37f, 3e38f})
    EXPECT_LT(fovea_test::max_abs(layer_32(Eigen::MatrixXf(q_32 * by), Eigen::MatrixXf(k_32 * by), v_32) -
                                  layer_32(q_32, k_32, v_32)),
              1e-5f)
        << by;
}

TEST(cosine, of_nothing_is_nothing) {
  Matrix q = Matrix::Zero(1, heads * dim), k = Matrix::Ones(4, dim), v = Matrix::Random(4, 3);
  const cosine layer;
  EXPECT_LT(fovea_test::max_abs(layer(q, k, v).leftCols(3) - v.colwise().mean()), 1e-15);
  cosine moved;
  moved.log_scale.resize(3);
  expect_refused([&] { static_cast<void>(moved(q, k, v)); },
                 "cosine's log_scale has 3 numbers, not one for each of 2 heads");
}

}  // namespace
}  // namespace cosine_test
}  // namespace fovea_test
