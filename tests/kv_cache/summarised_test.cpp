// summarised_cache: whatever is appended, taken back or kept, its summaries are those of the stored keys.
#include "../support/allocations.hpp"
#include "../support/random.hpp"
#include "../support/refusal.hpp"

#include <fovea/kv_cache.hpp>
#include <fovea/reference.hpp>
#include <fovea/top_blocks.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace summarised_test {

using fovea::index_type;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr index_type heads = 2, dim = 16, side = 24;

/// Against the least, the largest and the sum of the keys that the cache shows.
template <class Cache>
void expect_summaries(const fovea::summarised_cache<Cache>& cache) {
  const auto& has = cache.summaries();
  ASSERT_EQ(has.tokens(), cache.tokens());
  for (index_type h = 0; h < heads; ++h) {
    const auto keys = fovea::in_double(cache.keys().head(0, h));
    for (index_type j = 0; j < has.blocks(); ++j)
      for (index_type c = 0; c < dim; ++c) {
        double sum = 0, least = 1e9, largest = -1e9;
        for (index_type t = j * side; t < std::min((j + 1) * side, cache.tokens()); ++t)
          sum += keys(t, c), least = std::min(least, keys(t, c)), largest = std::max(largest, keys(t, c));
        ASSERT_NEAR(static_cast<double>(has.sum(h, j)[c]), sum, 1e-5) << j;
        ASSERT_NEAR(static_cast<double>(has.least(h, j)[c]), least, 1e-7) << j;
        ASSERT_NEAR(static_cast<double>(has.largest(h, j)[c]), largest, 1e-7) << j;
      }
  }
}

/// Appends of all sizes, and truncations within and at blocks.
template <class Cache>
void change(fovea::summarised_cache<Cache>& cache, std::uint64_t seed, bool truncates = true) {
  fovea_test::random_source random(seed);
  const fovea::rotary_table<float> table(400, dim);
  for (int step = 0; step < 40; ++step) {
    const index_type count = random.chance(0.5) ? 1 : random.integer(0, 40);
    if (cache.position() + count <= 250) {
      const Matrix k = Matrix::Random(count, heads * dim), v = Matrix::Random(count, heads * dim);
      random.chance(0.5) ? cache.append(k, v) : cache.append(k, v, table.angles());
    }
    expect_summaries(cache);
    if (truncates && random.chance(0.3))
      cache.truncate(cache.tokens() - random.integer(0, std::min<index_type>(cache.tokens(), 60)));
    expect_summaries(cache);
  }
  EXPECT_GT(cache.tokens(), 0);
}

TEST(summarised_cache, follows_what_is_stored) {
  fovea::summarised_cache plain{fovea::kv_cache<float, heads>{250, dim}, {.side = side}};
  change(plain, 1);
  plain.keep(std::vector<index_type>{0, 3, 4});
  expect_summaries(plain);
  plain.reset();
  EXPECT_EQ(plain.summaries().blocks(), 0);
  fovea::summarised_cache rounded{fovea::kv_cache<fovea::bf16, heads>{250, dim}, {.side = side}};
  change(rounded, 2);
  fovea::summarised_cache scaled{fovea::kv_cache<std::int8_t, heads>{250, dim}, {.side = side}};
  change(scaled, 3);
  fovea::page_pool<float, heads> pages({.pages = 40, .page_tokens = 8, .dim = dim});
  fovea::summarised_cache paged{fovea::paged_cache<float, heads>(pages), {.side = side}};
  change(paged, 4);
  fovea::summarised_cache ring{fovea::ring_cache<std::int8_t, heads>(90, dim, {.sinks = 4}), {.side = side}};
  change(ring, 5, false);
}

TEST(summarised_cache, takes_over_a_cache_that_has_tokens) {
  fovea::kv_cache<std::int8_t, heads> cache{100, dim};
  cache.append(Matrix::Random(70, heads * dim).eval(), Matrix::Random(70, heads * dim).eval());
  fovea::summarised_cache taken{std::move(cache), {.side = side}};
  expect_summaries(taken);
  fovea::summarised_cache moved = std::move(taken);
  expect_summaries(moved);
}

/// A refused append changes neither.
/// Each allocation of a change fails in turn: then it has changed nothing, and goes on.
TEST(summarised_cache, is_what_it_was_where_there_is_no_memory) {
  const Matrix k = Matrix::Random(70, heads * dim), v = Matrix::Random(70, heads * dim);
  const std::vector<int> kept{0, 3, 24, 25, 69};
  using summarised = fovea::summarised_cache<fovea::kv_cache<std::int8_t, heads>>;
  const auto expect_unchanged = [&](const auto& change, int least) {
    int failures = 0;
    for (bool failed = true; failed; ++failures) {
      summarised cache{fovea::kv_cache<std::int8_t, heads>{250, dim}, {.side = side}};
      cache.append(k, v);
      const Matrix q = Matrix::Random(1, heads * dim);
      const fovea::attention<float, heads> attend;
      const Matrix before = attend(q, cache);
      fovea_test::fail_allocation(failures);
      failed = false;
      try {
        change(cache);
      } catch (const std::bad_alloc&) {
        failed = true;
      }
      fovea_test::fail_allocation(-1);
      if (!failed) break;
      ASSERT_EQ(cache.tokens(), 70) << failures;
      ASSERT_EQ(attend(q, cache), before) << failures;
      expect_summaries(cache);
      change(cache);
      expect_summaries(cache);
    }
    EXPECT_GE(failures, least);
  };
  expect_unchanged([&](summarised& cache) { cache.append(k, v); }, 1);
  expect_unchanged([&](summarised& cache) { cache.keep(kept); }, 1);
  expect_unchanged([&](summarised& cache) { cache.truncate(30); }, 0);
}

TEST(summarised_cache, refuses_as_the_cache_does) {
  fovea::summarised_cache cache{fovea::kv_cache<float, heads>{30, dim}, {.side = side}};
  const Matrix some = Matrix::Random(20, heads * dim);
  cache.append(some, some);
  EXPECT_THROW(cache.append(some, some), std::invalid_argument);
  EXPECT_THROW(cache.truncate(21), std::invalid_argument);
  expect_summaries(cache);
  EXPECT_EQ(cache.tokens(), 20);
  fovea_test::expect_refused(
      [] {
        fovea::summarised_cache(fovea::kv_cache<float, 1>{9, 4}, {.side = 8});
      },
      {"8", "16"});
}

/// It stands for a cache in calls. A tenth of the blocks holds most of the mass where keys change slowly, far
/// more than as many that are drawn.
TEST(summarised_cache, recall_of_slowly_changing_keys) {
  constexpr index_type tokens = 1600, queries = 20;
  fovea_test::random_source random(7);
  const auto slow = [&](index_type rows) {
    Matrix x(rows, heads * dim);
    for (index_type t = 0; t < rows; ++t)
      for (index_type c = 0; c < x.cols(); ++c)
        x(t, c) = (t == 0 ? 0 : 0.97f * x(t - 1, c)) + 0.5f * static_cast<float>(random.uniform(-1, 1));
    return x;
  };
  const Matrix k = slow(tokens), v = Matrix::Random(tokens, heads * dim);
  const Matrix q = 2 * k.middleRows(300, queries);
  fovea::summarised_cache cache{fovea::kv_cache<float, heads>{tokens, dim}, {.side = 16}};
  cache.append(k, v);
  const fovea::attention<float, heads> attend;
  for (const auto score : {fovea::block_score::mean, fovea::block_score::min_max}) {
    const auto chosen =
        fovea::top_blocks(q, cache.summaries(), {.blocks = 10, .score = score, .heads = heads});
    const double recall = fovea::kept_mass(attend, q, cache.keys(), chosen.mask(), fovea::causal);
    fovea::chosen_blocks other(heads, chosen.rows(), chosen.columns(), chosen.sides());
    for (index_type h = 0; h < heads; ++h)
      for (index_type i = 0; i < chosen.rows(); ++i)
        for (index_type j = 0; j < 10; ++j) other.choose(h, i, random.integer(0, chosen.columns() - 1));
    EXPECT_GT(recall, 0.7);
    EXPECT_LT(fovea::kept_mass(attend, q, cache.keys(), other.mask(), fovea::causal), 0.5);
    const Matrix o = attend(q, cache, chosen.mask(), fovea::causal);
    EXPECT_EQ(o, Matrix(attend(q, cache.cache(), chosen.mask(), fovea::causal)));
  }
}

}  // namespace summarised_test
