// top_blocks: it chooses what a search by definition chooses; block_summaries are those of the keys however
// they came; kept_mass is the share of the softmax.
#include "../support/random.hpp"
#include "../support/refusal.hpp"

#include <fovea/kv_cache.hpp>
#include <fovea/reference.hpp>
#include <fovea/top_blocks.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace top_blocks_test {

using fovea::block_score;
using fovea::index_type;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

fovea::block_summaries summaries_of(const Matrix& k, index_type heads, index_type side) {
  fovea::block_summaries keys(heads, k.cols() / heads, {.side = side});
  keys.append(k);
  return keys;
}

/// The score of keys [first, last) for queries [top, bottom), by its definition.
double score_of(const Matrix& q, index_type top, index_type bottom, const Matrix& k, index_type first,
                index_type last, block_score score) {
  const auto queries = q.middleRows(top, bottom - top).cast<double>();
  const auto keys = k.middleRows(first, last - first).cast<double>();
  if (score == block_score::mean) return queries.colwise().mean().dot(keys.colwise().mean());
  const Eigen::RowVectorXd least = keys.colwise().minCoeff(), largest = keys.colwise().maxCoeff();
  double best = -std::numeric_limits<double>::infinity();
  for (index_type t = 0; t < queries.rows(); ++t)
    best = std::max(best,
                    queries.row(t).cwiseProduct(least).cwiseMax(queries.row(t).cwiseProduct(largest)).sum());
  return best;
}

TEST(top_blocks, are_those_of_the_largest_scores) {
  constexpr index_type heads = 2, dim = 8, side = 16, a_block = 20;
  for (const auto& [queries, keys] : {std::pair<index_type, index_type>{150, 150}, {33, 200}, {1, 90}})
    for (const block_score score : {block_score::mean, block_score::min_max})
      for (const bool causal : {true, false}) {
        const Matrix q = Matrix::Random(queries, heads * dim), k = Matrix::Random(keys, dim);
        const auto chosen = fovea::top_blocks(
            q, summaries_of(k, 1, side),
            {.blocks = 4, .queries = a_block, .score = score, .causal = causal, .heads = heads});
        for (index_type h = 0; h < heads; ++h)
          for (index_type i = 0; i < chosen.rows(); ++i) {
            const index_type top = i * a_block, bottom = std::min(top + a_block, queries);
            const index_type from = (top + keys - queries) / side,
                             to = (bottom - 1 + keys - queries) / side + 1;
            double least_chosen = 1e9, most_left = -1e9;
            index_type count = 0;
            for (index_type j = 0; j < chosen.columns(); ++j) {
              const bool is_chosen = chosen(h, i, j);
              count += is_chosen;
              if (j == 0 || (j >= from && j < to)) {
                ASSERT_TRUE(is_chosen) << i << " " << j;
                continue;
              }
              const bool behind = causal && j >= to;
              ASSERT_FALSE(behind && is_chosen) << i << " " << j;
              if (behind) continue;
              const double s = score_of(q.middleCols(h * dim, dim), top, bottom, k, j * side,
                                        std::min((j + 1) * side, keys), score);
              (is_chosen ? least_chosen : most_left) =
                  is_chosen ? std::min(least_chosen, s) : std::max(most_left, s);
            }
            const index_type always = to - from + (from > 0), most = causal ? to : chosen.columns();
            ASSERT_EQ(count, std::min(most, std::max<index_type>(4, always)));
            ASSERT_GT(least_chosen, most_left - 1e-5);
          }
      }
}

TEST(top_blocks, summaries_are_the_same_however_keys_come) {
  const Matrix k = Matrix::Random(75, 2 * 8);
  const auto at_once = summaries_of(k, 2, 16);
  fovea::block_summaries keys(2, 8, {.side = 16});
  for (const auto& [first, count] : {std::pair{0, 1}, {1, 30}, {31, 17}, {48, 27}})
    keys.append(Matrix(k.middleRows(first, count)));
  ASSERT_EQ(keys.tokens(), 75);
  ASSERT_EQ(keys.blocks(), 5);
  for (index_type h = 0; h < 2; ++h)
    for (index_type j = 0; j < 5; ++j)
      for (index_type c = 0; c < 8; ++c) {
        const auto block = k.middleRows(j * 16, keys.count(j)).col(h * 8 + c);
        EXPECT_EQ(keys.sum(h, j)[c], at_once.sum(h, j)[c]);
        EXPECT_NEAR(keys.sum(h, j)[c], block.sum(), 1e-5f);
        EXPECT_EQ(keys.least(h, j)[c], block.minCoeff());
        EXPECT_EQ(keys.largest(h, j)[c], block.maxCoeff());
      }
}

TEST(top_blocks, of_a_cache_while_it_grows) {
  fovea::kv_cache<float, 1> cache(200, 16);
  fovea::block_summaries keys(1, 16, {.side = 16});
  const fovea::attention<float, 2, 1> attend;
  for (const index_type count : {100, 1, 40, 1}) {
    const Matrix k = Matrix::Random(count, 16), v = Matrix::Random(count, 16), q = Matrix::Random(count, 32);
    cache.append(k, v), keys.append(k);
    const auto chosen = fovea::top_blocks(q, keys, {.blocks = 3, .queries = 32, .heads = 2});
    const auto got = attend.with_lse(q, cache, chosen.mask(), fovea::causal);
    const auto expected =
        fovea::reference(q, cache.keys(), cache.values(), {2, 1}, chosen.mask(), fovea::causal);
    for (index_type i = 0; i < count; ++i)
      for (index_type c = 0; c < 32; ++c)
        ASSERT_NEAR(static_cast<double>(got.out(i, c)), expected.out(0, c / 16, i, c % 16), 1e-5) << i;
  }
}

/// A block whose keys are those that queries look for is found, with nearly all of the mass.
TEST(top_blocks, keep_the_mass_of_what_is_looked_for) {
  const index_type tokens = 320;
  Matrix k = Matrix::Random(tokens, 16);
  k.middleRows(160, 32).rowwise() += Eigen::RowVectorXf::Constant(16, 2.0f);
  const Matrix q = Matrix::Random(tokens, 16) + Matrix::Constant(tokens, 16, 2.0f);
  const fovea::attention<float, 1> attend;
  const auto keys = summaries_of(k, 1, 32);
  for (const block_score score : {block_score::mean, block_score::min_max}) {
    const auto chosen = fovea::top_blocks(
        q, keys, {.blocks = 1, .queries = 32, .score = score, .first = false, .own = false, .causal = false});
    for (index_type i = 0; i < chosen.rows(); ++i) ASSERT_TRUE(chosen(0, i, 5));
    const double kept = fovea::kept_mass(attend, q, k, chosen.mask());
    EXPECT_GT(kept, 0.99);
    double expected = 0;
    const auto with = fovea::reference(q, k, k, {1}, chosen.mask()), without = fovea::reference(q, k, k, {1});
    for (index_type i = 0; i < tokens; ++i)
      expected += std::exp(with.lse(0, 0, i, 0) - without.lse(0, 0, i, 0));
    EXPECT_NEAR(kept, expected / static_cast<double>(tokens), 1e-5);
  }
  const auto all = fovea::top_blocks(q, keys, {.blocks = 100, .queries = 32});
  EXPECT_NEAR(fovea::kept_mass(attend, q, k, all.mask(), fovea::causal), 1.0, 1e-6);
}

/// NaN is not lost: its block counts as the one that matters most.
TEST(top_blocks, nan_is_chosen) {
  Matrix k = Matrix::Random(160, 8);
  k(100, 3) = std::numeric_limits<float>::quiet_NaN();
  const Matrix q = Matrix::Random(160, 8);
  for (const block_score score : {block_score::mean, block_score::min_max}) {
    const auto chosen =
        fovea::top_blocks(q, summaries_of(k, 1, 16),
                          {.blocks = 1, .score = score, .first = false, .own = false, .causal = false});
    for (index_type i = 0; i < chosen.rows(); ++i) EXPECT_TRUE(chosen(0, i, 100 / 16));
  }
}

/// A block may be longer than all there is: as long as an index can count.
TEST(top_blocks, of_any_length) {
  constexpr index_type most = std::numeric_limits<index_type>::max();
  const Matrix k = Matrix::Random(100, 8), q = Matrix::Random(40, 8);
  const auto keys = summaries_of(k, 1, 16), one_block = summaries_of(k, 1, most);
  EXPECT_EQ(one_block.blocks(), 1);
  EXPECT_EQ(one_block.count(0), 100);
  for (const block_score score : {block_score::mean, block_score::min_max}) {
    const auto chosen = fovea::top_blocks(q, keys, {.blocks = 3, .queries = most, .score = score}),
               wanted = fovea::top_blocks(q, keys, {.blocks = 3, .queries = 64, .score = score});
    ASSERT_EQ(chosen.rows(), 1);
    for (index_type j = 0; j < chosen.columns(); ++j) EXPECT_EQ(chosen(0, 0, j), wanted(0, 0, j)) << j;
    const fovea::attention<float, 1> attend;
    EXPECT_EQ(attend(q, k, k, chosen.mask()), attend(q, k, k, wanted.mask()));
    const auto whole = fovea::top_blocks(q, one_block, {.queries = most, .score = score});
    EXPECT_EQ(attend(q, k, k, whole.mask()), attend(q, k, k));
  }
}

TEST(block_summaries, moved_from_are_of_no_keys_and_moved_to_themselves_are_what_they_were) {
  const Matrix k = Matrix::Random(100, 8);
  auto keys = summaries_of(k, 1, 16), &same = keys;
  keys = std::move(same);
  ASSERT_EQ(keys.tokens(), 100);
  const auto wanted = summaries_of(k, 1, 16);
  for (index_type j = 0; j < 7; ++j)
    for (index_type c = 0; c < 8; ++c) EXPECT_EQ(keys.sum(0, j)[c], wanted.sum(0, j)[c]);
  const auto moved = std::move(keys);
  EXPECT_EQ(moved.tokens(), 100);
  EXPECT_EQ(keys.tokens(), 0);
  fovea_test::expect_refused([&] { fovea::top_blocks(k, keys, {}); }, {"100", "0"});
  keys.append(k);
  EXPECT_EQ(keys.sum(0, 3)[2], wanted.sum(0, 3)[2]);
  auto chosen = fovea::top_blocks(k, keys, {});
  const auto taken = std::move(chosen);
  fovea_test::expect_refused([&] { static_cast<void>(chosen.mask()); }, {"null pointer"});
}

TEST(top_blocks, of_sizes_that_no_index_counts) {
  constexpr index_type large = index_type(1) << 32;
  EXPECT_THROW(fovea::chosen_blocks(large, large, 1, {16, 16}), std::length_error);
  EXPECT_THROW(fovea::chosen_blocks(large, large, 16, {16, 16}), std::length_error);
  fovea_test::expect_refused([] { fovea::chosen_blocks(2, -1, 3, {16, 16}); }, {"2 x -1 x 3"});
  EXPECT_THROW(fovea::block_summaries(large, large, {.side = 16}), std::length_error);
  EXPECT_THROW(fovea::block_summaries(large << 20, 1 << 12, {.side = 16}), std::length_error);
}

TEST(top_blocks, refuse_what_does_not_fit) {
  using fovea_test::expect_refused;
  const Matrix k = Matrix::Random(40, 16);
  const auto keys = summaries_of(k, 2, 16);
  expect_refused([&] { fovea::block_summaries(1, 8, {.side = 8}); }, {"8", "16"});
  expect_refused([&] { fovea::top_blocks(Matrix(41, 16), keys, {.heads = 2}); }, {"41", "40"});
  expect_refused([&] { fovea::top_blocks(Matrix(4, 16), keys, {.heads = 1}); }, {"16", "8"});
  expect_refused([&] { fovea::top_blocks(Matrix(4, 24), keys, {.heads = 3}); }, {"3", "2"});
  expect_refused([&] { fovea::top_blocks(Matrix(4, 16), keys, {.blocks = 0, .heads = 2}); }, {"0", "1"});
  expect_refused([&] { fovea::top_blocks(Matrix(4, 16), keys, {.queries = 8, .heads = 2}); }, {"8", "16"});
}

}  // namespace top_blocks_test
