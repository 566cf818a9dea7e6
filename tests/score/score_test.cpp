// What scores do to a logit, in which order, and scores of a user's own.
#include <fovea/attention.hpp>

#include "../support/max_abs.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace {

using fovea::index_type;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

static_assert(fovea::score_like<fovea::softcap<float>> && fovea::score_like<fovea::alibi> &&
              !fovea::score_like<fovea::sink>);
static_assert(fovea::sink_like<fovea::sink> && !fovea::sink_like<fovea::alibi>);

/// The logits of one head: q . k, without a scale, so that they are these numbers.
struct logits_of_one_head {
  Matrix q = Matrix::Random(5, 3), k = Matrix::Random(7, 3);
  fovea::attention<float, 1> attend{{.scale = 1.0}};
  Matrix plain = q * k.transpose();

  template <class Expected, class... Scores>
  void expect(Expected expected, const Scores&... scores) const {
    const auto s = attend.scores(q, k, scores...);
    for (index_type i = 0; i < 5; ++i)
      for (index_type j = 0; j < 7; ++j) {
        const float exact = expected(plain(i, j), static_cast<float>(i), static_cast<float>(j));
        if (std::isinf(exact))
          EXPECT_EQ(s(0, 0, i, j), exact);
        else
          EXPECT_NEAR(s(0, 0, i, j), exact, 1e-5f) << i << " " << j;
      }
  }
};

const std::vector<float> half = {0.5f};

TEST(score, formulas) {
  const logits_of_one_head l;
  l.expect([](float s, float, float) { return s; });
  l.expect([](float s, float, float) { return 0.5f * std::tanh(s / 0.5f); }, fovea::softcap{0.5f});
  l.expect([](float s, float, float) { return s; }, fovea::softcap{0.0f});
  l.expect([](float s, float q, float k) { return s - 0.5f * std::abs(q - k); }, fovea::alibi{half});
  l.expect([](float s, float q, float k) { return s - 0.5f * std::abs(q + 2 - k); }, fovea::alibi{half, 2});
  const Matrix added = Matrix::Random(5, 7);
  l.expect([&](float s, float q, float k) { return s + added(index_type(q), index_type(k)); },
           fovea::bias(added));
}

TEST(score, order_is_as_listed_but_softcap_is_first) {
  const logits_of_one_head l;
  const auto twice = fovea::score([](auto s, auto, auto) { return s + s; });
  l.expect([](float s, float q, float k) { return 2 * (s - 0.5f * std::abs(q - k)); }, fovea::alibi{half},
           twice);
  l.expect([](float s, float q, float k) { return 2 * s - 0.5f * std::abs(q - k); }, twice,
           fovea::alibi{half});
  l.expect([](float s, float, float) { return 2 * std::tanh(s); }, twice, fovea::softcap{1.0f});
}

/// Of a finite slope the bias may be none: then softmax would be of infinite logits.
TEST(score, alibi_has_finite_biases) {
  const Matrix q = Matrix::Random(3, 4), k = Matrix::Random(6, 4);
  const fovea::attention<float, 1> attend;
  const auto with = [&](float slope, index_type offset) {
    const std::vector<float> slopes{slope};
    return attend.with_lse(q, k, k, fovea::alibi{slopes, offset});
  };
  for (const float slope : {4e37f, -4e37f}) {
    const auto [out, lse] = with(slope, 0);
    EXPECT_TRUE(out.allFinite() && lse.allFinite());
    for (int i = 0; i < 3; ++i) EXPECT_LT(fovea_test::max_abs(out.row(i) - k.row(slope > 0 ? i : 5)), 1e-6f);
  }
  for (const float slope : {5e37f, 3e38f, -3e38f}) {
    try {
      with(slope, 0);
      ADD_FAILURE() << slope << " is not refused";
    } catch (const std::invalid_argument& e) {
      EXPECT_TRUE(std::string(e.what()).ends_with(
          ", which times log2(e) and the distance 5 of a key is no finite float"))
          << e.what();
    }
  }
  EXPECT_THROW(with(3e37f, -7), std::invalid_argument);
  EXPECT_THROW(with(1e20f, std::numeric_limits<index_type>::max()), std::invalid_argument);
}

TEST(score, functions_know_positions) {
  const logits_of_one_head l;
  const auto own = [](auto s, auto q, auto k) {
    using std::abs;
    return s - decltype(s)(0.1f) * abs(q - k);
  };
  l.expect([](float s, float q, float k) { return s - 0.1f * std::abs(q - k); }, fovea::score(own));
}

/// A struct of one's own, written once for scalars and registers.
struct scaled_by_position {
  static constexpr fovea::score_stage stage = fovea::score_stage::bias;
  float slope;
  template <class V>
  V apply(const V& s, const V& q, const V&) const {
    return s * (V(1.0f) + V(slope) * q);
  }
};

TEST(score, of_a_user) {
  const logits_of_one_head l;
  l.expect([](float s, float q, float) { return s * (1 + 0.25f * q); }, scaled_by_position{0.25f});
}

TEST(score, bias_of_minus_infinity_hides) {
  const logits_of_one_head l;
  Matrix added = Matrix::Zero(5, 7);
  constexpr float infinite = std::numeric_limits<float>::infinity();
  for (index_type i = 0; i < 5; ++i)
    for (index_type j = 0; j < 7; ++j)
      if ((i + j) % 3 == 0) added(i, j) = -infinite;
  l.expect([&](float s, float q, float k) { return added(index_type(q), index_type(k)) < 0 ? -infinite : s; },
           fovea::bias(added));
}

TEST(score, hidden_is_hidden_even_where_it_is_nan) {
  logits_of_one_head l;
  Matrix added = Matrix::Zero(5, 7);
  added.col(3).setConstant(-std::numeric_limits<float>::infinity());
  const Matrix clean = l.attend(l.q, l.k, l.k, fovea::bias(added));
  l.k.row(3).setConstant(std::numeric_limits<float>::quiet_NaN());
  EXPECT_EQ(clean, l.attend(l.q, l.k, l.k, fovea::bias(added)));
}

TEST(score, sink_joins_the_denominator) {
  const logits_of_one_head l;
  const std::vector<float> logit = {0.75f};
  const auto with = l.attend.with_lse(l.q, l.k, l.k, fovea::sink{logit}),
             without = l.attend.with_lse(l.q, l.k, l.k);
  for (index_type i = 0; i < 5; ++i) {
    const float sum = std::exp(without.lse(i, 0)), share = sum / (sum + std::exp(0.75f));
    EXPECT_NEAR(with.lse(i, 0), std::log(sum + std::exp(0.75f)), 1e-5f);
    for (index_type c = 0; c < 3; ++c) EXPECT_NEAR(with.out(i, c), without.out(i, c) * share, 1e-5f);
  }
}

TEST(score, off_by_one_is_a_sink_of_0_in_every_head) {
  for (const index_type queries : {1, 5, 40}) {
    const Matrix q = Matrix::Random(queries, 12), k = Matrix::Random(50, 12);
    const fovea::attention<float, 2> attend;
    const std::vector<float> zeros(2);
    const auto got = attend.with_lse(q, k, k, fovea::off_by_one),
               same = attend.with_lse(q, k, k, fovea::sink{zeros});
    EXPECT_EQ(got.out, same.out);
    EXPECT_EQ(got.lse, same.lse);
    const auto g = attend.backward(q, k, k, got.out, got.lse, q, fovea::off_by_one);
    EXPECT_EQ(g.d_q, attend.backward(q, k, k, got.out, got.lse, q, fovea::sink{zeros}).d_q);
    const auto plain = attend.with_lse(q, k, k);
    for (index_type i = 0; i < queries; ++i)
      for (index_type c = 0; c < 12; ++c) {
        const float sum = std::exp(plain.lse(i, c / 6));
        EXPECT_NEAR(got.out(i, c), plain.out(i, c) * sum / (1 + sum), 1e-6f);
      }
  }
  // A row that sees no key has all its weight there: 0, and an LSE of log 1.
  const Matrix q = Matrix::Random(3, 4), k = Matrix::Random(3, 4);
  const auto none = fovea::attention<float, 1>{}.with_lse(
      q, k, k, fovea::mask([](auto i, auto) { return i != i; }), fovea::off_by_one);
  EXPECT_EQ(none.out, Matrix::Zero(3, 4));
  EXPECT_NEAR(fovea_test::max_abs(none.lse), 0.f, 1e-6f);
}

}  // namespace
