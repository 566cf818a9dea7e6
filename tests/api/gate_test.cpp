// An output gate: against the reference in every form, element and view; its gradients against differences.
#include "../support/differences.hpp"
#include "../support/max_abs.hpp"
#include "../support/random.hpp"
#include "../support/refusal.hpp"

#include <fovea/executor.hpp>
#include <fovea/kernel/tile/sigmoid.hpp>
#include <fovea/kv_cache.hpp>
#include <fovea/reference.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace fovea_test {
namespace gate_test {
namespace {

using fovea::index_type;
template <class T>
using Rows = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Matrix = Rows<double>;
constexpr index_type heads = 2, kv_heads = 1, dim = 20, value_dim = 37;

template <class T>
Rows<T> random_rows(index_type rows, index_type columns, random_source& random, double size = 1) {
  Rows<T> x(rows, columns);
  for (index_type i = 0; i < x.size(); ++i) x.data()[i] = static_cast<T>(random.uniform(-size, size));
  return x;
}

template <class T>
struct inputs {
  Rows<T> q, k, v, gates;
  inputs(index_type queries, index_type keys, index_type gate_columns, double gate_size = 8) {
    random_source random(static_cast<std::uint64_t>(queries + 100 * keys));
    q = random_rows<T>(queries, heads * dim, random), k = random_rows<T>(keys, kv_heads * dim, random);
    v = random_rows<T>(keys, kv_heads * value_dim, random);
    gates = random_rows<T>(queries, heads * gate_columns, random, gate_size);
  }
};

/// |error| <= sigmoid 3 u (P |V|) (4 + A) + (2 |g| + 7) u |y|, and half a step of the result's element.
template <class T, class O>
void expect_reference(const O& out, const inputs<T>& x, double u, double step) {
  const auto wanted =
      fovea::reference(x.q, x.k, x.v, {.heads = heads, .kv_heads = kv_heads}, fovea::gate(x.gates));
  const index_type each = x.gates.cols() / heads;
  for (index_type h = 0; h < heads; ++h)
    for (index_type i = 0; i < x.q.rows(); ++i)
      for (index_type c = 0; c < value_dim; ++c) {
        const double g = std::abs(double(x.gates(i, h * each + (each == 1 ? 0 : c)))),
                     y = wanted.out(0, h, i, c);
        const double bound = 3 * u * wanted.magnitude(0, h, i, c) * (4 + wanted.logits(0, h, i, 0)) +
                             ((2 * g + 7) * u + step) * std::abs(y);
        ASSERT_NEAR(double(out(i, h * value_dim + c)), y, bound) << i << " " << h << " " << c;
      }
}

/// Lanes, few rows, one key, all keys in one block; a gate an element, and a head.
TEST(gate, is_the_reference_in_every_form) {
  for (const index_type columns : {index_type(1), value_dim})
    for (const auto& [queries, keys] : {std::pair{1, 1}, {1, 40}, {3, 300}, {40, 30}, {90, 700}}) {
      const inputs<float> x(queries, keys, columns);
      const fovea::attention<float, heads, kv_heads> attend;
      const Rows<float> out = attend(x.q, x.k, x.v, fovea::gate(x.gates));
      expect_reference(out, x, 0x1p-24, 0);
      const inputs<double> y(queries, keys, columns);
      expect_reference(fovea::attention<double, heads, kv_heads>()(y.q, y.k, y.v, fovea::gate(y.gates)), y,
                       0x1p-53, 0);
    }
}

/// O is rounded once, after its gate; results and gates of any strides; NaN between them stays.
TEST(gate, takes_every_element_and_view) {
  for (const index_type columns : {index_type(1), value_dim})
    for (const index_type queries : {2, 50}) {
      const inputs<float> x(queries, 60, columns);
      const fovea::attention<float, heads, kv_heads> attend;
      Rows<fovea::bf16> out(queries, heads * value_dim);
      attend.into(out, x.q, x.k, x.v, fovea::gate(x.gates));
      expect_reference(out.unaryExpr([](fovea::bf16 e) { return float(e); }).eval(), x, 0x1p-24, 0x1p-8);
      const float nan = std::numeric_limits<float>::quiet_NaN();
      Eigen::MatrixXf wide = Eigen::MatrixXf::Constant(queries + 2, heads * value_dim + 2, nan),
                      gates = x.gates;
      attend.into(wide.block(1, 1, queries, heads * value_dim), x.q, x.k, x.v, fovea::gate(gates));
      expect_reference(wide.block(1, 1, queries, heads * value_dim).eval(), x, 0x1p-24, 0);
      EXPECT_TRUE(wide.row(0).array().isNaN().all() && wide.row(queries + 1).array().isNaN().all());
      EXPECT_TRUE(wide.col(0).array().isNaN().all() && wide.rightCols(1).array().isNaN().all());
      const Rows<fovea::bf16> gates16 = x.gates.unaryExpr([](float g) { return fovea::bf16(g); });
      inputs<float> rounded = x;
      rounded.gates = gates16.unaryExpr([](fovea::bf16 e) { return float(e); });
      expect_reference(attend(x.q, x.k, x.v, fovea::gate(gates16)), rounded, 0x1p-24, 0);
    }
}

/// The bits of each row, whoever computes it and whatever else is asked; LSE, weights and received have no gate.
TEST(gate, changes_results_alone) {
  const inputs<float> x(70, 200, value_dim);
  fovea::threads three{3};
  const fovea::attention<float, heads, kv_heads> attend;
  const fovea::attention<float, heads, kv_heads> parallel{{.executor = three}};
  const auto gated = attend.with_lse(x.q, x.k, x.v, fovea::gate(x.gates), fovea::causal_top_left);
  const auto plain = attend.with_lse(x.q, x.k, x.v, fovea::causal_top_left);
  EXPECT_EQ(gated.lse, plain.lse);
  EXPECT_EQ(parallel(x.q, x.k, x.v, fovea::causal_top_left, fovea::gate(x.gates)), gated.out);
  Rows<float> weights(70, 200), received = Rows<float>::Zero(200, kv_heads), expected = received;
  EXPECT_EQ(attend(x.q, x.k, x.v, fovea::causal_top_left, fovea::gate(x.gates),
                   fovea::weights_into(weights, 1), fovea::add_received(received)),
            gated.out);
  Rows<float> plain_weights(70, 200);
  attend(x.q, x.k, x.v, fovea::causal_top_left, fovea::add_received(expected),
         fovea::weights_into(plain_weights, 1));
  EXPECT_TRUE(received == expected && weights == plain_weights);
  fovea::kv_cache<float, kv_heads> cache(200, dim, {.value_dim = value_dim});
  cache.append(x.k, x.v);
  EXPECT_EQ(attend(x.q, cache, fovea::gate(x.gates)), attend(x.q, x.k, x.v, fovea::gate(x.gates)));
}

/// An open gate leaves O, a shut one nothing; what a row does not see stays out of it.
TEST(gate, opens_and_shuts) {
  inputs<float> x(5, 9, 1);
  x.gates.setConstant(40);
  x.gates(2, 1) = -200;
  const fovea::attention<float, heads, kv_heads> attend;
  const Rows<float> out = attend(x.q, x.k, x.v, fovea::gate(x.gates)), open = attend(x.q, x.k, x.v);
  EXPECT_LT(fovea_test::max_abs((out - open).topRows(2)), 1e-7);
  EXPECT_TRUE((out.row(2).tail(value_dim).array() == 0).all());
  const Rows<float> none =
      attend(x.q, x.k, x.v, fovea::gate(x.gates), fovea::mask([](auto q, auto) { return q > 1; }));
  EXPECT_TRUE((none.topRows(2).array() == 0).all());
}

TEST(gate, has_a_sigmoid_of_the_stated_error) {
  using arch = xsimd::default_arch;
  using V = fovea::kernel::vec<arch, float>;
  const auto sigmoid = [](float x) { return fovea::kernel::sigmoid<arch, float>(V(x)).get(0); };
  for (float x = -120; x < 120; x += 0.0137f) {
    const double wanted = 1 / (1 + std::exp(-double(x)));
    if (x <= -88.1f)
      EXPECT_EQ(sigmoid(x), 0) << x;
    else if (x < -87.2f)  // where some are 0 and the rest are the smallest normal numbers
      EXPECT_LT(sigmoid(x), 0x1p-125) << x;
    else
      EXPECT_NEAR(sigmoid(x), wanted, wanted * (2 * std::abs(double(x)) + 6) * 0x1p-24) << x;
  }
  EXPECT_EQ((fovea::kernel::sigmoid<arch, double>(fovea::kernel::vec<arch, double>(-709.1)).get(0)), 0);
  EXPECT_GT((fovea::kernel::sigmoid<arch, double>(fovea::kernel::vec<arch, double>(-708)).get(0)), 0);
  EXPECT_EQ(sigmoid(-std::numeric_limits<float>::infinity()), 0);
  EXPECT_EQ(sigmoid(std::numeric_limits<float>::infinity()), 1);
  EXPECT_TRUE(std::isnan(sigmoid(std::numeric_limits<float>::quiet_NaN())));
}

/// All gradients, in double, against difference quotients of the reference's loss; the same bits for any executor.
TEST(gate, has_the_gradients_of_its_loss) {
  for (const index_type columns : {index_type(1), value_dim})
    for (const index_type queries : {3, 40}) {
      inputs<double> x(queries, 50, columns, 3);
      random_source random(7);
      const Matrix d_y = random_rows<double>(queries, heads * value_dim, random);
      const std::vector<double> slopes{0.1, 0.02};
      const auto loss = [&] {
        const auto y = fovea::reference(x.q, x.k, x.v, {.heads = heads, .kv_heads = kv_heads},
                                        fovea::gate(x.gates), fovea::alibi{.slopes = slopes, .offset = 0});
        double sum = 0;
        for (index_type i = 0; i < queries; ++i)
          for (index_type c = 0; c < d_y.cols(); ++c)
            sum += d_y(i, c) * y.out(0, c / value_dim, i, c % value_dim);
        return sum;
      };
      const auto gradients = [&](fovea::executor_ref executor) {
        const fovea::attention<double, heads, kv_heads> attend{{.executor = executor}};
        const fovea::alibi rule{.slopes = slopes, .offset = 0};
        const auto [y, lse] = attend.with_lse(x.q, x.k, x.v, fovea::gate(x.gates), rule);
        Matrix d_gates = Matrix::Constant(queries, heads * columns, std::numeric_limits<double>::quiet_NaN());
        auto d = attend.backward(x.q, x.k, x.v, y, lse, d_y, fovea::gate(x.gates, d_gates), rule);
        return std::tuple{d.d_q, d.d_k, d.d_v, d_gates};
      };
      const auto found = gradients({});
      fovea::threads three{3};
      EXPECT_TRUE(gradients(three) == found);
      const auto expect = [&](const char* name, auto& of, const auto& gradient) {
        expect_slopes(name, of, gradient, loss, 1e-9, 6);
      };
      expect("d_q", x.q, std::get<0>(found)), expect("d_k", x.k, std::get<1>(found));
      expect("d_v", x.v, std::get<2>(found)), expect("d_gate", x.gates, std::get<3>(found));
    }
}

/// Packed sequences have the results of each alone; rows of none have a gradient of 0.
TEST(gate, goes_with_packed_sequences) {
  const inputs<float> x(12, 12, 1);
  const std::vector<index_type> offsets{1, 5, 11};
  const fovea::attention<float, heads, kv_heads> attend;
  const auto packed = [&](const auto& m) { return fovea::ragged{m, offsets}; };
  const auto [y, lse] = attend.with_lse(packed(x.q), packed(x.k), packed(x.v), fovea::gate(packed(x.gates)));
  const Rows<float> q = x.q.middleRows(5, 6), k = x.k.middleRows(5, 6), v = x.v.middleRows(5, 6),
                    g = x.gates.middleRows(5, 6);
  EXPECT_EQ(Rows<float>(y.middleRows(5, 6)), attend(q, k, v, fovea::gate(g)));
  Rows<float> d_gates = Rows<float>::Constant(12, heads, std::numeric_limits<float>::quiet_NaN());
  fovea::ragged d_packed{d_gates, offsets};
  attend.backward(packed(x.q), packed(x.k), packed(x.v), packed(y), packed(lse), packed(y),
                  fovea::gate(packed(x.gates), d_packed));
  EXPECT_TRUE((d_gates.row(0).array() == 0).all() && (d_gates.row(11).array() == 0).all());
  EXPECT_TRUE(d_gates.allFinite());
}

TEST(gate, says_what_does_not_fit) {
  inputs<float> x(5, 9, 1);
  const fovea::attention<float, heads, kv_heads> attend;
  Rows<float> o(5, heads * value_dim), wrong(5, heads * 3), short_gates(4, heads),
      d_gates(5, heads * value_dim);
  o.setConstant(3);
  const auto refused = [&](const auto& gate, const char* why) {
    expect_refused([&] { attend.into(o, x.q, x.k, x.v, gate); }, why);
    EXPECT_TRUE((o.array() == 3).all());
  };
  refused(fovea::gate(wrong), "gate has 3 columns a head, neither 1 nor the 37 of v");
  refused(fovea::gate(short_gates), "gate has 4 tokens but q has 5");
  expect_refused([&] { attend.into(o, x.q, x.k, x.v, fovea::gate(o)); }, {"o and gate share memory"});
  const auto [y, lse] = attend.with_lse(x.q, x.k, x.v, fovea::gate(x.gates));
  expect_refused([&] { attend.backward(x.q, x.k, x.v, y, lse, y, fovea::gate(x.gates, d_gates)); },
                 "d_gate has 37 columns a head but gate has 1");
  expect_refused([&] { attend.backward(x.q, x.k, x.v, y, lse, y, fovea::gate(x.gates, x.gates)); },
                 {"d_gate and gate share memory"});
}

}  // namespace
}  // namespace gate_test
}  // namespace fovea_test
