// Attention with vectors of distances against its textbook in double, its gradients against differences.
#include "../support/max_abs.hpp"
#include "support.hpp"

#include <fovea/executor.hpp>
#include <fovea/transformer_xl.hpp>

#include <limits>

namespace fovea_test {
namespace transformer_xl_test {
namespace {

constexpr index_type heads = 2, kv_heads = 1, dim = 5, value_dim = 4;
using layer_type = fovea::transformer_xl<double, heads, kv_heads>;

struct sizes {
  index_type queries, keys, offset;
};

layer_type random_layer(const sizes& n, random_source& random, fovea::executor_ref executor = {}) {
  const index_type reach = std::max(n.queries + n.offset, n.keys - n.offset) - 1;
  layer_type layer({.dim = dim, .reach = reach, .offset = n.offset, .executor = executor});
  fill(layer.u, random), fill(layer.v, random), fill(layer.r, random);
  return layer;
}

template <class Layer>
Matrix terms_of(const Layer& layer, const Matrix& q, index_type h, index_type keys, index_type offset) {
  Matrix terms(q.rows(), keys);
  for (index_type i = 0; i < q.rows(); ++i)
    for (index_type j = 0; j < keys; ++j) {
      const auto r = layer.r.row(layer.options().reach + i + offset - j).segment(h * q.cols(), q.cols());
      terms(i, j) = (q.row(i) + layer.v.row(h).template cast<double>()).dot(r.template cast<double>());
    }
  return terms;
}

template <class Seen>
Matrix textbook(const layer_type& layer, const Matrix& q, const Matrix& k, const Matrix& v, index_type offset,
                const Seen& seen) {
  Matrix out(q.rows(), heads * v.cols());
  for (index_type h = 0; h < heads; ++h) {
    const Matrix of_head = q.middleCols(h * dim, dim);
    const Matrix s = ((of_head.rowwise() + layer.u.row(h)) * k.transpose() +
                      terms_of(layer, of_head, h, k.rows(), offset)) /
                     std::sqrt(double(dim));
    out.middleCols(h * v.cols(), v.cols()) = softmax_rows(s, seen) * v;
  }
  return out;
}

/// One query, few, registers of them and parts of one; memories before the queries; rows cut anywhere.
TEST(transformer_xl, is_the_textbook_with_its_gradients) {
  random_source random(1);
  for (const sizes& n :
       {sizes{1, 1, 0}, sizes{3, 40, 37}, sizes{20, 20, 0}, sizes{37, 70, 33}, sizes{90, 75, 2}}) {
    Matrix q = random_matrix(n.queries, heads * dim, random), k = random_matrix(n.keys, dim, random);
    Matrix v = random_matrix(n.keys, value_dim, random);
    const Matrix d_out = random_matrix(n.queries, heads * value_dim, random);
    layer_type layer = random_layer(n, random);
    const fovea::causal_offset seen{n.offset + 2};
    const auto wanted = [&] {
      return textbook(layer, q, k, v, n.offset, [&](auto i, auto j) { return j <= i + n.offset + 2; });
    };
    const auto [out, lse] = layer.with_lse(q, k, v, seen);
    EXPECT_LT(fovea_test::max_abs(out - wanted()), 1e-12) << n.queries << " x " << n.keys;
    EXPECT_LT(fovea_test::max_abs(layer(q, k, v) -
                                  textbook(layer, q, k, v, n.offset, [](auto, auto) { return true; })),
              1e-12);

    const auto loss = [&] { return wanted().cwiseProduct(d_out).sum(); };
    auto gradient = layer.zero_gradient();
    gradient.u.setOnes();  // is added to
    const auto d = layer.backward(q, k, v, out, lse, d_out, gradient, seen);
    const Matrix d_u = gradient.u - Matrix::Ones(heads, dim);
    expect_slopes("d_q", q, d.d_q, loss), expect_slopes("d_k", k, d.d_k, loss);
    expect_slopes("d_v", v, d.d_v, loss), expect_slopes("u", layer.u, d_u, loss);
    expect_slopes("v", layer.v, gradient.v, loss), expect_slopes("r", layer.r, gradient.r, loss, 1e-8, 8);
    fovea::threads three{3};
    layer_type parallel({.dim = dim, .reach = layer.options().reach, .offset = n.offset, .executor = three});
    parallel.u = layer.u, parallel.v = layer.v, parallel.r = layer.r;
    auto in_parallel = layer.zero_gradient();
    in_parallel.u.setOnes();
    const auto other = parallel.backward(q, k, v, out, lse, d_out, in_parallel, seen);
    EXPECT_TRUE(other.d_q == d.d_q && other.d_k == d.d_k && in_parallel.u == gradient.u &&
                in_parallel.v == gradient.v && in_parallel.r == gradient.r);
    EXPECT_TRUE(parallel(q, k, v, seen) == out);
  }
}

/// In float, in a batch: the same as a bias of all cells; each sequence as alone.
TEST(transformer_xl, is_attention_with_its_terms_in_a_batch) {
  random_source random(2);
  const index_type tokens = 50, d = 24;
  fovea::transformer_xl<float> layer({.dim = d, .reach = 60, .heads = 3});
  fill(layer.u, random, 0.5), fill(layer.v, random, 0.5), fill(layer.r, random, 0.5);
  fovea::tensor<float> q(2, 3, tokens, d), k(2, 3, tokens, d), v(2, 3, tokens, 4), bias(2, 3, tokens, tokens),
      x(q);
  for (auto* numbers : {&q, &k, &v})
    for (index_type i = 0; i < numbers->size(); ++i)
      numbers->data()[i] = static_cast<float>(random.uniform(-1, 1));
  using rows = Eigen::Matrix<float, -1, -1, Eigen::RowMajor>;
  for (index_type b = 0; b < 2; ++b)
    for (index_type h = 0; h < 3; ++h) {
      const rows of_head = Eigen::Map<const rows>(&q(b, h, 0, 0), tokens, d);
      Eigen::Map<rows>(&x(b, h, 0, 0), tokens, d) = of_head.rowwise() + layer.u.row(h);
      Eigen::Map<rows>(&bias(b, h, 0, 0), tokens, tokens) =
          (terms_of(layer, of_head.cast<double>(), h, tokens, 0) / std::sqrt(double(d))).cast<float>();
    }
  const fovea::sliding_window seen{.left = 40, .right = 20};
  const auto got = layer(q, k, v, seen);
  const auto want = fovea::attention<float>({.heads = 3})(x, k, v, fovea::bias(bias), seen);
  for (index_type i = 0; i < got.size(); ++i) ASSERT_NEAR(got.data()[i], want.data()[i], 3e-6);
  const auto second = [](fovea::tensor<float>& t) {
    return fovea::bhsd(&t(1, 0, 0, 0), 1, 3, tokens, t.dim());
  };
  const auto alone = layer(second(q), second(k), second(v), seen);
  for (index_type i = 0; i < alone.size(); ++i) ASSERT_EQ(alone.data()[i], (&got(1, 0, 0, 0))[i]);
  const auto weights = layer.weights(q, k);
  EXPECT_EQ(weights.tokens(), tokens);
}

/// A few queries are multiplied by r where it lies, more of them by what is laid out of it: side by side in a batch,
/// each as alone, with an r far longer than any sequence, of whose ends nothing is read.
TEST(transformer_xl, packs_few_queries_and_many) {
  random_source random(5);
  const std::vector<index_type> of_queries{0, 3, 43, 59, 60}, of_keys{0, 30, 90, 100, 101};
  layer_type layer({.dim = dim, .reach = 300, .offset = 4});
  fill(layer.u, random), fill(layer.v, random), fill(layer.r, random);
  layer.r.topRows(200).setConstant(std::numeric_limits<double>::quiet_NaN());
  layer.r.bottomRows(200).setConstant(std::numeric_limits<double>::quiet_NaN());
  const Matrix q = random_matrix(60, heads * dim, random), k = random_matrix(101, dim, random),
               v = random_matrix(101, value_dim, random);
  const Matrix all =
      layer(fovea::ragged{q, of_queries}, fovea::ragged{k, of_keys}, fovea::ragged{v, of_keys});
  for (std::size_t n = 0; n + 1 < of_queries.size(); ++n) {
    const auto part = [n](const Matrix& x, const std::vector<index_type>& offsets) {
      return Matrix(x.middleRows(offsets[n], offsets[n + 1] - offsets[n]));
    };
    const Matrix own_q = part(q, of_queries), own_k = part(k, of_keys), own_v = part(v, of_keys);
    EXPECT_TRUE(part(all, of_queries) == layer(own_q, own_k, own_v)) << own_q.rows() << " queries";
    EXPECT_LT(fovea_test::max_abs(part(all, of_queries) -
                                  textbook(layer, own_q, own_k, own_v, 4, [](auto, auto) { return true; })),
              1e-12);
  }
}

TEST(transformer_xl, gradients_know_nothing_of_what_is_hidden) {
  random_source random(3);
  const sizes n{12, 12, 0};
  Matrix q = random_matrix(12, heads * dim, random), k = random_matrix(12, dim, random);
  const Matrix v = random_matrix(12, value_dim, random), d_out = random_matrix(12, heads * value_dim, random);
  q.row(0).setConstant(std::numeric_limits<double>::quiet_NaN()), k.row(11) = q.row(0).head(dim);
  const fovea::causal_offset seen{-1};  // query 0 sees nothing, and nothing sees the last key
  layer_type layer = random_layer(n, random);
  layer.r.topRows(12).setConstant(std::numeric_limits<double>::quiet_NaN());  // distances of 0 and less
  const auto [out, lse] = layer.with_lse(q, k, v, seen);
  auto gradient = layer.zero_gradient();
  const auto d = layer.backward(q, k, v, out, lse, d_out, gradient, seen);
  EXPECT_TRUE(out.allFinite() && d.d_q.allFinite() && d.d_k.allFinite() && d.d_v.allFinite() &&
              gradient.u.allFinite() && gradient.v.allFinite() && gradient.r.allFinite());
}

TEST(transformer_xl, wrong_sizes_are_refused) {
  random_source random(4);
  layer_type layer({.dim = dim, .reach = 9, .offset = 2});
  const Matrix q = random_matrix(8, heads * dim, random), k = random_matrix(13, dim, random);
  expect_refused([&] { static_cast<void>(layer(q, k, k)); },
                 "transformer_xl's r has distances up to 9 but a sequence has -10 to 9");
  for (const index_type offset :
       {std::numeric_limits<index_type>::min(), std::numeric_limits<index_type>::max()})
    for (const index_type reach : {0, 9})
      for (const index_type queries : {3, 40})
        EXPECT_THROW(static_cast<void>(layer_type({.dim = dim, .reach = reach, .offset = offset})(
                         random_matrix(queries, heads * dim, random), k, k)),
                     std::invalid_argument);
  const Matrix few = k.topRows(12), wide = random_matrix(8, 2 * heads * dim, random);
  EXPECT_TRUE(layer(q, few, few).allFinite());
  expect_refused([&] { static_cast<void>(layer(wide, few, few)); },
                 "q has 10 dimensions a head but transformer_xl's dim is 5");
  layer.r.resize(4, dim);
  expect_refused([&] { static_cast<void>(layer(q, few, few)); }, "transformer_xl's r is 4 x 5, not 19 x 10");
  expect_refused([] { layer_type({.dim = 0}); }, "transformer_xl's dim is 0, below 1");
  expect_refused([] { layer_type({.dim = 4, .reach = -1}); },
                 "transformer_xl's reach is -1, not from 0 to 2147483647");
}

}  // namespace
}  // namespace transformer_xl_test
}  // namespace fovea_test
