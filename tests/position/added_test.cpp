// Tables that are added, gradients, and what attention knows of positions.
#include "../support/max_abs.hpp"
#include "../support/refusal.hpp"
#include "transformers_values.hpp"

#include <fovea/attention.hpp>
#include <fovea/position.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace {

using fovea::index_type;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Exact = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

TEST(Sinusoidal, FollowsThePaperAndWhisper) {
  const index_type positions = 40, width = 8;
  const fovea::sinusoidal_table<float> paper(positions, width);
  const fovea::sinusoidal_table<double> halves(positions, width, {.order = fovea::sinusoidal_order::halves});
  for (index_type p = 0; p < positions; ++p)
    for (index_type i = 0; i < width / 2; ++i) {
      const double angle = double(p) / std::pow(10000.0, 2.0 * double(i) / double(width));
      EXPECT_EQ(paper.values()(0, 0, p, 2 * i), float(std::sin(angle)));
      EXPECT_EQ(paper.values()(0, 0, p, 2 * i + 1), float(std::cos(angle)));
      EXPECT_NEAR(halves.values()(0, 0, p, i), std::sin(angle), 1e-15);
      EXPECT_NEAR(halves.values()(0, 0, p, i + width / 2), std::cos(angle), 1e-15);
    }
  const fovea::sinusoidal_table<float> whisper(
      4, width, {.order = fovea::sinusoidal_order::halves, .to_the_end = true});
  for (index_type c = 0; c < width; ++c)
    EXPECT_NEAR(whisper.values()(0, 0, 3, c), transformers_values::whisper_sinusoids[std::size_t(c)], 3e-7);
  const fovea::sinusoidal_table<float> pair(3, 2, {.to_the_end = true}), none(3, 0);
  EXPECT_EQ(pair.values()(0, 0, 2, 0), float(std::sin(2.0)));
  fovea_test::expect_refused([] { fovea::sinusoidal_table<float>(3, 5); },
                             "sinusoidal_table's width is 5, not an even number >= 0");
  fovea_test::expect_refused([] { fovea::sinusoidal_table<float>(3, 4, {.base = 0}); },
                             "sinusoidal_table's base is 0, not a finite number above 0");
  fovea_test::expect_refused([] { fovea::sinusoidal_table<float>(-3, 4); },
                             "sinusoidal_table has -3 positions, fewer than 0");
}

TEST(Added, TakesOffsetsPositionsScalesAndAnyView) {
  const index_type width = 6;
  const Matrix x = Matrix::Random(5, width), table = Matrix::Random(9, width);
  Matrix out(5, width), in_place = x;
  fovea::add_positions_into(out, x, table, {.first = 2, .scale = 0.5});
  EXPECT_EQ(out, Matrix(0.5f * x + table.middleRows(2, 5)));
  const std::vector<int> positions{8, 0, 3, 3, 1};
  fovea::add_positions(in_place, table, {.positions = positions});
  for (index_type t = 0; t < 5; ++t)
    EXPECT_EQ(in_place.row(t), x.row(t) + table.row(positions[std::size_t(t)]));
  // Packed sequences count from their own start; heads take their part of the columns.
  const std::vector<index_type> offsets{0, 3, 3, 5};
  Matrix packed = x, by_heads = x;
  fovea::add_positions(fovea::ragged{packed, offsets}, table, {.first = 1});
  EXPECT_EQ(packed.topRows(3), x.topRows(3) + table.middleRows(1, 3));
  EXPECT_EQ(packed.bottomRows(2), x.bottomRows(2) + table.middleRows(1, 2));
  fovea::add_positions(fovea::bshd(by_heads.data(), 1, 5, 2, width / 2), table, {.positions = positions});
  EXPECT_EQ(by_heads, in_place);
  const Eigen::MatrixXf by_columns = table;
  Matrix same = x;
  fovea::add_positions(same, by_columns, {.positions = positions});
  EXPECT_EQ(same, in_place);
  std::vector<fovea::bf16> small(std::size_t(5 * width), fovea::bf16(1.f));
  fovea::add_positions(fovea::bhsd(small.data(), 1, 1, 5, width), table);
  for (index_type i = 0; i < 5 * width; ++i)
    EXPECT_EQ(float(small[std::size_t(i)]), float(fovea::bf16(1.f + table.data()[i])));
}

// loss = sum(weight * (scale * x + table[p])): by each number of the table, and by x.
TEST(Added, GradientOfTheTableSumsWhatItsTokensGet) {
  const index_type width = 4;
  Exact x = Exact::Random(5, width), table = Exact::Random(6, width);
  const Exact weight = Exact::Random(5, width);
  const std::vector<index_type> offsets{0, 2, 5};
  const auto loss = [&] {
    Exact out(5, width);
    fovea::add_positions_into(fovea::ragged{out, offsets}, fovea::ragged{x, offsets}, table, {.first = 1});
    return out.cwiseProduct(weight).sum();
  };
  Exact d_table = Exact::Constant(6, width, 10.0);
  fovea::add_positions_gradient(d_table, fovea::ragged{weight, offsets}, {.first = 1});
  for (index_type i = 0; i < table.size(); ++i) {
    const double here = table.data()[i], step = 1e-3;
    table.data()[i] = here + step;
    const double more = loss();
    table.data()[i] = here - step;
    EXPECT_NEAR(d_table.data()[i] - 10, (more - loss()) / (2 * step), 1e-11);
    table.data()[i] = here;
  }
}

TEST(Added, SaysWhatIsWrongBeforeItWrites) {
  const Matrix x = Matrix::Random(5, 6), table = Matrix::Random(6, 6), wide = Matrix::Random(6, 7);
  Matrix out(5, 6), d_table = Matrix::Zero(4, 6);
  const auto refused = [&](const Matrix& of, const fovea::added_options& options,
                           const std::string& sentence) {
    out.setConstant(7.f);
    fovea_test::expect_refused([&] { fovea::add_positions_into(out, x, of, options); }, sentence);
    EXPECT_TRUE((out.array() == 7.f).all());
  };
  refused(wide, {}, "the table has 7 columns but x has 6");
  refused(table, {.first = 2}, "position 6 of token 4 is not within the table's 6 rows");
  refused(table, {.scale = double(NAN)}, "the scale is nan, not a finite number");
  const std::vector<int> two{0, 1};
  refused(table, {.positions = two},
          "there are 2 positions, neither 5 (the tokens of one sequence) nor 5 (of all)");
  fovea_test::expect_refused([&] { fovea::add_positions_into(out.topRows(4), x, table); },
                             "out has 4 tokens but x has 5");
  fovea_test::expect_refused([&] { fovea::add_positions(out, out.topRows(5)); }, {"out", "the table"});
  fovea_test::expect_refused([&] { fovea::add_positions_gradient(d_table, x); },
                             "position 4 of token 4 is not within the table's 4 rows");
  EXPECT_TRUE((d_table.array() == 0.f).all());
}

// loss = sum(weight * rotate(x)).
TEST(Rotary, BackIsTheGradientAndTheInverse) {
  const index_type heads = 2, dim = 6, tokens = 3;
  for (const auto pairs : {fovea::rotary_pairs::halves, fovea::rotary_pairs::interleaved})
    for (const double magnitude : {1.0, 1.3}) {
      auto f = fovea::plain_frequencies(4, 10);
      f.magnitude = magnitude;
      const fovea::rotary_table<double> table(9, f);
      const fovea::rotary_options options{.heads = heads, .pairs = pairs, .first = 5};
      Exact x = Exact::Random(tokens, heads * dim), d_x(tokens, heads * dim);
      const Exact weight = Exact::Random(tokens, heads * dim);
      const auto loss = [&] {
        Exact out(tokens, heads * dim);
        fovea::rotate_into(out, x, table.angles(), options);
        return out.cwiseProduct(weight).sum();
      };
      fovea::rotate_back_into(d_x, weight, table.angles(), options);
      for (index_type i = 0; i < x.size(); ++i) {
        const double here = x.data()[i], step = 1e-3;
        x.data()[i] = here + step;
        const double more = loss();
        x.data()[i] = here - step;
        EXPECT_NEAR(d_x.data()[i], (more - loss()) / (2 * step), 1e-11);
        x.data()[i] = here;
      }
      if (magnitude != 1.0) continue;
      Exact there = x;
      fovea::rotate(there, table.angles(), options);
      EXPECT_GT(fovea_test::max_abs(there - x), 0.1);
      fovea::rotate_back(there, table.angles(), options);
      EXPECT_LE(fovea_test::max_abs(there - x), 1e-14);
    }
}

// Attention sees a set: permuted tokens give permuted rows, until something says where they stand.
TEST(Positions, AttentionWithoutThemIsEquivariantToPermutations) {
  const index_type tokens = 12, heads = 2, dim = 8;
  const Matrix x = Matrix::Random(tokens, heads * dim);
  Eigen::PermutationMatrix<Eigen::Dynamic> permutation(tokens);
  for (int t = 0; t < tokens; ++t) permutation.indices()[t] = (5 * t + 3) % int(tokens);
  const fovea::attention<float, heads> attend;
  // How far attention of permuted tokens is from the permuted rows of attention.
  const auto difference = [&](const auto& attention_of) {
    const Matrix permuted = permutation * x;
    return fovea_test::max_abs(attention_of(permuted) - permutation * attention_of(x));
  };
  EXPECT_LE(difference([&](const Matrix& y) -> Matrix { return attend(y, y, y); }), 1e-6f);

  const fovea::rotary_table<float> angles(tokens, dim);
  EXPECT_GT(difference([&](const Matrix& y) -> Matrix {
              Matrix turned = y;
              fovea::rotate(turned, angles.angles(), {.heads = heads});
              return attend(turned, turned, y);
            }),
            1e-2f);
  const Matrix learned = Matrix::Random(tokens, heads * dim);
  const fovea::sinusoidal_table<float> sinusoidal(tokens, heads * dim);
  const auto with = [&](const auto& table) {
    return [&](const Matrix& y) -> Matrix {
      Matrix placed = y;
      fovea::add_positions(placed, table);
      return attend(placed, placed, placed);
    };
  };
  EXPECT_GT(difference(with(learned)), 1e-2f);
  EXPECT_GT(difference(with(sinusoidal.values())), 1e-2f);
  const auto slopes = fovea::alibi_slopes(heads);
  EXPECT_GT(difference([&](const Matrix& y) -> Matrix { return attend(y, y, y, fovea::alibi{slopes}); }),
            1e-3f);
}

}  // namespace
