// Frequencies and tables against the papers' formulas in double, and against what transformers computes.
#include "../support/max_abs.hpp"
#include "../support/refusal.hpp"
#include "transformers_values.hpp"

#include <fovea/attention.hpp>
#include <fovea/kv_cache.hpp>
#include <fovea/position.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

namespace {

using fovea::index_type;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
namespace values = transformers_values;

constexpr double base = 10000;

double plain(index_type i, index_type r) { return std::pow(base, -2.0 * double(i) / double(r)); }

// The same numbers, in float arithmetic.
void expect_values(const fovea::rotary_frequencies& f, const std::vector<double>& of_transformers) {
  ASSERT_EQ(f.values.size() + 1, of_transformers.size());
  for (std::size_t i = 0; i < f.values.size(); ++i)
    EXPECT_NEAR(f.values[i], of_transformers[i], 2e-6 * of_transformers[i]) << i;
  EXPECT_NEAR(f.magnitude, of_transformers.back(), 1e-8);
}

TEST(Frequencies, AreThoseOfTransformers) {
  expect_values(fovea::linear_scaling{.factor = 4}.frequencies(16), values::linear_4);
  fovea::dynamic_ntk_scaling dynamic{.factor = 3, .original_context = 1000, .tokens = 2500};
  expect_values(dynamic.frequencies(16), values::dynamic_3_of_1000_at_2500);
  expect_values(fovea::yarn_scaling{.factor = 4, .original_context = 2048}.frequencies(16),
                values::yarn_4_of_2048);
  fovea::yarn_scaling yarn{
      .factor = 4, .original_context = 2048, .beta_fast = 16, .beta_slow = 2, .truncate = false};
  expect_values(yarn.frequencies(16), values::yarn_untruncated);
  yarn = {.factor = 40, .original_context = 4096, .mscale = 1, .mscale_all_dim = 0.7};
  expect_values(yarn.frequencies(16), values::yarn_mscale);
  expect_values(fovea::llama3_scaling{.original_context = 512}.frequencies(16, base),
                values::llama3_8_of_512);
  std::vector<float> near, far;
  for (int i = 0; i < 8; ++i) near.push_back(1 + 0.1f * float(i)), far.push_back(1 + 2.5f * float(i));
  fovea::longrope_scaling longrope{
      .short_factors = near, .long_factors = far, .original_context = 4096, .tokens = 4000, .factor = 8};
  expect_values(longrope.frequencies(16), values::longrope_short);
  longrope.tokens = 5000;
  expect_values(longrope.frequencies(16), values::longrope_long);
  expect_values(fovea::proportional_frequencies(16, 4), values::proportional_quarter);
}

TEST(Frequencies, FollowTheFormulas) {
  const index_type r = 64;
  const auto of_base = fovea::plain_frequencies(r);
  const auto linear = fovea::linear_scaling{.factor = 2.5}.frequencies(r);
  const auto ntk = fovea::ntk_scaling{.factor = 8}.frequencies(r);
  const double larger_base = base * std::pow(8, double(r) / double(r - 2));
  const auto yarn = fovea::yarn_scaling{.factor = 4, .original_context = 1024, .truncate = false};
  const auto yarned = yarn.frequencies(r);
  const auto llama = fovea::llama3_scaling{.original_context = 1024}.frequencies(r, base);
  const auto pair_of = [&](double turns) {  // base^(-2 pair / r) * 1024 = 2 pi turns
    return std::log(1024 / (2 * std::numbers::pi * turns)) / std::log(base) * double(r) / 2;
  };
  for (index_type i = 0; i < r / 2; ++i) {
    const auto at = std::size_t(i);
    const double f = plain(i, r);
    EXPECT_DOUBLE_EQ(of_base.values[at], f);
    EXPECT_DOUBLE_EQ(linear.values[at], f / 2.5);
    EXPECT_NEAR(ntk.values[at], std::pow(larger_base, -2.0 * double(i) / double(r)), 1e-14 * f);
    const double ramp = std::clamp((double(i) - pair_of(32)) / (pair_of(1) - pair_of(32)), 0.0, 1.0);
    EXPECT_NEAR(yarned.values[at], f * (1 - ramp) + f / 4 * ramp, 1e-14 * f);
    const double turns = 1024 * f / (2 * std::numbers::pi);
    const double kept = turns > 4 ? 1 : turns < 1 ? 0 : (turns - 1) / 3;
    EXPECT_NEAR(llama.values[at], f * kept + f / 8 * (1 - kept), 1e-14 * f);
  }
  EXPECT_DOUBLE_EQ(yarned.magnitude, 0.1 * std::log(4) + 1);
  EXPECT_EQ((fovea::yarn_scaling{.factor = 0.5, .original_context = 9}.magnitude()), 1);
  EXPECT_EQ((fovea::yarn_scaling{.factor = 9, .attention_factor = 0.75}.magnitude()), 0.75);
  EXPECT_EQ((fovea::longrope_scaling{.original_context = 9, .factor = 1}.magnitude()), 1);
}

TEST(Frequencies, OfNoScalingAreThePlainOnes) {
  for (const index_type r : {0, 2, 6, 64}) {
    const std::vector<double> f = fovea::plain_frequencies(r).values, ones(f.size(), 1);
    const auto expect_plain = [&](const fovea::rotary_frequencies& scaled) {
      ASSERT_EQ(scaled.values.size(), f.size());
      for (std::size_t i = 0; i < f.size(); ++i) EXPECT_DOUBLE_EQ(scaled.values[i], f[i]);
      EXPECT_EQ(scaled.magnitude, 1);
      EXPECT_TRUE(scaled.axes.empty());
    };
    expect_plain(fovea::linear_scaling{}.frequencies(r));
    expect_plain(fovea::ntk_scaling{}.frequencies(r));
    expect_plain(
        fovea::dynamic_ntk_scaling{.factor = 4, .original_context = 100, .tokens = 100}.frequencies(r));
    expect_plain(fovea::yarn_scaling{.original_context = 100}.frequencies(r));
    expect_plain(fovea::llama3_scaling{.factor = 1}.frequencies(r, base));
    const fovea::longrope_scaling longrope{
        .short_factors = ones, .long_factors = ones, .original_context = 100};
    expect_plain(longrope.frequencies(r));
    expect_plain(fovea::proportional_frequencies(r, r));
  }
  // All pairs of YaRN on one side: they turn often within the trained context, or not once.
  const index_type ages = index_type(1) << 60;
  EXPECT_EQ((fovea::yarn_scaling{.factor = 4, .original_context = ages}.frequencies(16).values),
            fovea::plain_frequencies(16).values);
  const auto few = fovea::yarn_scaling{.factor = 4, .original_context = 1}.frequencies(16).values;
  EXPECT_DOUBLE_EQ(few[1], plain(1, 16) / 4);
}

// Rows of cosines and sines, as transformers gives them.
void expect_rows(const fovea::rotary_angles<float>& angles, const std::vector<double>& of_transformers,
                 double tolerance) {
  const index_type pairs = angles.cos.cols;
  ASSERT_EQ(std::size_t(2 * angles.cos.rows * pairs), of_transformers.size());
  for (index_type t = 0; t < angles.cos.rows; ++t)
    for (index_type i = 0; i < pairs; ++i) {
      EXPECT_NEAR(angles.cos(t, i), of_transformers[std::size_t(2 * t * pairs + i)], tolerance);
      EXPECT_NEAR(angles.sin(t, i), of_transformers[std::size_t((2 * t + 1) * pairs + i)], tolerance);
    }
}

TEST(Axes, AreThoseOfTransformers) {
  const std::vector<int> times{3, 3, 5}, rows{3, 4, 9};
  const std::vector<std::int64_t> columns{3, 7, 2};
  const auto f = fovea::plain_frequencies(16);
  const auto sections = fovea::mrope_frequencies(f, {2, 3, 3});
  const fovea::rotary_table<float> qwen2({times, rows, columns}, sections);
  expect_rows(qwen2.angles(), values::mrope_2_3_3, 1e-6);
  const auto order = fovea::mrope_order::interleaved;
  const fovea::rotary_table<float> qwen3({times, rows, columns},
                                         fovea::mrope_frequencies(f, {4, 2, 2}, order));
  expect_rows(qwen3.angles(), values::mrope_interleaved_4_2_2, 1e-6);
  const std::vector<int> y{3, 4, 9};
  const std::vector<float> x{4, 7, 2};
  const fovea::rotary_table<float> axial({y, x}, fovea::axial_frequencies({8, 8}));
  expect_rows(axial.angles(), values::axial, 1e-6);
  std::vector<double> centre_rows, centre_columns;
  for (int row = 0; row < 2; ++row)
    for (int column = 0; column < 3; ++column) {
      centre_rows.push_back(2 * std::numbers::pi * ((row + 0.5) / 2 * 2 - 1));
      centre_columns.push_back(2 * std::numbers::pi * ((column + 0.5) / 3 * 2 - 1));
    }
  const fovea::rotary_table<float> centres({centre_rows, centre_columns},
                                           fovea::axial_frequencies({8, 8}, 100));
  expect_rows(centres.angles(), values::axial_centres, 2e-6);
}

TEST(Axes, OfTextAreAsOne) {
  const index_type tokens = 9;
  std::vector<int> positions;
  for (int t = 0; t < tokens; ++t) positions.push_back(t);
  const auto f = fovea::yarn_scaling{.factor = 4, .original_context = 64}.frequencies(16);
  const fovea::rotary_table<float> one(tokens, f), listed({positions}, f);
  for (const auto order : {fovea::mrope_order::sections, fovea::mrope_order::interleaved}) {
    const fovea::rotary_table<float> three({positions, positions, positions},
                                           fovea::mrope_frequencies(f, {4, 2, 2}, order));
    for (index_type t = 0; t < tokens; ++t)
      for (index_type i = 0; i < 8; ++i)
        for (const auto* table : {&three, &listed}) {
          EXPECT_EQ(table->angles().cos(t, i), one.angles().cos(t, i));
          EXPECT_EQ(table->angles().sin(t, i), one.angles().sin(t, i));
        }
  }
}

TEST(RotaryTable, MultipliesByTheMagnitude) {
  auto f = fovea::plain_frequencies(8);
  const fovea::rotary_table<double> one(20, f), from_base(20, 8);
  f.magnitude = 1.25;
  const fovea::rotary_table<double> more(20, f);
  for (index_type p = 0; p < 20; ++p)
    for (index_type i = 0; i < 4; ++i) {
      EXPECT_EQ(one.angles().cos(p, i), from_base.angles().cos(p, i));
      EXPECT_EQ(one.angles().sin(p, i), from_base.angles().sin(p, i));
      EXPECT_DOUBLE_EQ(more.angles().cos(p, i), 1.25 * one.angles().cos(p, i));
      EXPECT_DOUBLE_EQ(more.angles().sin(p, i), 1.25 * one.angles().sin(p, i));
    }
}

// Frequencies over the whole head: pairs i and i + dim / 2, of which the first rotary_dim / 2 turn.
TEST(RotaryTable, OfProportionalFrequenciesTurnsPartOfAHead) {
  const index_type dim = 16, turned = 4;
  const Matrix x = Matrix::Random(3, dim);
  const fovea::rotary_table<float> table(9, fovea::proportional_frequencies(dim, turned)), whole(9, dim);
  Matrix out = x, all = x;
  fovea::rotate(out, table.angles(), {.first = 5}), fovea::rotate(all, whole.angles(), {.first = 5});
  for (index_type c = 0; c < dim; ++c)
    EXPECT_EQ(out.col(c), (c % (dim / 2) < turned / 2 ? all : x).col(c)) << c;
}

// The turn to any table's angles, in place and on the way into a cache.
TEST(RotaryTable, TurnsKeysOnTheirWayIntoACache) {
  const index_type tokens = 6, dim = 16;
  const std::vector<int> times{0, 1, 1, 1, 1, 3}, rows{0, 1, 1, 2, 2, 3}, columns{0, 1, 2, 1, 2, 3};
  const auto f = fovea::mrope_frequencies(
      fovea::yarn_scaling{.factor = 4, .original_context = 32}.frequencies(dim), {2, 3, 3});
  const fovea::rotary_table<float> table({times, rows, columns}, f);
  const Matrix q = Matrix::Random(1, 2 * dim), k = Matrix::Random(tokens, 2 * dim),
               v = Matrix::Random(tokens, 2 * dim);
  Matrix turned = k;
  fovea::rotate(turned, table.angles(), {.heads = 2});
  fovea::kv_cache<float, 2> plain(tokens, dim), fused(tokens, dim);
  plain.append(turned, v);
  fused.append(k.topRows(4), v.topRows(4), table.angles());
  fused.append(k.bottomRows(2), v.bottomRows(2), table.angles());
  const fovea::attention<float, 2> attend;
  EXPECT_LE(fovea_test::max_abs(attend(q, plain) - attend(q, fused)), 1e-6f);
}

TEST(Alibi, SlopesAreThoseOfTransformersForAnyNumberOfHeads) {
  const std::pair<index_type, const std::vector<double>*> cases[] = {
      {1, &values::alibi_1}, {2, &values::alibi_2},   {3, &values::alibi_3},  {6, &values::alibi_6},
      {8, &values::alibi_8}, {12, &values::alibi_12}, {20, &values::alibi_20}};
  for (const auto& [heads, of_transformers] : cases) {
    const auto slopes = fovea::alibi_slopes(heads);
    ASSERT_EQ(slopes.size(), of_transformers->size());
    for (std::size_t h = 0; h < slopes.size(); ++h)
      EXPECT_NEAR(slopes[h], (*of_transformers)[h], 1e-6 * slopes[h]) << heads << " " << h;
  }
  EXPECT_EQ(fovea::alibi_slopes(2, 4), (std::vector<double>{0.25, 0.0625}));
  EXPECT_TRUE(fovea::alibi_slopes(0).empty());
  fovea_test::expect_refused([] { fovea::alibi_slopes(-1); }, "alibi_slopes are of -1 heads, fewer than 0");
  fovea_test::expect_refused([] { fovea::alibi_slopes(2, double(NAN)); },
                             "alibi_slopes' steepness is nan, not a finite number");
}

TEST(Frequencies, SayWhatIsWrong) {
  using fovea_test::expect_refused;
  const auto refused = [](const auto& scaling, const std::string& sentence, index_type r = 8,
                          double of_base = base) {
    expect_refused([&] { scaling.frequencies(r, of_base); }, sentence);
  };
  const fovea::linear_scaling linear{.factor = 2};
  refused(linear, "linear_scaling's rotary_dim is 5, not an even number >= 0", 5);
  refused(linear, "linear_scaling's base is -3, not a finite number above 0", 8, -3);
  refused(fovea::linear_scaling{.factor = 0}, "linear_scaling's factor is 0, not a finite number above 0");
  refused(fovea::ntk_scaling{.factor = double(INFINITY)},
          "ntk_scaling's factor is inf, not a finite number above 0");
  refused(fovea::dynamic_ntk_scaling{.factor = 0.5},
          "dynamic_ntk_scaling's factor is 0.5, not a finite number >= 1");
  refused(fovea::dynamic_ntk_scaling{.factor = 2},
          "dynamic_ntk_scaling's original_context is 0, fewer tokens than 1");
  refused(fovea::dynamic_ntk_scaling{.original_context = 4, .tokens = -1},
          "dynamic_ntk_scaling has -1 tokens, fewer than 0");
  refused(fovea::yarn_scaling{.factor = 2}, "yarn_scaling's original_context is 0, fewer tokens than 1");
  refused(fovea::yarn_scaling{.original_context = 9}, "yarn_scaling's base is 1, not above 1", 8, 1);
  refused(fovea::yarn_scaling{.original_context = 9, .beta_fast = 1, .beta_slow = 2},
          "yarn_scaling's beta_fast is 1, below beta_slow, 2");
  refused(fovea::yarn_scaling{.original_context = 9, .mscale = -1},
          "yarn_scaling's mscale is -1, not a finite number above 0");
  refused(fovea::llama3_scaling{.low_frequency_factor = 4},
          "llama3_scaling's low_frequency_factor is 4, not below high_frequency_factor, 4");
  const std::vector<double> three{1, 2, 3}, four{1, 2, 3, 0};
  fovea::longrope_scaling longrope{.short_factors = four, .long_factors = three, .original_context = 1};
  refused(longrope, "longrope_scaling's original_context is 1, fewer tokens than 2");
  longrope.original_context = 10;
  refused(longrope, "longrope_scaling's short_factors has 0 for pair 3, not a finite number above 0");
  longrope.short_factors = three;
  refused(longrope, "longrope_scaling has 3 short_factors for 4 pairs");
  expect_refused([] { fovea::proportional_frequencies(8, 10); },
                 "proportional_frequencies turns 10 dimensions of 8, which are to be even and no fewer");
  const auto f = fovea::plain_frequencies(8);
  expect_refused(
      [&] {
        fovea::mrope_frequencies(f, {1, 1, 1});
      },
      "mrope_frequencies has sections of 1, 1 and 1 pairs, the frequencies are of 4");
  expect_refused(
      [&] {
        fovea::mrope_frequencies(f, {5, -1, 0});
      },
      "mrope_frequencies has a section of -1 pairs, fewer than 0");
  expect_refused(
      [&] {
        fovea::mrope_frequencies(f, {0, 2, 2}, fovea::mrope_order::interleaved);
      },
      "mrope_frequencies has an interleaved section of 2 pairs, which end beyond pair 4");
}

TEST(RotaryTable, SaysWhatIsWrong) {
  using fovea_test::expect_refused;
  const auto f = fovea::plain_frequencies(8);
  const std::vector<double> two{1, 2}, three{1, 2, 3}, endless{1, double(INFINITY)};
  const auto refused = [](const fovea::rotary_frequencies& wrong, const std::string& sentence) {
    expect_refused([&] { fovea::rotary_table<float>(4, wrong); }, sentence);
  };
  refused({{1, -1}}, "rotary_table has a frequency of -1, not a finite number >= 0");
  refused({{1, 1}, {}, 0}, "rotary_table's magnitude is 0, not a finite number above 0");
  refused({{1, 1}, {0}}, "rotary_table has 2 frequencies but axes of 1");
  refused({{1, 1}, {0, 1}}, "rotary_table has a pair that turns with coordinate 1; there are 1");
  refused({{1, 1e308}}, "rotary_table has an angle of inf in row 2");
  expect_refused([&] { fovea::rotary_table<float>(-1, f); }, "rotary_table has -1 positions, fewer than 0");
  expect_refused(
      [&] {
        fovea::rotary_table<float>({two, three}, f);
      },
      "rotary_table has coordinates of 2 and of 3 tokens");
  expect_refused([&] { fovea::rotary_table<float>({endless}, f); },
                 "rotary_table has an angle of inf in row 1");
}

}  // namespace
