// rounded_weights beside all that a call may have: where nothing is made of pairs it changes no bit; its bound and its
// forms are the property suite's (subjects_pairs.cpp).
#include <fovea/attention.hpp>
#include <fovea/kv_cache.hpp>

#include "../support/max_abs.hpp"

#include <gtest/gtest.h>

namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Halves = Eigen::Matrix<Eigen::bfloat16, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr bool pairs = fovea::kernel::multiplies_pairs<xsimd::default_arch>;

TEST(rounded_weights, change_no_bit_of_other_elements) {
  const Matrix q = Matrix::Random(40, 32), k = Matrix::Random(50, 32), v = Matrix::Random(50, 32);
  const fovea::attention<float, 2> attend;
  EXPECT_EQ(attend(q, k, v, fovea::rounded_weights), attend(q, k, v));
  const Halves keys = k.cast<Eigen::bfloat16>(), values = v.cast<Eigen::bfloat16>();
  EXPECT_EQ(attend(q, keys, values, fovea::rounded_weights), attend(q, keys, values));
}

TEST(rounded_weights, leave_the_lse_and_go_with_a_plan_and_a_cache) {
  const Halves q = Matrix::Random(40, 32).cast<Eigen::bfloat16>(),
               k = Matrix::Random(40, 32).cast<Eigen::bfloat16>(),
               v = Matrix::Random(40, 32).cast<Eigen::bfloat16>();
  const fovea::attention<Eigen::bfloat16, 2> attend;
  const auto exact = attend.with_lse(q, k, v, fovea::causal);
  const auto rounded = attend.with_lse(q, k, v, fovea::causal, fovea::rounded_weights);
  EXPECT_EQ(exact.lse, rounded.lse);
  const Matrix change = (exact.out.cast<float>() - rounded.out.cast<float>()).cwiseAbs();
  EXPECT_LE(fovea_test::max_abs(change), 0x1p-7f);
  EXPECT_EQ(fovea_test::max_abs(change) > 0, pairs);

  const fovea::plan plan = attend.plan_for(q, k, v, fovea::causal, fovea::rounded_weights);
  std::vector<std::byte> bytes(static_cast<std::size_t>(plan.workspace_bytes()));
  EXPECT_EQ(attend(q, k, v, fovea::rounded_weights, fovea::causal, plan, fovea::workspace{bytes}),
            rounded.out);

  fovea::kv_cache<fovea::bf16, 2> cache(64, 16);
  cache.append(k, v);
  EXPECT_EQ(attend(q, cache, fovea::causal, fovea::rounded_weights), rounded.out);
}

TEST(rounded_weights, drop_the_cells_that_a_call_without_drops) {
  const Halves q = Matrix::Random(40, 32).cast<Eigen::bfloat16>(),
               k = Matrix::Random(300, 32).cast<Eigen::bfloat16>(),
               v = Matrix::Ones(300, 32).cast<Eigen::bfloat16>();
  const fovea::attention<Eigen::bfloat16, 2> attend;
  const fovea::dropout drop{.rate = 0.5, .seed = 3};
  const Matrix exact = attend(q, k, v, drop).cast<float>(),
               rounded = attend(q, k, v, drop, fovea::rounded_weights).cast<float>();
  EXPECT_LE(fovea_test::max_abs(exact - rounded), 0x1p-6f);  // other cells would move it by about 0.06
}

TEST(rounded_weights, backward_takes_such_a_result) {
  const Halves q = Matrix::Random(40, 32).cast<Eigen::bfloat16>(),
               k = Matrix::Random(40, 32).cast<Eigen::bfloat16>(),
               v = Matrix::Random(40, 32).cast<Eigen::bfloat16>(), d_o = v;
  const fovea::attention<Eigen::bfloat16, 2> attend;
  const auto [o, lse] = attend.with_lse(q, k, v, fovea::rounded_weights);
  const auto with = attend.backward(q, k, v, o, lse, d_o, fovea::rounded_weights);
  const auto without = attend.backward(q, k, v, o, lse, d_o);
  EXPECT_EQ(with.d_q, without.d_q);
  EXPECT_EQ(with.d_k, without.d_k);
  EXPECT_EQ(with.d_v, without.d_v);
}

}  // namespace
