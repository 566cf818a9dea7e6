// Samples follow the softmax, and are the same however a call is cut.
#include "support.hpp"

namespace sample_test {

using namespace fovea_test;

/// sum (observed - expected)^2 / expected over the keys, those of small expectation together.
double chi_square(const std::vector<double>& observed, const std::vector<double>& expected, int& cells) {
  double sum = 0, rest = 0, rest_expected = 0;
  cells = 0;
  for (std::size_t j = 0; j < observed.size(); ++j) {
    if (expected[j] < 10) {
      rest += observed[j], rest_expected += expected[j];
      continue;
    }
    sum += (observed[j] - expected[j]) * (observed[j] - expected[j]) / expected[j], ++cells;
  }
  if (rest_expected > 1) sum += (rest - rest_expected) * (rest - rest_expected) / rest_expected, ++cells;
  return sum;
}

TEST(sample, follows_the_softmax_in_either_form) {
  const index_type keys = 50;
  const auto k = normal<float>(1, 1, keys, 8, 2), one = normal<float>(1, 1, 1, 8, 1);
  const double sink = 1;
  const std::vector<double> logits{sink};
  for (const bool few : {true, false}) {
    tensor<float> many(1, 1, 20000, 8);
    for (index_type i = 0; i < 20000; ++i)
      for (index_type c = 0; c < 8; ++c) many(0, 0, i, c) = one(0, 0, 0, c);
    const fovea::hard<float, 1> look{{.scale = 0.5}};
    const auto p = fovea::attention<float, 1>{{.scale = 0.5}}.weights(one, k, fovea::sink{logits});
    std::vector<double> observed(static_cast<std::size_t>(keys) + 1), expected(observed.size());
    double of_keys = 0;
    for (index_type j = 0; j < keys; ++j)
      expected[static_cast<std::size_t>(j)] = 20000 * static_cast<double>(p(0, 0, 0, j));
    for (const double x : expected) of_keys += x;
    expected.back() = 20000 - of_keys;
    const auto count = [&](index_type pick) {
      observed[pick < 0 ? static_cast<std::size_t>(keys) : static_cast<std::size_t>(pick)] += 1;
    };
    if (few)
      for (std::uint64_t seed = 0; seed < 20000; ++seed)
        count(look.picks(one, k, fovea::sampled{.seed = seed}, fovea::sink{logits})(0, 0, 0, 0));
    else {
      const auto picks = look.picks(many, k, fovea::sampled{.seed = 5}, fovea::sink{logits});
      for (index_type i = 0; i < 20000; ++i) count(picks(0, 0, i, 0));
    }
    int cells = 0;
    const double x = chi_square(observed, expected, cells), degrees = cells - 1;
    EXPECT_GT(degrees, 30);
    EXPECT_LT(x, degrees + 4 * std::sqrt(2 * degrees));
    EXPECT_GT(x, degrees - 4 * std::sqrt(2 * degrees));
  }
}

TEST(sample, draws_from_many_keys_alike) {  // 2^18 keys: where noise of 24 bits would tie
  const index_type keys = 1 << 18;
  const tensor<float> q(1, 1, 64, 1), k(1, 1, keys, 1);
  const auto picks = fovea::hard<float, 1>().picks(q, k, fovea::sampled{.seed = 11});
  double sum = 0;
  for (index_type i = 0; i < 64; ++i) sum += static_cast<double>(picks(0, 0, i, 0)) / keys;
  EXPECT_NEAR(sum / 64, 0.5, 4 * std::sqrt(1.0 / 12 / 64));
}

TEST(sample, is_the_same_however_a_call_is_cut) {
  const auto q = normal<float>(3, 4, 150, 16, 1), k = normal<float>(3, 4, 500, 16, 2);
  const fovea::hard<float, 4> look;
  const auto choice = fovea::sampled{.seed = 21};
  const auto all = look.picks(q, k, choice);
  const auto first = [&](index_type batch, index_type queries) {
    auto part = q.view();
    auto keys = k.view();
    part.batch = keys.batch = batch, part.tokens = queries;
    return look.picks(part, keys, choice);
  };
  index_type differ = 0;
  for (const auto& [batch, queries] : {std::pair<index_type, index_type>{1, 1}, {2, 3}, {1, 20}, {3, 149}}) {
    const auto part = first(batch, queries);
    for (index_type b = 0; b < batch; ++b)
      for (index_type h = 0; h < 4; ++h)
        for (index_type i = 0; i < queries; ++i) differ += part(b, h, i, 0) != all(b, h, i, 0);
  }
  EXPECT_EQ(differ, 0);
  const auto other = look.picks(q, k, fovea::sampled{.seed = 22});
  for (index_type i = 0; i < all.size(); ++i) differ += other.data()[i] != all.data()[i];
  EXPECT_GT(differ, all.size() / 2);
}

}  // namespace sample_test
