// The gradient of the picks' log-probabilities against differences, REINFORCE's mean against the exact
// gradient, and straight-through.
#include "../support/max_abs.hpp"
#include "support.hpp"

namespace hard_gradient_test {

using namespace fovea_test;

struct call {
  tensor<double> q = normal<double>(2, 4, 5, 6, 1), k = normal<double>(2, 2, 9, 6, 2),
                 v = normal<double>(2, 2, 9, 3, 3), bias = normal<double>(1, 4, 5, 9, 4);
  std::vector<double> sinks{0.5, -1, 1, 0};
};

template <class X>
double dot(const X& a, const X& b) {
  double sum = 0;
  for (index_type i = 0; i < a.size(); ++i) sum += a.data()[i] * b.data()[i];
  return sum;
}

/// sum d log p(pick) in double; `picks` given.
template <class... Mods>
double log_p_of(const call& x, const tensor<index_type>& picks, const tensor<double>& d,
                const Mods&... mods) {
  const fovea::attention<double, 4, 2> soft;
  const auto s = soft.scores(x.q, x.k, mods...);
  const auto lse = soft.with_lse(x.q, x.k, x.v, mods...).lse;
  double sum = 0;
  for (index_type b = 0; b < 2; ++b)
    for (index_type h = 0; h < 4; ++h)
      for (index_type i = 0; i < 5; ++i) {
        if (lse(b, h, i, 0) == -std::numeric_limits<double>::infinity()) continue;
        const index_type j = picks(b, h, i, 0);
        sum += d(b, h, i, 0) *
               ((j < 0 ? x.sinks[static_cast<std::size_t>(h)] : s(b, h, i, j)) - lse(b, h, i, 0));
      }
  return sum;
}

TEST(hard_gradient, of_log_p_is_that_of_differences) {
  call x;
  std::vector<float> d_sinks(4);
  tensor<double> d_bias(1, 4, 5, 9);
  const auto window = fovea::causal_offset{1} & fovea::sliding_window{.left = 5};
  const auto with = [&](const auto& f) {
    return f(window, fovea::softcap{2.0}, fovea::bias(x.bias, d_bias), fovea::sink{x.sinks, d_sinks});
  };
  const fovea::hard<double, 4, 2> look;
  const auto d_out = normal<double>(2, 4, 5, 3, 8), d = normal<double>(2, 4, 5, 1, 9);
  const auto seen = with([&](const auto&... mods) {
    return look.with_log_p(x.q, x.k, x.v, fovea::sampled{.seed = 2}, mods...);
  });
  const auto g =
      with([&](const auto&... mods) { return look.reinforce(x.q, x.k, x.v, seen, d_out, d, mods...); });
  const auto loss = [&] {
    return with([&](const auto&... mods) { return log_p_of(x, seen.picks, d, mods...); });
  };
  index_type of_sinks = 0;
  for (index_type i = 0; i < seen.picks.size(); ++i) of_sinks += seen.picks.data()[i] < 0;
  EXPECT_GT(of_sinks, 3);
  const auto compare = [&](double& parameter, double gradient, double tolerance) {
    const double kept = parameter, step = 1e-5;
    parameter = kept + step;
    const double above = loss();
    parameter = kept - step;
    const double below = loss();
    parameter = kept;
    EXPECT_NEAR((above - below) / (2 * step), gradient, tolerance);
  };
  for (index_type i = 0; i < x.q.size(); i += 7) compare(x.q.data()[i], g.d_q.data()[i], 1e-8);
  for (index_type i = 0; i < x.k.size(); i += 5) compare(x.k.data()[i], g.d_k.data()[i], 1e-8);
  for (index_type i = 0; i < x.bias.size(); i += 7) compare(x.bias.data()[i], d_bias.data()[i], 1e-8);
  for (std::size_t h = 0; h < 4; ++h) compare(x.sinks[h], static_cast<double>(d_sinks[h]), 1e-5);
  tensor<double> d_v(2, 2, 9, 3);
  for (index_type b = 0; b < 2; ++b)
    for (index_type h = 0; h < 4; ++h)
      for (index_type i = 0; i < 5; ++i)
        for (index_type c = 0; c < 3 && seen.picks(b, h, i, 0) >= 0; ++c)
          d_v(b, h / 2, seen.picks(b, h, i, 0), c) += d_out(b, h, i, c);
  for (index_type i = 0; i < d_v.size(); ++i) EXPECT_NEAR(d_v.data()[i], g.d_v.data()[i], 1e-14);
}

TEST(hard_gradient, of_many_rows_in_float_and_of_packed_ones) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Matrix q = Matrix::Random(150, 2 * 8), k = Matrix::Random(200, 2 * 8), v = Matrix::Random(200, 2 * 4);
  const Matrix d_out = Matrix::Random(150, 2 * 4), d = Matrix::Random(150, 2);
  const fovea::hard<float, 2> look;
  const std::vector<int> of_queries{0, 60, 150}, of_keys{0, 120, 200};
  const fovea::ragged pq{q, of_queries}, pk{k, of_keys}, pv{v, of_keys}, pd_out{d_out, of_queries},
      pd{d, of_queries};
  const auto seen = look.with_log_p(pq, pk, pv, fovea::argmax{});
  const auto g = look.reinforce(pq, pk, pv, seen, pd_out, pd);
  // dS K scale and dS^T Q scale of the second sequence, from the probabilities.
  const Matrix q1 = q.bottomRows(90), k1 = k.bottomRows(80);
  const auto p = fovea::attention<float, 2>().weights(q1, k1);
  for (index_type h = 0; h < 2; ++h) {
    Matrix ds(90, 80);
    for (index_type i = 0; i < 90; ++i)
      for (index_type j = 0; j < 80; ++j)
        ds(i, j) = d(60 + i, h) * (float(seen.picks(1, h, i, 0) == j) - p(0, h, i, j)) / std::sqrt(8.f);
    const Matrix d_q = ds * k1.middleCols(8 * h, 8), d_k = ds.transpose() * q1.middleCols(8 * h, 8);
    EXPECT_LT(fovea_test::max_abs(d_q - g.d_q.bottomRows(90).middleCols(8 * h, 8)), 1e-5f);
    EXPECT_LT(fovea_test::max_abs(d_k - g.d_k.bottomRows(80).middleCols(8 * h, 8)), 1e-5f);
  }
}

TEST(hard_gradient, reinforce_is_right_in_the_mean) {
  const index_type rows = 3, keys = 6;
  const auto q = normal<double>(1, 1, rows, 4, 1), k = normal<double>(1, 1, keys, 4, 2);
  const auto v = normal<double>(1, 1, keys, 1, 3);
  const fovea::hard<double, 1> look;
  // L = sum_i o_i^2 of the picks: E[L] = sum_ij p_ij v_j^2, whose gradient attention knows.
  tensor<double> squares(1, 1, keys, 1), ones(1, 1, rows, 1), mean(1, 1, rows, 4), power(1, 1, rows, 4);
  for (index_type j = 0; j < keys; ++j) squares(0, 0, j, 0) = v(0, 0, j, 0) * v(0, 0, j, 0);
  for (index_type i = 0; i < rows; ++i) ones(0, 0, i, 0) = 1;
  const auto soft = look.straight_through(q, k, squares, ones);
  const int draws = 20000;
  for (int n = 0; n < draws; ++n) {
    const auto seen = look.with_log_p(q, k, v, fovea::sampled{.seed = static_cast<std::uint64_t>(n)});
    tensor<double> d_out(1, 1, rows, 1), d(1, 1, rows, 1);
    for (index_type i = 0; i < rows; ++i)
      d_out(0, 0, i, 0) = 2 * seen.out(0, 0, i, 0), d(0, 0, i, 0) = std::pow(seen.out(0, 0, i, 0), 2) - 0.7;
    const auto g = look.reinforce(q, k, v, seen, d_out, d);
    for (index_type i = 0; i < mean.size(); ++i)
      mean.data()[i] += g.d_q.data()[i] / draws, power.data()[i] += std::pow(g.d_q.data()[i], 2) / draws;
  }
  for (index_type i = 0; i < mean.size(); ++i) {
    const double deviation = std::sqrt((power.data()[i] - std::pow(mean.data()[i], 2)) / draws);
    EXPECT_NEAR(mean.data()[i], soft.d_q.data()[i], 4 * deviation);
  }
}

TEST(hard_gradient, refuses_picks_of_other_calls) {
  const call x;
  const fovea::hard<double, 4, 2> look;
  auto seen = look.with_log_p(x.q, x.k, x.v, fovea::argmax{});
  const tensor<double> d_out(2, 4, 5, 3), d(2, 4, 5, 1);
  seen.picks(1, 2, 3, 0) = 9;
  expect_refused([&] { look.reinforce(x.q, x.k, x.v, seen, d_out, d); },
                 "picks(1, 2, 3) is 9, but k has 9 tokens");
  const auto several = look.with_log_p(x.q, x.k, x.v, fovea::top<2>{});
  expect_refused([&] { look.reinforce(x.q, x.k, x.v, several, d_out, d); }, {"picks has 2 keys a row"});
}

}  // namespace hard_gradient_test
