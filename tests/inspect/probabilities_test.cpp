// Numbers of probabilities that are known without computing: closed forms of rows, heads, rollouts and
// findings.
#include <fovea/inspect.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace {

using fovea::head_trait;
using fovea::index_type;
using fovea::tensor;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// batch x heads x rows x keys of f(batch, head, row, key).
tensor<double> filled(index_type batch, index_type heads, index_type rows, index_type keys, const auto& f) {
  tensor<double> p(batch, heads, rows, keys);
  for (index_type b = 0; b < batch; ++b)
    for (index_type h = 0; h < heads; ++h)
      for (index_type i = 0; i < rows; ++i)
        for (index_type j = 0; j < keys; ++j) p(b, h, i, j) = f(b, h, i, j);
  return p;
}

const auto uniform = [](auto, auto, auto, auto) { return 1.0 / 8; };
const auto diagonal = [](auto, auto, index_type i, index_type j) { return double(i == j); };
const auto causal_mean = [](auto, auto, index_type i, index_type j) {
  return j <= i ? 1.0 / double(i + 1) : 0;
};
const auto first_key = [](auto, auto, auto, index_type j) { return double(j == 0); };

TEST(rows, uniform_ones_have_the_logarithm_of_the_number_of_keys) {
  const auto rows = fovea::statistics_of(filled(1, 2, 8, 8, uniform));
  for (index_type i = 0; i < 8; ++i) {
    EXPECT_NEAR(rows.entropy(0, 1, i, 0), std::log(8.0), 1e-15);
    EXPECT_NEAR(rows.normalised_entropy(0, 1, i), 1, 1e-15);
    EXPECT_NEAR(rows.effective_keys(0, 1, i), 8, 1e-14);
    EXPECT_EQ(rows.largest(0, 1, i, 0), 0.125);
    EXPECT_EQ(rows.key(0, 1, i, 0), 0);
    EXPECT_EQ(rows.visible(0, 1, i, 0), 8);
    EXPECT_EQ(rows.mass(0, 1, i, 0), 1);
    // |i - j| over 0..7: the triangles on both sides of i.
    EXPECT_EQ(rows.distance(0, 1, i, 0), double(i * (i + 1) + (7 - i) * (8 - i)) / 16);
  }
}

TEST(rows, one_hot_ones_have_none) {
  const auto p =
      filled(1, 1, 4, 6, [](auto, auto, index_type i, index_type j) { return double(j == 5 - i); });
  const auto rows = fovea::statistics_of(p), unmoved = fovea::statistics_of(p, 0);
  for (index_type i = 0; i < 4; ++i) {
    EXPECT_EQ(rows.entropy(0, 0, i, 0), 0);
    EXPECT_EQ(rows.effective_keys(0, 0, i), 1);
    EXPECT_EQ(rows.normalised_entropy(0, 0, i), 0);
    EXPECT_EQ(rows.largest(0, 0, i, 0), 1);
    EXPECT_EQ(rows.key(0, 0, i, 0), 5 - i);
    EXPECT_EQ(rows.distance(0, 0, i, 0), std::abs(double(i + 2 - (5 - i))));  // query i stands at key i + 2
    EXPECT_EQ(unmoved.distance(0, 0, i, 0), std::abs(double(i - (5 - i))));
  }
}

TEST(rows, of_two_keys_and_of_what_a_sink_left) {
  const auto p = filled(1, 1, 1, 3, [](auto, auto, auto, index_type j) {
    return j == 0 ? 0.25 : j == 2 ? 0.25 : 0;
  });
  const auto rows = fovea::statistics_of(p);
  EXPECT_NEAR(rows.entropy(0, 0, 0, 0), 0.5 * std::log(4.0), 1e-15);
  EXPECT_EQ(rows.mass(0, 0, 0, 0), 0.5);
  EXPECT_EQ(rows.visible(0, 0, 0, 0), 2);
  EXPECT_EQ(rows.distance(0, 0, 0, 0), 0.25 * 2);
}

/// Distances are numbers, however far the offset is.
TEST(rows, of_a_far_offset) {
  constexpr index_type most = std::numeric_limits<index_type>::max();
  const fovea::tensor<double> p = [] {
    fovea::tensor<double> all(1, 1, 3, 3);
    for (index_type i = 0; i < 9; ++i) all.data()[i] = 1.0 / 3;
    return all;
  }();
  EXPECT_NEAR(fovea::statistics_of(p, most).distance(0, 0, 2, 0) / 0x1p63, 1, 1e-12);
  EXPECT_NEAR(fovea::statistics_of(p, -most).distance(0, 0, 2, 0) / 0x1p63, 1, 1e-12);
}

TEST(rows, a_nan_stays_in_its_row) {
  auto p = filled(1, 1, 3, 3, causal_mean);
  p(0, 0, 1, 1) = nan;
  const auto rows = fovea::statistics_of(p);
  EXPECT_TRUE(std::isnan(rows.entropy(0, 0, 1, 0)));
  EXPECT_TRUE(std::isnan(rows.largest(0, 0, 1, 0)));
  EXPECT_EQ(rows.key(0, 0, 1, 0), -1);
  EXPECT_NEAR(rows.entropy(0, 0, 2, 0), std::log(3.0), 1e-15);
}

TEST(rows, of_matrices_and_views_and_narrow_elements) {
  Eigen::MatrixXf m = Eigen::MatrixXf::Constant(3, 4, 0.25f);
  EXPECT_NEAR(fovea::statistics_of(m).entropy(0, 0, 2, 0), std::log(4.0), 1e-15);
  std::vector<fovea::bf16> half(2 * 5 * 4, fovea::bf16(0.25f));
  const auto view = fovea::bhsd(half.data(), 1, 2, 5, 4);
  EXPECT_NEAR(fovea::statistics_of(view).entropy(0, 1, 4, 0), std::log(4.0), 1e-15);
}

TEST(heads, means_leave_out_rows_without_a_choice) {
  const auto rows = fovea::statistics_of(filled(1, 1, 4, 4, causal_mean));
  const auto head = fovea::summarise_head(rows, 0, 0);
  EXPECT_EQ(head.rows, 3);  // the first row sees one key
  EXPECT_NEAR(head.entropy, std::log(24.0) / 3, 1e-15);
  EXPECT_NEAR(head.normalised_entropy, 1, 1e-15);
  EXPECT_NEAR(head.effective_keys, 3, 1e-14);
  EXPECT_NEAR(head.distance, (0.5 + 1 + 1.5) / 3, 1e-15);
  EXPECT_NEAR(head.largest, (1.0 / 2 + 1.0 / 3 + 1.0 / 4) / 3, 1e-15);
  EXPECT_NEAR(head.mass, 1, 1e-15);
  EXPECT_EQ(head.favourite, 0);
  EXPECT_NEAR(head.favourite_weight, head.largest, 1e-15);
  EXPECT_THROW(fovea::summarise_head(rows, 0, 1), std::invalid_argument);
  EXPECT_THROW(fovea::summarise_head(rows, -1, 0), std::invalid_argument);
  const auto blind = fovea::summarise_head(fovea::row_statistics(1, 1, 4), 0, 0);
  EXPECT_EQ(blind.rows, 0);
  EXPECT_EQ(blind.favourite, -1);
}

TEST(heads, alike_and_not) {
  // 0 and 1 the same, 2 shares no key with them, 3 half of each.
  const auto s =
      fovea::head_similarity(filled(2, 4, 5, 4, [](auto, index_type h, index_type i, index_type j) {
        if (i == 4) return 0.0;  // a row that sees no key counts for nobody
        const bool low = j == 0, high = j == 3;
        return h == 3 ? 0.5 * double(low || high) : h == 2 ? double(high) : double(low);
      }));
  ASSERT_EQ(s.batch(), 2);
  ASSERT_EQ(s.tokens(), 4);
  ASSERT_EQ(s.dim(), 4);
  EXPECT_NEAR(s(1, 0, 0, 1), 1, 1e-15);
  EXPECT_NEAR(s(1, 0, 2, 2), 1, 1e-15);
  EXPECT_NEAR(s(1, 0, 0, 2), 0, 1e-15);
  // p = (1, 0), q = (1/2, 1/2): (ln(4/3) + ln(2/3) / 2 + ln(2) / 2) / 2 nats
  const double half = (std::log(4.0 / 3) + std::log(2.0 / 3) / 2 + std::log(2.0) / 2) / 2;
  EXPECT_NEAR(s(1, 0, 0, 3), 1 - half / std::numbers::ln2, 1e-15);
  EXPECT_EQ(s(1, 0, 3, 0), s(1, 0, 0, 3));
  EXPECT_NEAR(s(1, 0, 2, 3), s(1, 0, 0, 3), 1e-15);
}

TEST(heads, whose_weight_a_sink_takes_are_alike) {
  const auto s = fovea::head_similarity(filled(1, 2, 1, 2, [](auto, index_type h, auto, index_type j) {
    return h == 1 ? 0.5 : j == 0 ? 0.0 : 1e-3;
  }));
  EXPECT_LT(s(0, 0, 0, 1), 0.1);
  const auto idle = fovea::head_similarity(
      filled(1, 2, 1, 2, [](auto, index_type h, auto, index_type j) { return h == j ? 1e-3 : 0.0; }));
  EXPECT_GT(idle(0, 0, 0, 1), 0.998);  // a thousandth differs
}

TEST(rollout, of_identities_is_the_identity) {
  const std::vector layers(5, filled(2, 3, 6, 6, diagonal));
  const auto r = fovea::rollout(layers);
  for (index_type i = 0; i < 6; ++i)
    for (index_type j = 0; j < 6; ++j) EXPECT_EQ(r(1, 0, i, j), double(i == j));
}

TEST(rollout, of_one_layer_is_half_of_its_mean_and_half_of_the_token) {
  const std::vector layers{filled(1, 2, 8, 8, [](auto b, index_type h, index_type i, index_type j) {
    return h == 0 ? uniform(b, h, i, j) : first_key(b, h, i, j);
  })};
  const auto r = fovea::rollout(layers);
  EXPECT_NEAR(r(0, 0, 3, 0), 0.5 * (0.125 + 1) / 2, 1e-15);
  EXPECT_NEAR(r(0, 0, 3, 3), 0.5 * 0.125 / 2 + 0.5, 1e-15);
  EXPECT_NEAR(r(0, 0, 3, 5), 0.5 * 0.125 / 2, 1e-15);
}

TEST(rollout, multiplies_later_layers_from_the_left) {
  // Layer 0 reads the first token, layer 1 the last; with a = I / 2 + P / 2 by hand:
  const auto last_key = [](auto, auto, auto, index_type j) { return double(j == 1); };
  const std::vector layers{filled(1, 1, 2, 2, first_key), filled(1, 1, 2, 2, last_key)};
  const auto r = fovea::rollout(layers);
  // A0 = (1 0; 1/2 1/2), A1 = (1/2 1/2; 0 1), A1 A0 = (3/4 1/4; 1/2 1/2)
  EXPECT_EQ(r(0, 0, 0, 0), 0.75);
  EXPECT_EQ(r(0, 0, 0, 1), 0.25);
  EXPECT_EQ(r(0, 0, 1, 0), 0.5);
  EXPECT_EQ(r(0, 0, 1, 1), 0.5);
}

TEST(rollout, keeps_rows_of_sum_one_and_tokens_that_see_nothing) {
  auto blind = filled(1, 1, 3, 3, uniform);  // sums of 3/8: renormalised
  for (index_type j = 0; j < 3; ++j) blind(0, 0, 1, j) = 0;
  const std::vector layers(3, blind);
  const auto r = fovea::rollout(layers), without = fovea::rollout(layers, {.residual = 0});
  for (index_type i = 0; i < 3; ++i) {
    EXPECT_NEAR(r(0, 0, i, 0) + r(0, 0, i, 1) + r(0, 0, i, 2), 1, 1e-15);
    EXPECT_EQ(r(0, 0, 1, i), double(i == 1));
    EXPECT_EQ(without(0, 0, 1, i), double(i == 1));
  }
}

TEST(rollout, mistakes_are_named) {
  const auto message = [](const auto& layers, fovea::rollout_options options = {}) {
    try {
      fovea::rollout(layers, options);
    } catch (const std::invalid_argument& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  using layers = std::vector<tensor<float>>;
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  EXPECT_TRUE(has(message(layers{}), "0 layers"));
  EXPECT_TRUE(has(message(layers{{1, 2, 3, 4}}), "3 queries but 4 keys"));
  EXPECT_TRUE(has(message(layers{{1, 2, 3, 3}, {1, 2, 4, 4}}), "of 4 tokens but layer 0 has 1 of 3"));
  EXPECT_TRUE(has(message(layers{{1, 0, 3, 3}}), "0 heads"));
  EXPECT_TRUE(has(message(layers{{1, 1, 3, 3}}, {.residual = 1.5}), "residual is 1.5"));
}

TEST(findings, are_the_heads_that_were_made_so) {
  // 0: ordinary, 1: one key a row, not the same; 2: uniform; 3: the first key; 4: all to a sink logit.
  const auto p = filled(1, 5, 16, 16, [](auto, index_type h, index_type i, index_type j) {
    if (h == 0) return (j == (i * 7) % 16 ? 0.4 : 0.0) + 0.6 * (j < 8 ? 0.1 : 0.025);
    if (h == 1) return double(j == (i * 7) % 16) * (1 - 15e-4) + (j == (i * 7) % 16 ? 0 : 1e-4);
    if (h == 2) return 1.0 / 16;
    if (h == 3) return j == 0 ? 0.8 : 0.2 / 15;
    return 1e-4;
  });
  const auto found = fovea::find_unusual_heads(fovea::statistics_of(p));
  ASSERT_EQ(found.size(), 4u);
  const head_trait traits[] = {head_trait::collapsed, head_trait::dead, head_trait::sink, head_trait::dead};
  for (index_type n = 0; n < 4; ++n) {
    const auto& f = found[static_cast<std::size_t>(n)];
    EXPECT_EQ(f.head, n + 1) << f.explain();
    EXPECT_EQ(f.trait, traits[n]) << f.explain();
  }
  EXPECT_EQ(found[2].key, 0);
  EXPECT_NEAR(found[2].value, 0.8, 1e-12);
  EXPECT_NE(found[2].explain().find("0.8"), std::string::npos) << found[2].explain();
  EXPECT_NE(found[3].explain().find("mass"), std::string::npos) << found[3].explain();
  EXPECT_TRUE(fovea::find_unusual_heads(fovea::statistics_of(p), {.least_rows = 17}).empty());
  EXPECT_EQ(fovea::find_unusual_heads(fovea::statistics_of(p), {.sink_weight = 0.9}).size(), 3u);
  EXPECT_THROW(fovea::find_unusual_heads(fovea::statistics_of(p), {.dead_mass = nan}), std::invalid_argument);
}

}  // namespace
