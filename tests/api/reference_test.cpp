// The specification against numbers worked out by hand: everything else is measured against it.
#include <fovea/reference.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace reference_test {

using fovea::index_type;
using Matrix = Eigen::MatrixXd;

const double ln2 = std::log(2.0), ln3 = std::log(3.0), infinite = std::numeric_limits<double>::infinity();

/// One query of 1 against keys 0, ln 2, ln 3: weights 1/6, 2/6, 3/6; values 6, 12, 24.
struct by_hand : testing::Test {
  Matrix q{{1.0}}, k{{0.0}, {ln2}, {ln3}}, v{{6.0}, {12.0}, {24.0}};
};

TEST_F(by_hand, softmax) {
  const auto r = fovea::reference(q, k, v, {});
  EXPECT_NEAR(r.out(0, 0, 0, 0), 17, 1e-12);
  EXPECT_NEAR(r.lse(0, 0, 0, 0), std::log(6.0), 1e-12);
  EXPECT_NEAR(r.magnitude(0, 0, 0, 0), 17, 1e-12);
  EXPECT_NEAR(r.logits(0, 0, 0, 0), ln3, 1e-12);
}

TEST_F(by_hand, scale) {
  EXPECT_NEAR(fovea::reference(q, k, v, {.scale = 2.0}).out(0, 0, 0, 0), (6 + 4 * 12 + 9 * 24) / 14.0, 1e-12);
  EXPECT_NEAR(fovea::reference(q, k, v, {.scale = 0.0}).out(0, 0, 0, 0), 14, 1e-12);
  const Matrix q4{{1.0, 0.0, 0.0, 0.0}}, k4{{2 * ln2, 5.0, 0.0, 0.0}, {0.0, 0.0, 7.0, 0.0}}, v2{{3.0}, {9.0}};
  EXPECT_NEAR(fovea::reference(q4, k4, v2, {}).out(0, 0, 0, 0), 5, 1e-12) << "1 / sqrt(4) without a scale";
}

TEST_F(by_hand, masks) {
  EXPECT_NEAR(fovea::reference(q, k, v, {}, fovea::causal_top_left).out(0, 0, 0, 0), 6, 1e-12);
  EXPECT_NEAR(fovea::reference(q, k, v, {}, fovea::causal_offset{1}).out(0, 0, 0, 0), 10, 1e-12);
  EXPECT_NEAR(fovea::reference(q, k, v, {}, fovea::causal_bottom_right).out(0, 0, 0, 0), 17, 1e-12);
  const auto none = fovea::reference(q, k, v, {}, fovea::causal_offset{-1});
  EXPECT_EQ(none.out(0, 0, 0, 0), 0);
  EXPECT_EQ(none.lse(0, 0, 0, 0), -infinite);
}

TEST_F(by_hand, scores) {
  const Matrix hide_second{{0.0, -infinite, ln2}};
  EXPECT_NEAR(fovea::reference(q, k, v, {}, fovea::bias(hide_second)).out(0, 0, 0, 0), (6 + 6 * 24) / 7.0,
              1e-12);
  const std::vector<float> slope = {1.0f}, logit = {0.0f};
  const double e = std::exp(-1.0), sum = 1 + 2 * e + 3 * e * e;
  EXPECT_NEAR(fovea::reference(q, k, v, {}, fovea::alibi{slope}).out(0, 0, 0, 0),
              (6 + 24 * e + 72 * e * e) / sum, 1e-12);
  const auto with_sink = fovea::reference(q, k, v, {}, fovea::sink{logit});
  EXPECT_NEAR(with_sink.out(0, 0, 0, 0), 102 / 7.0, 1e-12);
  EXPECT_NEAR(with_sink.lse(0, 0, 0, 0), std::log(7.0), 1e-12);
  const double two = std::exp(std::tanh(ln2)), three = std::exp(std::tanh(ln3));
  EXPECT_NEAR(fovea::reference(q, k, v, {}, fovea::softcap{1.0f}).out(0, 0, 0, 0),
              (6 + 12 * two + 24 * three) / (1 + two + three), 1e-12);
  const auto doubled = fovea::score([](auto s, auto, auto) { return s + s; });
  EXPECT_NEAR(fovea::reference(q, k, v, {}, doubled).out(0, 0, 0, 0), (6 + 4 * 12 + 9 * 24) / 14.0, 1e-12);
}

TEST(reference, sink_of_a_row_without_keys) {
  const Matrix q{{1.0}}, k(0, 1), v(0, 1);
  const std::vector<float> logit = {0.5f};
  const auto r = fovea::reference(q, k, v, {}, fovea::sink{logit});
  EXPECT_EQ(r.out(0, 0, 0, 0), 0);
  EXPECT_EQ(r.lse(0, 0, 0, 0), 0.5);
}

// Four query heads share two key/value heads: 0 and 1 the first, 2 and 3 the second.
TEST(reference, grouped_heads) {
  const Matrix q = Matrix::Zero(1, 4), k = Matrix::Zero(2, 2), v{{1.0, 10.0}, {3.0, 30.0}};
  const auto r = fovea::reference(q, k, v, {.heads = 4, .kv_heads = 2});
  const double expected[] = {2, 2, 20, 20};
  for (index_type h = 0; h < 4; ++h) EXPECT_EQ(r.out(0, h, 0, 0), expected[h]);
}

TEST(reference, every_storage_type_and_ragged) {
  const std::vector<fovea::bf16> q = {fovea::bf16(1.0f), fovea::bf16(0.0f)};
  const std::vector<fovea::fp16> k = {fovea::fp16(0.0f), fovea::fp16(0.0f), fovea::fp16(0.0f)};
  const std::vector<float> v = {6, 12, 24};
  const auto all = [](const auto& x) {
    return fovea::bhsd(x.data(), 1, 1, static_cast<index_type>(x.size()), 1);
  };
  const auto qs = all(q);
  const auto ks = all(k);
  const auto vs = all(v);
  const std::vector<index_type> q_offsets = {0, 1, 2}, k_offsets = {0, 2, 3};
  const auto r = fovea::reference(fovea::ragged(qs, q_offsets), fovea::ragged(ks, k_offsets),
                                  fovea::ragged(vs, k_offsets), {});
  EXPECT_EQ(r.out(0, 0, 0, 0), 9);
  EXPECT_EQ(r.out(1, 0, 0, 0), 24);
}

TEST(reference, nan_is_never_lost) {
  Matrix q = Matrix::Ones(2, 1), k = Matrix::Ones(2, 1), v = Matrix::Ones(2, 1);
  k(1, 0) = std::numeric_limits<double>::quiet_NaN();
  const auto r = fovea::reference(q, k, v, {}, fovea::causal);
  EXPECT_EQ(r.out(0, 0, 0, 0), 1);
  EXPECT_TRUE(std::isnan(r.out(0, 0, 1, 0)) && std::isnan(r.lse(0, 0, 1, 0)));
}

}  // namespace reference_test
