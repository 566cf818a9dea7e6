// Attention by sigmoids: against the reference in every form, its gradients against differences.
#include "../support/differences.hpp"
#include "../support/max_abs.hpp"
#include "../support/random.hpp"
#include "../support/refusal.hpp"

#include <fovea/executor.hpp>
#include <fovea/kv_cache.hpp>
#include <fovea/reference.hpp>
#include <fovea/sigmoid_attention.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace fovea_test {
namespace sigmoid_attention_test {
namespace {

using fovea::index_type;
template <class T>
using Rows = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Matrix = Rows<double>;
constexpr index_type heads = 2, kv_heads = 1, dim = 20, value_dim = 37;
template <class T>
using attention = fovea::sigmoid_attention<T, heads, kv_heads>;

template <class T>
struct inputs {
  Rows<T> q, k, v;
  inputs(index_type queries, index_type keys) {
    random_source random(static_cast<std::uint64_t>(queries + 100 * keys));
    const auto rows = [&](index_type count, index_type columns) {
      Rows<T> x(count, columns);
      for (index_type i = 0; i < x.size(); ++i) x.data()[i] = static_cast<T>(random.uniform(-2, 2));
      return x;
    };
    q = rows(queries, heads * dim), k = rows(keys, kv_heads * dim), v = rows(keys, kv_heads * value_dim);
  }
};

/// |error| <= 3 u (P |V|) (4 + A + |bias|), and half a step of the result's element.
template <class T, class O, class... Mods>
void expect_reference(const O& out, const inputs<T>& x, double bias, double step, const Mods&... mods) {
  const double u = sizeof(T) == 4 ? 0x1p-24 : 0x1p-52;
  const auto wanted = fovea::reference(x.q, x.k, x.v, {.heads = heads, .kv_heads = kv_heads},
                                       fovea::sigmoid_weights{bias}, mods...);
  for (index_type h = 0; h < heads; ++h)
    for (index_type i = 0; i < x.q.rows(); ++i)
      for (index_type c = 0; c < value_dim; ++c) {
        const double y = wanted.out(0, h, i, c);
        const double bound =
            3 * u * wanted.magnitude(0, h, i, c) * (4 + wanted.logits(0, h, i, 0) + std::abs(bias)) +
            step * std::abs(y);
        ASSERT_NEAR(double(out(i, h * value_dim + c)), y, bound) << i << " " << h << " " << c;
      }
}

const std::vector<double> slopes{0.1, 0.02};
fovea::alibi slope_rule() { return {.slopes = slopes, .offset = 0}; }

/// Lanes, few rows, one key, all keys in one block and in many; logits in powers of two, and in natural units.
TEST(sigmoid_attention, is_the_reference_in_every_form) {
  for (const auto& [queries, keys] : {std::pair{1, 1}, {1, 40}, {3, 300}, {40, 30}, {90, 700}}) {
    const double bias = -std::log(double(keys));
    const inputs<float> x(queries, keys);
    const attention<float> attend({.bias = bias});
    expect_reference(attend(x.q, x.k, x.v), x, bias, 0);
    const fovea::causal_offset seen{5};
    expect_reference(attend(x.q, x.k, x.v, seen, slope_rule()), x, bias, 0, seen, slope_rule());
    const inputs<double> y(queries, keys);
    expect_reference(attention<double>({.bias = 1})(y.q, y.k, y.v, seen), y, 1, 0, seen);
    Rows<fovea::bf16> rounded(queries, heads * value_dim);
    attend.into(rounded, x.q, x.k, x.v, fovea::softcap{2.0});
    expect_reference(rounded.unaryExpr([](fovea::bf16 e) { return float(e); }).eval(), x, bias, 0x1p-8,
                     fovea::softcap{2.0});
  }
}

/// The same bits for any executor, sequences alone or packed, and of a cache; a gate and dropout go with it.
TEST(sigmoid_attention, has_one_result) {
  fovea::threads three{3};
  for (const auto& [queries, keys] : {std::pair{3, 5000}, {70, 300}}) {
    const inputs<float> x(queries, keys);
    const attention<float> attend({.bias = -5}), parallel({.bias = -5, .executor = three});
    const fovea::dropout drop{.rate = 0.3, .seed = 4};
    const Rows<float> out = attend(x.q, x.k, x.v, drop);
    EXPECT_EQ(parallel(x.q, x.k, x.v, drop), out);
    expect_reference(out, x, -5, 0, drop);
    fovea::kv_cache<float, kv_heads> cache(keys, dim, {.value_dim = value_dim});
    cache.append(x.k, x.v);
    EXPECT_EQ(attend(x.q, cache, drop), out);
    const Rows<float> gates = Rows<float>::Constant(queries, heads, 40);
    EXPECT_LT(fovea_test::max_abs(attend(x.q, x.k, x.v, drop, fovea::gate(gates)) - out), 1e-5);
    const auto plan = attend.plan_for(x.q, x.k, x.v, drop);
    std::vector<std::byte> bytes(static_cast<std::size_t>(plan.workspace_bytes()));
    EXPECT_EQ(attend(x.q, x.k, x.v, drop, plan, fovea::workspace{bytes}), out);
  }
  const inputs<float> x(12, 12);
  const std::vector<index_type> offsets{0, 5, 12};
  const attention<float> attend({.bias = -1});
  const auto packed = [&](const auto& m) { return fovea::ragged{m, offsets}; };
  const Rows<float> all = attend(packed(x.q), packed(x.k), packed(x.v), fovea::causal);
  const Rows<float> q = x.q.bottomRows(7), k = x.k.bottomRows(7), v = x.v.bottomRows(7);
  EXPECT_EQ(Rows<float>(all.bottomRows(7)), attend(q, k, v, fovea::causal));
}

/// Weights are what O sums; parts over different keys add up.
TEST(sigmoid_attention, has_no_normaliser) {
  const inputs<double> x(6, 50);
  const attention<double> attend({.bias = -2});
  const Matrix out = attend(x.q, x.k, x.v, slope_rule());
  const auto p = attend.weights(x.q, x.k, slope_rule());
  for (index_type h = 0; h < heads; ++h) {
    const Eigen::Map<const Matrix> of_head(&p(0, h, 0, 0), 6, 50);
    EXPECT_LT(fovea_test::max_abs(of_head * x.v - out.middleCols(h * value_dim, value_dim)), 1e-12);
  }
  const Matrix k1 = x.k.topRows(20), k2 = x.k.bottomRows(30), v1 = x.v.topRows(20), v2 = x.v.bottomRows(30);
  EXPECT_LT(fovea_test::max_abs(attend(x.q, k1, v1) + attend(x.q, k2, v2) - attend(x.q, x.k, x.v)), 1e-12);
}

TEST(sigmoid_attention, has_the_gradients_of_its_loss) {
  for (const auto& [queries, keys] : {std::pair{3, 50}, {40, 30}}) {
    inputs<double> x(queries, keys);
    const Matrix d_out = inputs<double>(queries, 3).q.leftCols(1) * Matrix::Ones(1, heads * value_dim);
    std::vector<float> d_slopes(heads);
    const fovea::dropout drop{.rate = 0.2, .seed = 4};
    const fovea::alibi learnt{.slopes = slopes, .offset = 0, .d_slopes = d_slopes};
    const auto expect = [&](const auto&... mods) {
      const auto loss = [&] {
        const auto y = fovea::reference(x.q, x.k, x.v, {.heads = heads, .kv_heads = kv_heads},
                                        fovea::sigmoid_weights{-1.5}, mods...);
        double sum = 0;
        for (index_type i = 0; i < d_out.rows(); ++i)
          for (index_type c = 0; c < d_out.cols(); ++c)
            sum += d_out(i, c) * y.out(0, c / value_dim, i, c % value_dim);
        return sum;
      };
      const attention<double> attend({.bias = -1.5});
      const auto d = attend.backward(x.q, x.k, x.v, d_out, mods...);
      expect_slopes("d_q", x.q, d.d_q, loss), expect_slopes("d_k", x.k, d.d_k, loss);
      expect_slopes("d_v", x.v, d.d_v, loss);
      fovea::threads three{3};
      const attention<double> parallel({.bias = -1.5, .executor = three});
      Matrix d_q(queries, heads * dim), d_k = x.k, d_v = x.v;
      parallel.backward_into(d_q, d_k, d_v, x.q, x.k, x.v, d_out, mods...);
      EXPECT_TRUE(d_q == d.d_q && d_k == d.d_k && d_v == d.d_v);
    };
    expect();
    expect(fovea::causal_offset{10}, drop);
    expect(learnt, fovea::softcap{3.0});
    const double step = 1e-4;
    for (std::size_t h = 0; h < 2; ++h) {
      const auto with = [&](double by) {
        std::vector<double> other = slopes;
        other[h] += by * step;
        const Matrix y = attention<double>({.bias = -1.5})(
            x.q, x.k, x.v, fovea::alibi{.slopes = other, .offset = 0}, fovea::softcap{3.0});
        return y.cwiseProduct(d_out).sum();
      };
      const double wanted = (8 * (with(1) - with(-1)) - (with(2) - with(-2))) / (12 * step);
      EXPECT_NEAR(d_slopes[h], wanted, 1e-8 + 0x1p-24 * std::abs(wanted));  // kept in float
    }
  }
}

/// What is hidden reaches nothing, not even as a NaN; a row that sees nothing is 0, and so are its gradients.
TEST(sigmoid_attention, knows_nothing_of_what_is_hidden) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const index_type queries : {3, 50}) {
    const inputs<float> x(queries, 80);
    inputs<float> y = x;
    y.k.row(60).setConstant(nan), y.v.row(60).setConstant(nan), y.q.row(1).setConstant(nan);
    const auto seen = fovea::mask([](auto q, auto k) { return (k != 60) & (q != 0); });
    const attention<float> attend({.bias = -3});
    const Rows<float> wanted = attend(x.q, x.k, x.v, seen), out = attend(y.q, y.k, y.v, seen);
    EXPECT_TRUE((out.row(0).array() == 0).all() && out.row(1).array().isNaN().all());
    EXPECT_EQ(Rows<float>(out.bottomRows(queries - 2)), Rows<float>(wanted.bottomRows(queries - 2)));
    y.q = x.q;
    const Rows<float> d_out = Rows<float>::Ones(queries, heads * value_dim);
    const auto d = attend.backward(x.q, x.k, x.v, d_out, seen),
               e = attend.backward(y.q, y.k, y.v, d_out, seen);
    EXPECT_TRUE(d.d_q == e.d_q && d.d_k == e.d_k && d.d_v == e.d_v);
    EXPECT_TRUE((d.d_q.row(0).array() == 0).all() && (d.d_v.row(60).array() == 0).all());
  }
}

/// Logits far out: weights of exactly 0, and of 1.
TEST(sigmoid_attention, takes_logits_of_any_size) {
  const Rows<float> one = Rows<float>::Constant(1, 1, 1), k = (Rows<float>(3, 1) << -300, 0, 300).finished(),
                    v = (Rows<float>(3, 1) << 5, 6, 7).finished();
  const fovea::sigmoid_attention<float, 1> attend({.scale = 1});
  EXPECT_EQ(attend(one, k, v)(0, 0), 10);
  const auto d = attend.backward(one, k, v, one);
  EXPECT_EQ(d.d_k, (Rows<float>(3, 1) << 0, 1.5f, 0).finished());
}

TEST(sigmoid_attention, says_what_does_not_fit) {
  const inputs<float> x(5, 9);
  const attention<float> attend({.bias = std::numeric_limits<double>::infinity()});
  expect_refused([&] { static_cast<void>(attend(x.q, x.k, x.v)); },
                 "sigmoid attention's bias is inf, not finite");
  expect_refused([&] { attention<float>({.heads = 3}); }, "the option heads is 3, but the type says 2");
  expect_refused([&] { static_cast<void>(attention<float>()(x.q, x.k, x.q)); }, "k has 9 tokens but v has 5");
}

}  // namespace
}  // namespace sigmoid_attention_test
}  // namespace fovea_test
