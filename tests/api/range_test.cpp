// The ends of the range: weights too small for a float, sums near the largest number, parameters that the type of the sums
// does not hold.
#include <fovea/attention.hpp>
#include <fovea/multi_head.hpp>
#include <fovea/position.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

namespace {

using fovea::index_type;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr double u = 0x1p-24;
const fovea::attention<float, 1> unscaled({.scale = 1.0});

/// One key with logit 0 and value 1 among keys with logit -gap and a large value, by Q K^T or by a bias.
struct far_below {
  index_type queries, low;
  double gap;
  float value;
  bool first, by_bias;

  void expect_within_the_bound() const {
    const index_type keys = low + 1, good = first ? low : 0;
    Matrix q = Matrix::Ones(queries, 1), k = Matrix::Zero(keys, 1), v = Matrix::Constant(keys, 1, value);
    Matrix bias = Matrix::Zero(1, keys);
    for (index_type j = 0; j < keys; ++j)
      if (j != good) (by_bias ? bias(0, j) : k(j, 0)) = static_cast<float>(-gap);
    v(good, 0) = 1;
    const Matrix o = by_bias ? unscaled(q, k, v, fovea::bias(bias)) : unscaled(q, k, v);
    const double p = std::exp(-gap) * static_cast<double>(low), of_low = p * static_cast<double>(value);
    const double exact = (1 + of_low) / (1 + p), missing = gap > 87 ? of_low : 0;
    for (index_type i = 0; i < queries; ++i)
      EXPECT_NEAR(static_cast<double>(o(i, 0)), exact, 3 * u * exact * (4 + gap) + missing)
          << queries << " queries, " << low << " keys at -" << gap << " with " << value;
  }
};

TEST(range, a_weight_too_small_for_a_float_is_0) {
  for (const index_type queries : {1, 3, 64})
    for (const bool first : {false, true})
      for (const bool by_bias : {false, true}) {
        far_below{queries, 1, 80, 1e10f, first, by_bias}.expect_within_the_bound();
        far_below{queries, 1, 200, 1e35f, first, by_bias}.expect_within_the_bound();
        far_below{queries, 1000, 200, 1e34f, first, by_bias}.expect_within_the_bound();
        far_below{queries, 1, 1e4, 3e38f, first, by_bias}.expect_within_the_bound();
      }
}

TEST(range, and_is_so_wherever_it_is_looked_at) {
  Matrix q = Matrix::Ones(3, 1), k(2, 1), v(2, 1), received = Matrix::Zero(2, 1);
  k << 0, -200;
  v << 1, 1e35f;
  const auto weights = unscaled.weights(q, k);
  const auto rows = unscaled.statistics(q, k);
  const auto sums = unscaled.received(q, k);
  const auto part = unscaled.with_lse(q, k, v);
  for (index_type i = 0; i < 3; ++i) {
    EXPECT_EQ(weights(0, 0, i, 0), 1.f);
    EXPECT_EQ(weights(0, 0, i, 1), 0.f);
    EXPECT_EQ(rows.mass(0, 0, i, 0), 1.0);
    EXPECT_EQ(rows.visible(0, 0, i, 0), 2);
  }
  EXPECT_EQ(sums(0, 0, 0, 0), 3.f);
  EXPECT_EQ(sums(0, 0, 1, 0), 0.f);
  const auto gradients = unscaled.backward(q, k, v, part.out, part.lse, Matrix(Matrix::Ones(3, 1)));
  EXPECT_EQ(gradients.d_v(1, 0), 0.f);
  EXPECT_EQ(gradients.d_k(1, 0), 0.f);
  EXPECT_EQ(gradients.d_q(0, 0), 0.f);
}

TEST(range, a_nan_of_a_weight_too_small_is_seen) {
  // With and without a mask that hides another key, whose NaN is not.
  for (const index_type queries : {1, 3, 64})
    for (const bool hidden : {false, true}) {
      Matrix q = Matrix::Ones(queries, 1), k(4, 1), v = Matrix::Ones(4, 1);
      k << 0, -200, 0, 0;
      v(1, 0) = std::nanf("");
      const auto hide = fovea::mask([=](auto, auto key) { return key != (hidden ? 3 : -1); });
      const Matrix seen = unscaled(q, k, v, hide);
      for (index_type i = 0; i < queries; ++i)
        EXPECT_TRUE(std::isnan(seen(i, 0))) << queries << ", " << hidden;
      v(1, 0) = 1, v(3, 0) = std::nanf("");
      const Matrix unseen = unscaled(q, k, v, hide);
      for (index_type i = 0; i < queries; ++i) EXPECT_EQ(std::isnan(unseen(i, 0)), !hidden);
    }
}

TEST(range, parts_of_the_largest_numbers_merge) {
  const float most = 3.4e38f;
  const Matrix large = Matrix::Constant(2, 1, most), opposite = -large, lse = Matrix::Constant(2, 1, 5.f);
  using part = fovea::partial<Matrix, Matrix>;
  EXPECT_EQ(fovea::merge(part(large, lse), part(large, lse)).out(0, 0), most);
  EXPECT_EQ(fovea::merge(part(large, lse), part(opposite, lse)).out(1, 0), 0.f);
  EXPECT_NEAR(fovea::merge(part(large, lse), part(large, Matrix(lse.array() + 1))).out(0, 0) / most, 1,
              3 * u);
}

void expect_refused(const std::function<void()>& call, const std::string& sentence) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    EXPECT_NE(std::string(error.what()).find(sentence), std::string::npos) << error.what();
    return;
  }
  ADD_FAILURE() << "accepted, though " << sentence;
}

TEST(range, parameters_are_numbers_of_the_type_of_the_sums) {
  const Matrix x = Matrix::Ones(2, 2);
  const Eigen::MatrixXd wide = x.cast<double>();
  const auto with = [&](const auto&... mods) { return unscaled(x, x, x, mods...); };
  expect_refused([&] { fovea::attention<float, 1>({.scale = 1e39})(x, x, x); }, "scale is 1e+39");
  expect_refused([&] { fovea::attention<float, 1>({.scale = 3e38})(x, x, x); }, "scale is 3e+38");
  EXPECT_NO_THROW((fovea::attention<double, 1>({.scale = 1e39})(wide, wide, wide)));
  expect_refused([&] { fovea::attention<double, 1>({.scale = 1.5e308})(wide, wide, wide); },
                 "scale is 1.5e+308");
  expect_refused([&] { with(fovea::softcap{1e39}); }, "softcap is 1e+39");
  expect_refused([&] { with(fovea::softcap{1e-60}); }, "softcap is 1e-60");
  EXPECT_NO_THROW((fovea::attention<double, 1>()(wide, wide, wide, fovea::softcap{1e39})));
  const std::vector<double> large{1e39}, times_log2e{3e38}, none{-std::numeric_limits<double>::infinity()};
  expect_refused([&] { with(fovea::alibi{large}); }, "alibi's slope 0 is 1e+39");
  expect_refused([&] { with(fovea::sink{large}); }, "sink's logit 0 is 1e+39");
  expect_refused([&] { with(fovea::sink{times_log2e}); }, "sink's logit 0 is 3e+38");
  EXPECT_EQ(with(fovea::sink{none}), with());
  expect_refused([&] { with(fovea::dropout{.rate = 1 - 0x1p-30}); }, "dropout's rate is 0.99999999906");
  expect_refused([&] { fovea::rotary_table<float>(2, 256, 1e-320); }, "rotary_table's base is 1e-320");
  expect_refused([&] { fovea::multi_head<float, 2>({.width = 8, .epsilon = 1e39}); },
                 "multi_head's epsilon is 1e+39");
}

}  // namespace
