// Differential attention against its textbook in double, its gradients against differences, and what it
// promises of bits, elements, views and errors.
#include "../support/max_abs.hpp"
#include "support.hpp"

#include <fovea/differential.hpp>
#include <fovea/differential/reference.hpp>
#include <fovea/executor.hpp>

namespace fovea_test {
namespace differential_test {
namespace {

constexpr index_type heads = 4, kv_heads = 2, dim = 3, value_dim = 5;

template <class Layer>
Layer with_lambda(Layer layer, std::uint64_t seed = 9) {
  random_source random(seed);
  fill(layer.lambda_q1, random), fill(layer.lambda_k1, random);
  fill(layer.lambda_q2, random), fill(layer.lambda_k2, random);
  return layer;
}

/// Heads 2h and 2h + 1 of q; the key head of each is a group's, the value head half of that.
template <class Layer>
Matrix textbook(const Layer& layer, const Matrix& q, const Matrix& k, const Matrix& v) {
  const double lambda = std::exp(layer.lambda_q1.dot(layer.lambda_k1)) -
                        std::exp(layer.lambda_q2.dot(layer.lambda_k2)) + layer.options().lambda_init;
  Matrix out(q.rows(), heads * value_dim);
  const auto p = [&](index_type t) {
    return softmax_rows(q.middleCols(t * dim, dim) *
                            k.middleCols(t / (heads / kv_heads) * dim, dim).transpose() / std::sqrt(1. * dim),
                        [&](auto i, auto j) { return j <= i + k.rows() - q.rows(); });
  };
  for (index_type h = 0; h < heads; ++h)
    out.middleCols(h * value_dim, value_dim) =
        (p(2 * h) - lambda * p(2 * h + 1)) * v.middleCols(h / (heads / kv_heads) * value_dim, value_dim);
  return out;
}

TEST(differential, is_the_textbook_with_its_gradients) {
  random_source random(1);
  for (const index_type queries : {3, 40}) {
    Matrix q = random_matrix(queries, 2 * heads * dim, random),
           k = random_matrix(50, 2 * kv_heads * dim, random);
    Matrix v = random_matrix(50, kv_heads * value_dim, random);
    const Matrix d_out = random_matrix(queries, heads * value_dim, random);
    auto layer = with_lambda(fovea::differential<double, heads, kv_heads>({.dim = 6, .lambda_init = 0.5}));
    const auto seen = fovea::causal_bottom_right;
    const auto [out, halves, lse] = layer.with_lse(q, k, v, seen);
    EXPECT_LT(fovea_test::max_abs(out - textbook(layer, q, k, v)), 1e-13);
    EXPECT_TRUE(layer(q, k, v, seen) == out);

    const auto loss = [&] { return textbook(layer, q, k, v).cwiseProduct(d_out).sum(); };
    auto gradient = layer.zero_gradient();
    const auto d = layer.backward(q, k, v, halves, lse, d_out, gradient, seen);
    Matrix o = out, x = halves, l = lse, d_q = q, d_k = k, d_v = v;
    o.setZero(), x.setZero(), l.setZero();
    layer.with_lse_into(o, x, l, q, k, v, seen);
    EXPECT_TRUE(o == out && x == halves && l == lse);
    auto written = layer.zero_gradient();
    layer.backward_into(d_q, d_k, d_v, q, k, v, halves, lse, d_out, written, seen);
    EXPECT_TRUE(d_q == d.d_q && d_k == d.d_k && d_v == d.d_v && written.lambda_q1 == gradient.lambda_q1);
    expect_refused([&] { layer.with_lse_into(x.leftCols(heads * value_dim), x, l, q, k, v, seen); },
                   {"o and halves share memory"});
    expect_refused([&] { layer.backward_into(d_q, d_k, v, q, k, v, halves, lse, d_out, written, seen); },
                   {"d_v and v share memory"});
    expect_slopes("d_q", q, d.d_q, loss), expect_slopes("d_k", k, d.d_k, loss);
    expect_slopes("d_v", v, d.d_v, loss);
    expect_slopes("lambda_q1", layer.lambda_q1, gradient.lambda_q1, loss);
    expect_slopes("lambda_k1", layer.lambda_k1, gradient.lambda_k1, loss);
    expect_slopes("lambda_q2", layer.lambda_q2, gradient.lambda_q2, loss);
    expect_slopes("lambda_k2", layer.lambda_k2, gradient.lambda_k2, loss);

    fovea::threads three{3};
    const auto parallel = with_lambda(
        fovea::differential<double, heads, kv_heads>({.dim = 6, .lambda_init = 0.5, .executor = three}));
    auto again = parallel.zero_gradient();
    const auto other = parallel.backward(q, k, v, halves, lse, d_out, again, seen);
    EXPECT_TRUE(parallel(q, k, v, seen) == out);
    EXPECT_TRUE(other.d_q == d.d_q && other.d_k == d.d_k && other.d_v == d.d_v);
    EXPECT_TRUE(again.lambda_q1 == gradient.lambda_q1 && again.lambda_k2 == gradient.lambda_k2);
  }
}

/// Whether each element is within the bound of differential.hpp of the reference.
template <class O>
void expect_within(const O& out, const fovea::reference_result& wanted, double lambda) {
  const double u = 0x1p-24;
  for (index_type b = 0; b < out.batch(); ++b)
    for (index_type h = 0; h < out.heads(); ++h)
      for (index_type i = 0; i < out.tokens(); ++i) {
        const double largest = std::max(wanted.logits(b, 2 * h, i, 0), wanted.logits(b, 2 * h + 1, i, 0));
        for (index_type c = 0; c < out.dim(); ++c)
          ASSERT_LE(std::abs(out(b, h, i, c) - wanted.out(b, h, i, c)),
                    (3 * (4 + largest) + 2) * u * wanted.magnitude(b, h, i, c) + 0x1p-120)
              << b << " " << h << " " << i << " " << c << " lambda " << lambda;
      }
}

template <class E>
fovea::tensor<E> random_tensor(index_type batch, index_type n_heads, index_type tokens, index_type columns,
                               random_source& random) {
  fovea::tensor<E> x(batch, n_heads, tokens, columns);
  for (index_type i = 0; i < x.size(); ++i)
    x.data()[i] = fovea::store_element<E>(static_cast<float>(random.uniform(-2, 2)));
  return x;
}

TEST(differential, keeps_to_its_bound_with_every_modifier) {
  random_source random(2);
  const auto q = random_tensor<float>(2, 4, 90, 8, random), k = random_tensor<float>(2, 4, 90, 8, random);
  const auto v = random_tensor<fovea::bf16>(2, 2, 90, 16, random);
  const auto layer = with_lambda(fovea::differential<float, 2>({.dim = 8}));
  const auto check = [&](const auto&... mods) {
    expect_within(layer(q, k, v, mods...),
                  fovea::differential_reference(q, k, v, {.heads = 2}, layer.lambda(), mods...),
                  layer.lambda());
  };
  const std::vector<float> logits = {0.5f, -1.f, 2.f, 0.f};
  check(), check(fovea::causal_bottom_right),
      check(fovea::sliding_window{.left = 9, .right = 3}, fovea::softcap{3.f});
  check(fovea::sink{logits}, fovea::alibi{.slopes = logits});
  check(fovea::dropout{.rate = 0.25, .seed = 4}, fovea::causal);
}

TEST(differential, a_sequence_has_the_same_bits_alone_packed_and_in_half_precision_views) {
  random_source random(3);
  using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Rows q = random_matrix(30, 4 * 8, random).cast<float>(),
             k = random_matrix(30, 4 * 8, random).cast<float>();
  const Rows v = random_matrix(30, 2 * 6, random).cast<float>();
  const auto layer = with_lambda(fovea::differential<float>({.dim = 8, .heads = 2}));
  const std::vector<index_type> offsets = {0, 11, 11, 27};  // rows 27 to 29 are of no sequence
  const fovea::ragged of_q{q, offsets}, of_k{k, offsets}, of_v{v, offsets};
  const Rows packed = layer(of_q, of_k, of_v, fovea::causal);
  const Rows alone = layer(Rows(q.middleRows(11, 16)), Rows(k.middleRows(11, 16)), Rows(v.middleRows(11, 16)),
                           fovea::causal);
  EXPECT_TRUE(packed.middleRows(11, 16) == alone);
  EXPECT_TRUE((packed.bottomRows(3).array() == 0).all());

  const auto [out, halves, lse] = layer.with_lse(of_q, of_k, of_v, fovea::causal);
  EXPECT_TRUE(out == packed);
  auto gradient = layer.zero_gradient();
  const auto d = layer.backward(of_q, of_k, of_v, fovea::ragged{halves, offsets}, fovea::ragged{lse, offsets},
                                fovea::ragged{packed, offsets}, gradient, fovea::causal);
  EXPECT_TRUE((d.d_v.bottomRows(3).array() == 0).all() && d.d_v.topRows(27).allFinite());
  const auto p = layer.weights(Rows(q.middleRows(11, 16)), Rows(k.middleRows(11, 16)), fovea::causal);
  double sum = 0;
  for (index_type j = 0; j < 16; ++j) sum += static_cast<double>(p(0, 1, 7, j));
  EXPECT_NEAR(sum, 1 - layer.lambda(), 1e-5);
}

TEST(differential, hidden_numbers_show_nowhere) {
  random_source random(4);
  Matrix q = random_matrix(6, 2 * heads * dim, random), k = random_matrix(9, 2 * kv_heads * dim, random);
  Matrix v = random_matrix(9, kv_heads * value_dim, random);
  Matrix d_out = random_matrix(6, heads * value_dim, random);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  q.row(0).setConstant(nan), k.row(8).setConstant(nan), v.row(8).setConstant(nan);
  const fovea::causal_offset seen{-1};  // query 0 sees nothing, and nothing sees key 8
  const auto layer = with_lambda(fovea::differential<double, heads, kv_heads>({.dim = 4}));
  const auto [out, halves, lse] = layer.with_lse(q, k, v, seen);
  EXPECT_TRUE(out.allFinite() && (out.row(0).array() == 0).all());
  auto gradient = layer.zero_gradient();
  d_out.row(0).setConstant(nan);
  const auto d = layer.backward(q, k, v, halves, lse, d_out, gradient, seen);
  EXPECT_TRUE(d.d_q.allFinite() && d.d_k.allFinite() && d.d_v.allFinite());
  EXPECT_TRUE(gradient.lambda_q1.allFinite() && gradient.lambda_k2.allFinite());
}

TEST(differential, refuses_what_does_not_fit_before_it_writes) {
  random_source random(5);
  const Matrix q = random_matrix(6, 4 * 3, random), k = random_matrix(7, 4 * 3, random);
  const Matrix v = random_matrix(7, 2 * 5, random);
  Matrix o = Matrix::Constant(6, 2 * 5, 42), short_o = Matrix::Constant(5, 2 * 5, 42);
  fovea::differential<double, 2> layer({.dim = 3});
  expect_refused([&] { layer.into(short_o, q, k, v); }, "o has 5 tokens but q has 6");
  expect_refused([&] { layer.into(o, q, Matrix(k.topRows(6)), v); }, "k has 6 tokens but v has 7");
  EXPECT_TRUE((o.array() == 42).all() && (short_o.array() == 42).all());
  layer.lambda_k2.resize(2);
  expect_refused([&] { layer.into(o, q, k, v); }, "differential's lambda_k2 has 2 numbers, not 3");
  EXPECT_TRUE((o.array() == 42).all());
  expect_refused([] { fovea::differential<float>({.dim = 3, .heads = 3, .kv_heads = 2}); },
                 "3 query heads can not share 2 key/value heads evenly");
  expect_refused([] { static_cast<void>(fovea::differential_lambda_init(0)); }, "layer is 0, below 1");
  EXPECT_NEAR(fovea::differential_lambda_init(1), 0.2, 1e-15);
}

}  // namespace
}  // namespace differential_test
}  // namespace fovea_test
