// Rotary position embedding against the formula in double.
#include "../support/max_abs.hpp"
#include "../support/refusal.hpp"

#include <fovea/attention.hpp>
#include <fovea/position.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace {

using fovea::index_type;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// What dimension c of a token x becomes at a position.
double expected(const auto& x, index_type c, double position, index_type r, double base,
                fovea::rotary_pairs pairs) {
  if (c >= r) return x(c);
  const bool halves = pairs == fovea::rotary_pairs::halves;
  const index_type i = halves ? c % (r / 2) : c / 2;
  const bool second = halves ? c >= r / 2 : c % 2 == 1;
  const double a = x(halves ? i : 2 * i), b = x(halves ? i + r / 2 : 2 * i + 1);
  const double angle = position * std::pow(base, -2.0 * double(i) / double(r));
  return second ? a * std::sin(angle) + b * std::cos(angle) : a * std::cos(angle) - b * std::sin(angle);
}

TEST(Rotary, FollowsTheFormulaForBothPairingsAndPartialRotation) {
  const index_type heads = 2, dim = 10, tokens = 7;
  for (const auto pairs : {fovea::rotary_pairs::halves, fovea::rotary_pairs::interleaved})
    for (const index_type r : {0, 2, 6, 10}) {
      const Matrix x = Matrix::Random(tokens, heads * dim);
      Matrix out(tokens, heads * dim);
      const fovea::rotary_table<float> table(20, r, 500.0);
      fovea::rotate_into(out, x, table.angles(), {.heads = heads, .pairs = pairs, .first = 5});
      for (index_type t = 0; t < tokens; ++t)
        for (index_type h = 0; h < heads; ++h)
          for (index_type c = 0; c < dim; ++c) {
            const auto token = [&](index_type e) { return double(x(t, h * dim + e)); };
            EXPECT_NEAR(out(t, h * dim + c), expected(token, c, double(5 + t), r, 500.0, pairs), 4e-7);
          }
      Matrix same = x;
      fovea::rotate(same, table.angles(), {.heads = heads, .pairs = pairs, .first = 5});
      EXPECT_EQ(same, out);
    }
}

// More pairs than any buffer holds, every kind of memory, in place and not.
TEST(Rotary, TakesAnySizeAndStrides) {
  const index_type tokens = 3, heads = 2;
  for (const auto pairs : {fovea::rotary_pairs::halves, fovea::rotary_pairs::interleaved})
    for (const auto& [dim, r] :
         {std::pair<index_type, index_type>{1, 0}, {2, 2}, {129, 128}, {300, 260}, {514, 514}}) {
      Matrix x = Matrix::Random(tokens, heads * dim);
      const fovea::rotary_table<float> table(tokens, r);
      const fovea::rotary_options options{.heads = heads, .pairs = pairs};
      Matrix out(tokens, heads * dim);
      fovea::rotate_into(out, x, table.angles(), options);
      for (index_type c = 0; c < heads * dim; ++c) {
        const auto token = [&](index_type e) { return double(x(2, c / dim * dim + e)); };
        EXPECT_NEAR(out(2, c), expected(token, c % dim, 2, r, 10000.0, pairs), 4e-7);
      }
      // A compiler may round u * cos - v * sin once or twice, as the strides let it vectorise.
      const float contraction = 2.5e-7f;
      Eigen::MatrixXf columns = x, columns_out(tokens, heads * dim);
      fovea::rotate_into(columns_out, columns, table.angles(), options);
      fovea::rotate(columns, table.angles(), options);
      EXPECT_LE(fovea_test::max_abs(Matrix(columns_out) - out), contraction);
      EXPECT_LE(fovea_test::max_abs(Matrix(columns) - out), contraction);
      Matrix around = Matrix::Constant(tokens + 2, heads * dim + 2, 7.f);
      around.block(1, 1, tokens, heads * dim) = x;
      fovea::rotate(around.block(1, 1, tokens, heads * dim), table.angles(), options);
      const Matrix inside = around.block(1, 1, tokens, heads * dim);
      EXPECT_LE(fovea_test::max_abs(inside - out), contraction);
      around.block(1, 1, tokens, heads * dim).setConstant(7.f);
      EXPECT_TRUE((around.array() == 7.f).all());
      x.resize(0, heads * dim);
      fovea::rotate(x, table.angles(), options);
    }
}

TEST(Rotary, TablesAreRoundedOnceAndMayBeOfAnyElementAndStrides) {
  const index_type positions = 50, r = 6;
  const fovea::rotary_table<float> rounded(positions, r);
  const fovea::rotary_table<double> exact(positions, r);
  const auto narrow = rounded.angles();
  const auto wide = exact.angles();
  for (index_type p = 0; p < positions; ++p)
    for (index_type i = 0; i < r / 2; ++i) {
      EXPECT_EQ(narrow.cos(p, i), float(wide.cos(p, i)));
      EXPECT_NEAR(wide.sin(p, i), std::sin(double(p) / std::pow(10000.0, 2.0 * double(i) / r)), 1e-14);
    }
  Eigen::MatrixXd cosines(positions, 2 * r), sines(positions, 2 * r);  // a pair every fourth column
  for (index_type p = 0; p < positions; ++p)
    for (index_type i = 0; i < r / 2; ++i)
      cosines(p, 4 * i) = wide.cos(p, i), sines(p, 4 * i) = wide.sin(p, i);
  const auto view = [&](const Eigen::MatrixXd& m) {
    return fovea::matrix_view<const double>{m.data(), positions, r / 2, m.rowStride(), 4 * m.colStride()};
  };
  const Matrix x = Matrix::Random(positions, r);
  Matrix here(positions, r), there(positions, r);
  fovea::rotate_into(here, x, wide);
  fovea::rotate_into(there, x, fovea::rotary_angles<double>{view(cosines), view(sines)});
  EXPECT_EQ(here, there);
}

TEST(Rotary, CountsEachPackedSequenceFromItsOwnStart) {
  const index_type dim = 4;
  const std::vector<index_type> offsets{0, 3, 3, 8};
  const Matrix x = Matrix::Random(8, dim);
  const fovea::rotary_table<float> table(6, dim);
  Matrix all = x, first = x.topRows(3), last = x.bottomRows(5), given = x;
  fovea::rotate(fovea::ragged{all, offsets}, table.angles(), {.first = 1});
  fovea::rotate(first, table.angles(), {.first = 1});
  fovea::rotate(last, table.angles(), {.first = 1});
  EXPECT_EQ(all.topRows(3), first);
  EXPECT_EQ(all.bottomRows(5), last);
  const std::vector<index_type> positions{1, 2, 3, 1, 2, 3, 4, 5};
  fovea::rotate(fovea::ragged{given, offsets}, table.angles(), {.positions = positions});
  EXPECT_EQ(given, all);
}

TEST(Rotary, TakesPositionsOfOneSequenceOrOfAll) {
  const index_type batch = 2, heads = 3, tokens = 4, dim = 6;
  fovea::tensor<double> x(batch, heads, tokens, dim), shared(batch, heads, tokens, dim),
      own(batch, heads, tokens, dim);
  for (index_type i = 0; i < x.size(); ++i) x.data()[i] = std::sin(double(i));
  const fovea::rotary_table<double> table(9, dim);
  const std::vector<std::int16_t> one{8, 0, 3, 3};
  const std::vector<index_type> all{8, 0, 3, 3, 1, 2, 3, 4};
  fovea::rotate_into(shared, x, table.angles(), {.positions = one});
  fovea::rotate_into(own, x, table.angles(), {.positions = all});
  for (index_type b = 0; b < batch; ++b)
    for (index_type h = 0; h < heads; ++h)
      for (index_type t = 0; t < tokens; ++t)
        for (index_type c = 0; c < dim; ++c) {
          const auto token = [&](index_type e) { return x(b, h, t, e); };
          const auto at = [&](index_type p) {
            return expected(token, c, double(p), dim, 10000.0, fovea::rotary_pairs::halves);
          };
          EXPECT_NEAR(shared(b, h, t, c), at(one[t]), 1e-15);
          EXPECT_NEAR(own(b, h, t, c), at(all[b * tokens + t]), 1e-15);
        }
}

TEST(Rotary, ProductsDependOnDistanceOnly) {
  const index_type dim = 16;
  const Matrix q = Matrix::Random(1, dim), k = Matrix::Random(1, dim);
  const fovea::rotary_table<float> table(100, dim, 100.0);
  const auto product = [&](index_type at_q, index_type at_k) {
    Matrix a = q, b = k;
    fovea::rotate(a, table.angles(), {.first = at_q});
    fovea::rotate(b, table.angles(), {.first = at_k});
    return (a * b.transpose())(0, 0);
  };
  EXPECT_NEAR(product(3, 1), product(92, 90), 1e-5);
  EXPECT_GT(std::abs(product(3, 1) - product(3, 9)), 1e-3);
}

TEST(Rotary, LeavesWhatLiesBetweenStridesAlone) {
  const index_type tokens = 3, dim = 4, row = 7;
  std::vector<float> memory(tokens * row, std::nanf(""));
  const auto view = fovea::tensor_view<float>{memory.data(), 1, 1, tokens, dim, 0, 0, row, 1};
  for (index_type t = 0; t < tokens; ++t)
    for (index_type c = 0; c < dim; ++c) view(0, 0, t, c) = 1.f;
  const fovea::rotary_table<float> table(tokens, 4);
  fovea::rotate(view, table.angles());
  for (index_type i = 0; i < tokens * row; ++i) EXPECT_EQ(std::isnan(memory[i]), i % row >= dim) << i;
}

TEST(Rotary, SixteenBitElementsAreRoundedOnce) {
  const index_type dim = 8;
  std::vector<fovea::bf16> x(dim);
  for (index_type c = 0; c < dim; ++c) x[c] = fovea::bf16(0.3f * float(c) - 1.f);
  std::vector<fovea::bf16> out(dim);
  const fovea::rotary_table<float> table(6, dim);
  fovea::rotate_into(fovea::bhsd(out.data(), 1, 1, 1, dim), fovea::bhsd(x.data(), 1, 1, 1, dim),
                     table.angles(), {.first = 5});
  for (index_type c = 0; c < dim; ++c) {
    const auto token = [&](index_type e) { return double(float(x[e])); };
    const double want = expected(token, c, 5, dim, 10000.0, fovea::rotary_pairs::halves);
    EXPECT_NEAR(float(out[c]), want, std::abs(want) / 256 + 1e-6);
  }
}

// Expects a call to be refused with this sentence, and nothing to have been written.
template <class Call>
void expect_refusal(Matrix& out, const std::string& sentence, const Call& call) {
  out.setConstant(7.f);
  fovea_test::expect_refused(call, sentence);
  EXPECT_TRUE((out.array() == 7.f).all()) << sentence;
}

TEST(Rotary, SaysWhatIsWrongBeforeItWrites) {
  const Matrix x = Matrix::Random(5, 8);
  Matrix out(5, 8), short_out(4, 8);
  const fovea::rotary_table<float> table(6, 8), wide(6, 10), small(6, 6);
  const auto refused = [&](const std::string& sentence, const auto& angles,
                           const fovea::rotary_options& options = {}) {
    expect_refusal(out, sentence, [&] { fovea::rotate_into(out, x, angles, options); });
  };
  const std::vector<index_type> two{0, 1}, negative{0, 1, 2, -1, 3};
  const std::vector<std::uint64_t> far{0, 1, 2, 3, ~std::uint64_t(0)};
  refused("the table rotates 10 dimensions, x has 8 a head", wide.angles());
  refused("position 6 of token 4 is not within the table's 6 rows", table.angles(), {.first = 2});
  refused("there are 2 positions, neither 5 (the tokens of one sequence) nor 5 (of all)", table.angles(),
          {.positions = two});
  refused("position -1 of token 3 is not within the table's 6 rows", table.angles(), {.positions = negative});
  refused("position 18446744073709551615 of token 4 is not within the table's 6 rows", table.angles(),
          {.positions = far});
  refused("x has 8 columns, which 3 heads do not divide", table.angles(), {.heads = 3});
  refused("the table of cosines is 6 x 4, that of sines 6 x 5",
          fovea::rotary_angles<float>{table.angles().cos, wide.angles().sin});
  const fovea::matrix_view<const float> endless{x.data(), 6, (index_type(1) << 62) + 2, 0, 0},
      below{x.data(), 6, -2, 0, 0};
  refused("the table rotates 9223372036854775807 dimensions, x has 8 a head",
          fovea::rotary_angles<float>{endless, endless});
  refused("the table of cosines is 6 x -2, that of sines 6 x -2", fovea::rotary_angles<float>{below, below});
  fovea::rotary_table<float> gone(6, 8);
  const auto taken = std::move(gone);
  refused("the table of 6 x 4 cosines and sines is a null pointer (was it moved from?)", gone.angles());
  expect_refusal(short_out, "out has 4 tokens but x has 5",
                 [&] { fovea::rotate_into(short_out, x, table.angles()); });
  expect_refusal(out, "out has 6 dimensions a head but x has 8",
                 [&] { fovea::rotate_into(out.leftCols(6), x, small.angles()); });
  const fovea::tensor_view<float> pile{out.data(), 1, 1, 5, 8, 0, 0, 0, 1};
  const auto tensor = fovea::bhsd(x.data(), 1, 1, 5, 8);
  expect_refusal(out, "out has 5 tokens with a stride of 0: it can not be written",
                 [&] { fovea::rotate_into(pile, tensor, table.angles()); });
  const auto table_of = [](index_type positions, index_type dim, double base) {
    return [=] { fovea::rotary_table<float>(positions, dim, base); };
  };
  using fovea_test::expect_refused;
  expect_refused(table_of(4, 5, 10), "rotary_table's rotary_dim is 5, not an even number >= 0");
  expect_refused(table_of(-1, 4, 10), "rotary_table has -1 positions, fewer than 0");
  expect_refused(table_of(4, -2, 10), "rotary_table's rotary_dim is -2, not an even number >= 0");
  const std::pair<double, std::string> bases[] = {{0.0, "0"}, {-1.0, "-1"}, {NAN, "nan"}, {INFINITY, "inf"}};
  for (const auto& [base, text] : bases)
    expect_refused(table_of(4, 4, base), "rotary_table's base is " + text + ", not a finite number above 0");
}

}  // namespace
