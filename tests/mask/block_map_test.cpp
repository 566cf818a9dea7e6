// block_map(m, sides): what it says of blocks is so, exactly; it gets what its booleans get; hidden blocks
// are not read.
#include "../support/max_abs.hpp"
#include "../support/random.hpp"
#include "../support/refusal.hpp"

#include <fovea/kv_cache.hpp>
#include <fovea/reference.hpp>

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace block_map_test {

using fovea::block_map;
using fovea::coverage;
using fovea::index_type;
using fovea::range;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using map_of_bytes = Eigen::Matrix<unsigned char, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using booleans = Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

map_of_bytes random_map(index_type rows, index_type columns, double share,
                        fovea_test::random_source& random) {
  map_of_bytes map(rows, columns);
  for (index_type i = 0; i < map.size(); ++i) map.data()[i] = random.chance(share) ? 4 : 0;
  return map;
}

booleans cells_of(const map_of_bytes& map, fovea::block_sides sides, index_type queries, index_type keys) {
  booleans cells(queries, keys);
  for (index_type q = 0; q < queries; ++q)
    for (index_type k = 0; k < keys; ++k) cells(q, k) = map(q / sides.queries, k / sides.keys) != 0;
  return cells;
}

TEST(block_map, says_of_blocks_what_is_so_of_cells) {
  fovea_test::random_source random(5);
  for (const fovea::block_sides sides : {fovea::block_sides{16, 16}, {17, 40}, {64, 19}, {500, 16}})
    for (const double share : {0.0, 0.1, 0.5, 1.0}) {
      const index_type queries = 150, keys = 211;
      const map_of_bytes map = random_map(10, 14, share, random);
      const booleans cells = cells_of(map, sides, queries, keys);
      const auto bound = block_map(map, sides).bind({0, 0, 1, 1, queries, keys});
      for (int block = 0; block < 60; ++block) {
        const index_type i = random.integer(0, queries - 1), j = random.integer(0, keys - 1);
        const range rows{i, random.integer(i + 1, queries)}, columns{j, random.integer(j + 1, keys)};
        const range shown = bound.shown(rows, columns);
        const index_type next = bound.next(rows, j);
        index_type seen = 0, first = keys;
        for (index_type q = rows.first; q < rows.last; ++q)
          for (index_type k = 0; k < keys; ++k) {
            ASSERT_EQ(cells(q, k), bound.visible(fovea::cell{q, k}));
            if (!cells(q, k)) continue;
            if (k >= j) first = std::min(first, k);
            const bool inside = k >= j && k < columns.last;
            seen += inside;
            ASSERT_TRUE(!inside || (k >= shown.first && k < shown.last));
          }
        ASSERT_EQ(next, first);
        ASSERT_EQ(shown.empty(), seen == 0);
        ASSERT_EQ(bound.cover(rows, columns), seen == 0                              ? coverage::none
                                              : seen == rows.size() * columns.size() ? coverage::full
                                                                                     : coverage::partial);
      }
    }
}

/// O, LSE and gradients as the matrix of booleans has them, beside other masks.
void expect_like_booleans(index_type queries, index_type keys, fovea::block_sides sides,
                          const map_of_bytes& map, const auto&... masks) {
  const Matrix q = Matrix::Random(queries, 32), k = Matrix::Random(keys, 32), v = Matrix::Random(keys, 32),
               d_out = Matrix::Random(queries, 32);
  const booleans cells = cells_of(map, sides, queries, keys);
  const fovea::attention<float, 2> attend;
  const auto got = attend.with_lse(q, k, v, masks..., block_map(map, sides));
  const auto expected = fovea::reference(q, k, v, {2}, masks..., block_map(map, sides));
  for (index_type i = 0; i < queries; ++i)
    for (index_type c = 0; c < 32; ++c)
      ASSERT_NEAR(static_cast<double>(got.out(i, c)), expected.out(0, c / 16, i, c % 16), 1e-5) << i;
  const auto d = attend.backward(q, k, v, got.out, got.lse, d_out, masks..., block_map(map, sides));
  const auto other = attend.with_lse(q, k, v, masks..., fovea::boolean_mask(cells));
  EXPECT_LT(fovea_test::max_abs(got.out - other.out), 1e-5f);
  const auto e = attend.backward(q, k, v, got.out, got.lse, d_out, masks..., fovea::boolean_mask(cells));
  EXPECT_LT(fovea_test::max_abs(d.d_q - e.d_q), 1e-5f);
  EXPECT_LT(fovea_test::max_abs(d.d_k - e.d_k), 1e-5f);
  EXPECT_LT(fovea_test::max_abs(d.d_v - e.d_v), 1e-5f);
}

TEST(block_map, is_the_matrix_of_booleans) {
  fovea_test::random_source random(6);
  for (const fovea::block_sides sides : {fovea::block_sides{16, 16}, {17, 40}, {64, 64}, {128, 19}})
    for (const double share : {0.1, 0.6}) {
      const map_of_bytes map = random_map(32, 32, share, random);
      expect_like_booleans(3, 450, sides, map);
      expect_like_booleans(450, 450, sides, map);
      expect_like_booleans(300, 500, sides, map, fovea::causal_bottom_right);
    }
}

/// What is left in a workspace reaches no gradient: splits of the keys leave out rows that see none of theirs.
TEST(block_map, gradients_are_made_in_any_memory) {
  fovea_test::random_source random(8);
  const index_type tokens = 900;
  const map_of_bytes map = random_map(15, 15, 0.1, random);
  const Matrix q = Matrix::Random(tokens, 16), d_out = Matrix::Random(tokens, 16);
  const auto mask = block_map(map, {.queries = 64, .keys = 64});
  const fovea::attention<float, 1> attend;
  const auto got = attend.with_lse(q, q, q, mask);
  const auto expected = attend.backward(q, q, q, got.out, got.lse, d_out, mask);
  for (index_type i = 0; i < tokens; ++i)
    ASSERT_TRUE(map.row(i / 64).any() || expected.d_q.row(i).isZero(0.0f)) << i;
  Matrix d_q(tokens, 16), d_k = d_q, d_v = d_q;
  std::vector<float> memory(std::size_t{4} << 20, std::numeric_limits<float>::quiet_NaN());
  const fovea::workspace workspace{std::as_writable_bytes(std::span(memory))};
  attend.backward_into(d_q, d_k, d_v, q, q, q, got.out, got.lse, d_out, mask, workspace);
  EXPECT_EQ(d_q, expected.d_q);
  EXPECT_EQ(d_k, expected.d_k);
  EXPECT_EQ(d_v, expected.d_v);
}

TEST(block_map, of_each_head) {
  fovea_test::random_source random(7);
  const map_of_bytes maps = random_map(2 * 4, 4, 0.5, random);
  const Matrix q = Matrix::Random(64, 32);
  const fovea::attention<float, 2> both;
  const fovea::attention<float, 1> one;
  const Matrix o = both(q, q, q, block_map(fovea::bhsd(maps.data(), 1, 2, 4, 4), {16, 16}));
  for (index_type h = 0; h < 2; ++h) {
    const Matrix x = q.middleCols(16 * h, 16);
    const map_of_bytes map = maps.middleRows(4 * h, 4);
    EXPECT_EQ(Matrix(o.middleCols(16 * h, 16)), one(x, x, x, block_map(map, {16, 16})));
  }
}

TEST(block_map, hidden_blocks_are_not_read) {
  map_of_bytes map = map_of_bytes::Zero(4, 4);
  map(0, 1) = map(1, 3) = map(2, 0) = map(3, 1) = 1;
  Matrix q = Matrix::Random(128, 16), k = q, v = q;
  const fovea::attention<float, 1> attend;
  const Matrix clean = attend(q, k, v, block_map(map, {32, 32}));
  k.middleRows(64, 32).setConstant(std::numeric_limits<float>::quiet_NaN());
  v.middleRows(64, 32).setConstant(std::numeric_limits<float>::infinity());
  EXPECT_EQ(clean, attend(q, k, v, block_map(map, {32, 32})));
}

/// Sides of any size: a block far larger than the tokens holds them all. (Sanitizers find what overflows.)
TEST(block_map, takes_sides_of_any_size) {
  constexpr index_type most = std::numeric_limits<index_type>::max();
  map_of_bytes map = map_of_bytes::Zero(2, 2);
  map(0, 0) = 1;
  const Matrix q = Matrix::Random(40, 16);
  const fovea::attention<float, 1> attend;
  for (const index_type side : {most, most - 1, most / 2 + 1}) {
    const auto bound = block_map(map, {side, side}).bind({0, 0, 1, 1, 40, 40});
    EXPECT_EQ(bound.cover({0, 40}, {0, 40}), coverage::full);
    EXPECT_GE(bound.row_edge(0), 40);
    EXPECT_EQ(Matrix(attend(q, q, q, block_map(map, {side, side}))), Matrix(attend(q, q, q)));
  }
  const map_of_bytes none(0, 2);
  fovea_test::expect_refused(
      [&] {
        attend(q, q, q, block_map(none, {most, 64}));
      },
      "block_map has 0 rows, neither 1 nor at least the 1 blocks of "
      "9223372036854775807 that hold 40 queries");
}

TEST(block_map, refuses_what_does_not_fit) {
  const Matrix q = Matrix::Random(65, 16);
  const fovea::attention<float, 1> attend;
  const map_of_bytes map = map_of_bytes::Ones(4, 5);
  const auto refused = [&](fovea::block_sides sides, const std::string& why) {
    fovea_test::expect_refused([&] { attend(q, q, q, block_map(map, sides)); }, why);
  };
  refused({15, 16}, "block_map's blocks are 15 x 16, smaller than 16 x 16");
  refused({16, 16}, "block_map has 4 rows, neither 1 nor at least the 5 blocks of 16 that hold 65 queries");
  const map_of_bytes three = map.topLeftCorner(3, 3);
  fovea_test::expect_refused(
      [&] {
        attend(q, q, q, block_map(three, {32, 16}));
      },
      "block_map has 3 columns, neither 1 nor at least the 5 blocks of 16 that hold 65 keys");
  fovea_test::expect_refused(
      [&] {
        attend(q, q, q, block_map(fovea::bhsd(map.data(), 2, 1, 1, 5), {32, 16}));
      },
      "block_map has 2 batch entries, neither 1 nor 1");
}

}  // namespace block_map_test
