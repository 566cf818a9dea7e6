// Linear attention: a result in place of q, and packed sequences of no tokens.
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

}  // namespace
