// Masks of a user's that show every n-th key at most (every()), of which calls sort tokens.
#include <fovea/attention.hpp>

#include "../support/max_abs.hpp"

#include <gtest/gtest.h>

namespace {

using fovea::index_type;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Every step-th key, of a step of its own a head, and none further than `within`. Told: with every().
template <bool Told>
struct gaps {
  using is_mask = void;
  index_type within = 1000, step = 3, of_a_head = 0;

  struct bound {
    using reads_cells = void;
    index_type within, step;
    auto visible(const auto& cells) const noexcept {
      return cells.ask([this](index_type q, index_type k) {
        return (q - k) % step == 0 && q - k <= within && k - q <= within;
      });
    }
    fovea::key_step every() const noexcept
      requires Told
    {
      return {step, 0};
    }
  };
  bound bind(const fovea::place& at) const noexcept { return {within, step + of_a_head * at.head}; }
};

template <class... Sizes>
void expect_the_same(const Sizes&... sizes) {
  const Matrix q = Matrix::Random(40, 16), k = Matrix::Random(40, 16), v = Matrix::Random(40, 16),
               d_o = Matrix::Random(40, 16);
  const fovea::attention<float, 2> attend;
  const gaps<true> told{sizes...};
  const gaps<false> asked{sizes...};
  const auto a = attend.with_lse(q, k, v, told), b = attend.with_lse(q, k, v, asked);
  EXPECT_LT(fovea_test::max_abs(a.out - b.out), 1e-6f);
  EXPECT_LT(fovea_test::max_abs(a.lse - b.lse), 1e-6f);
  const auto d_a = attend.backward(q, k, v, a.out, a.lse, d_o, told),
             d_b = attend.backward(q, k, v, b.out, b.lse, d_o, asked);
  EXPECT_LT(fovea_test::max_abs(d_a.d_q - d_b.d_q), 1e-5f);
  EXPECT_LT(fovea_test::max_abs(d_a.d_k - d_b.d_k), 1e-5f);
  EXPECT_LT(fovea_test::max_abs(d_a.d_v - d_b.d_v), 1e-5f);
}

TEST(key_steps, may_hide_more) { expect_the_same(index_type(6)); }

TEST(key_steps, of_heads_that_differ) { expect_the_same(index_type(1000), index_type(2), index_type(1)); }

/// Learns a number of each (q + k) % 4.
struct by_sum {
  static constexpr auto stage = fovea::score_stage::bias;
  static constexpr bool hides = false;
  fovea::tensor_view<float> gradient;

  auto slots() const noexcept { return gradient; }
  template <class V>
  V apply(const V& s, const V& q, const V& k) const noexcept {
    return s + V(0.1f) * (q - k);
  }
  template <class V>
  V derivative(const V&, const V&, const V&) const noexcept {
    return V(1);
  }
  auto slot(const auto& cells) const noexcept {
    return cells.one_by_one([](index_type q, index_type k) { return (q + k) % 4; });
  }
};

TEST(key_steps, beside_scores_that_learn) {
  const Matrix q = Matrix::Random(40, 8), k = Matrix::Random(40, 8), v = Matrix::Random(40, 8),
               d_o = Matrix::Random(40, 8);
  const fovea::attention<float, 1> attend;
  float sorted[4] = {7, 7, 7, 7}, asked[4] = {7, 7, 7, 7};
  const auto score = [](float* to) { return by_sum{fovea::tensor_view<float>{to, 1, 1, 4, 1, 0, 0, 1, 1}}; };
  const auto forward = attend.with_lse(q, k, v, gaps<false>{}, score(asked));
  attend.backward(q, k, v, forward.out, forward.lse, d_o, gaps<false>{}, score(asked));
  attend.backward(q, k, v, forward.out, forward.lse, d_o, fovea::dilated{3}, score(sorted));
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(sorted[i], asked[i], 1e-5f) << i;
}

}  // namespace
