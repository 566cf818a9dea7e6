// Linear attention: a result in place of q, and packed sequences of no tokens.
#include <fovea/linear/reference.hpp>

#include "problem.hpp"

#include <gtest/gtest.h>

#include <Eigen/Core>

namespace {

using fovea::index_type, fovea::linear_engine;
using namespace linear_test;

TEST(LinearAttention, OMayBeQItself) {
  for (const auto engine : {linear_engine::recurrence, linear_engine::chunked})
    for (const rule r : all_rules)
      for (const index_type tokens : {1, 3, 70})
        for (const index_type dim : {16, 80}) {  // one strip of columns, and more
          problem<float> p({2, 4, 2, tokens, dim, dim}, 0.3);
          const fovea::linear_attention<float> attend({.heads = 4, .kv_heads = 2, .engine = engine});
          p.with(r, [&](const auto&... mods) {
            auto state = p.s, same_state = p.s;
            fovea::tensor<float> o(2, 4, tokens, dim), q = p.q;
            attend.into(o, p.q, p.k, p.v, fovea::linear_state(state), mods...);
            attend.into(q, q, p.k, p.v, fovea::linear_state(same_state), mods...);
            ASSERT_TRUE(same_bits(o, q) && same_bits(state, same_state))
                << tokens << " x " << dim << ", rule " << int(r);
          });
        }
}

TEST(LinearAttention, EmptySequencesOfABatchKeepTheirStates) {
  const std::vector<index_type> starts{0, 0, 17, 17, 17, 40, 40};
  const index_type tokens = 40, dim = 16, every = 5, a_sequence = 23 / every;
  problem<float> p({1, 1, 1, tokens, dim, dim}, 0.3), several({6, 1, 1, 1, dim, dim}, 0.3);
  using matrix = Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
  const auto packed = [&](fovea::tensor<float>& x) { return matrix(x.data(), tokens, x.view().dim); };
  matrix q = packed(p.q), k = packed(p.k), v = packed(p.v), g = packed(p.g), b = packed(p.b);
  fovea::tensor<float> out(1, 1, tokens, dim), d_q = p.q, d_k = p.k, d_v = p.v, d_o = p.v;
  matrix o = packed(out), of_q = packed(d_q), of_k = packed(d_k), of_v = packed(d_v), of_o = packed(d_o);
  fovea::ragged rows_q{q, starts}, rows_k{k, starts}, rows_v{v, starts}, rows_g{g, starts}, rows_b{b, starts};
  fovea::ragged rows_o{o, starts}, to_q{of_q, starts}, to_k{of_k, starts}, to_v{of_v, starts},
      from_o{of_o, starts};
  auto state = several.s, d_state = several.s;
  fovea::tensor<float> past(6 * a_sequence, 1, dim, dim);
  std::fill_n(past.data(), past.size(), 7.f);
  const fovea::linear_attention<float, 1> attend;
  attend.into(rows_o, rows_q, rows_k, rows_v, fovea::log_decay(rows_g), fovea::delta_rule(rows_b),
              fovea::linear_state(state), fovea::linear_snapshots(past, every));
  attend.backward_into(to_q, to_k, to_v, rows_q, rows_k, rows_v, from_o, fovea::log_decay(rows_g),
                       fovea::delta_rule(rows_b), fovea::linear_state(several.s, d_state));
  for (index_type n = 0; n < 6; ++n) {
    const index_type length = starts[std::size_t(n) + 1] - starts[std::size_t(n)];
    const auto kept = [&](const fovea::tensor<float>& x) {
      return std::equal(&x(n, 0, 0, 0), &x(n, 0, 0, 0) + dim * dim, &several.s(n, 0, 0, 0));
    };
    EXPECT_EQ(kept(state), length == 0) << n;
    EXPECT_EQ(kept(d_state), length == 0) << n;
    for (index_type i = 0; i < a_sequence; ++i)
      EXPECT_EQ(past(n * a_sequence + i, 0, 3, 3) == 7.f, (i + 1) * every > length) << n << ' ' << i;
  }
}

/// Rows times a power of two have the same direction, though their squares be no numbers: the results are the
/// same, and gradients by rows so much smaller.
template <class T>
void expect_the_same_directions(double by, double error) {
  const double base = 0x1p20;  // beside its square 1e-6 is nothing
  const shape at{.heads = 2, .kv_heads = 1, .tokens = 40, .dim = 20, .value_dim = 8};
  for (const rule r : {rule::linear, rule::gated_delta, rule::gated_delta_channels})
    for (const auto engine : {fovea::linear_engine::recurrence, fovea::linear_engine::chunked}) {
      problem<T> p(at, 0.1);
      for (index_type i = 0; i < p.q.size(); ++i) p.q.data()[i] *= T(base);
      for (index_type i = 0; i < p.k.size(); ++i) p.k.data()[i] *= T(base);
      const fovea::tensor<T> q = p.q, k = p.k;
      for (index_type i = 0; i < q.size(); ++i) p.q.data()[i] *= i / at.dim % 3 == 0 ? T(by) : T(1);
      for (index_type i = 0; i < k.size(); ++i) p.k.data()[i] *= i / at.dim % 5 == 0 ? T(by) : T(1);
      const fovea::linear_attention<T> attend(
          {.heads = at.heads, .kv_heads = at.kv_heads, .l2_norm = true, .engine = engine});
      p.with(r, [&](const auto&... mods) {
        const auto few = attend(q, k, p.v, mods...), many = attend(p.q, p.k, p.v, mods...);
        for (index_type i = 0; i < few.size(); ++i) ASSERT_NEAR(many.data()[i], few.data()[i], error) << by;
        const auto want =
            fovea::linear_reference(p.q, p.k, p.v, {.heads = 2, .kv_heads = 1, .l2_norm = true}, mods...);
        for (index_type i = 0; i < few.size(); ++i) ASSERT_NEAR(want.out.data()[i], few.data()[i], error);
        const auto d = attend.backward(q, k, p.v, few, mods...),
                   d_many = attend.backward(p.q, p.k, p.v, few, mods...);
        const auto same = [&](const auto& x, const auto& y, int each, double factor) {
          for (index_type i = 0; i < x.size(); ++i)
            ASSERT_NEAR(base * (i / at.dim % each == 0 ? factor : 1) * double(x.data()[i]),
                        base * double(y.data()[i]), 10 * error * (1 + std::abs(base * double(y.data()[i]))))
                << by << " " << i;
        };
        same(d_many.d_q, d.d_q, 3, by), same(d_many.d_k, d.d_k, 5, by), same(d_many.d_v, d.d_v, 1, 1.);
      });
    }
}

TEST(LinearAttention, RowsOfAnySizeAreOfLength1) {
  for (const double by : {0x1p40, 0x1p56, 0x1p104}) expect_the_same_directions<float>(by, 2e-5);
  for (const double by : {0x1p400, 0x1p500, 0x1p1000}) expect_the_same_directions<double>(by, 1e-12);
}

}  // namespace
