// A cache that refuses names the value, and nothing has changed.
#include "../support/refusal.hpp"
#include "support.hpp"

#include <limits>

namespace fovea_test {
namespace errors_test {

constexpr index_type dim = 8;

const tokens<float> all(10, dim, dim, 1);
const Matrix q = normal(2, heads* dim, 2);

template <class Cache>
void expect_append_refused(Cache& cache, const Matrix& k, const Matrix& v, const std::string& why) {
  const Matrix before = attend(q, cache);
  const index_type count = cache.tokens();
  expect_refused([&] { cache.append(k, v); }, why);
  EXPECT_EQ(cache.tokens(), count);
  EXPECT_EQ(attend(q, cache), before);
}

TEST(cache_errors, of_append) {
  fovea::kv_cache<std::int8_t, kv_heads> cache(12, dim);
  cache.append(all.k, all.v);
  expect_append_refused(cache, all.k.topRows(3), all.v.topRows(3),
                        "the cache has room for 2 tokens of 12, not for 3");
  expect_append_refused(cache, all.k.topRows(2), all.v.topRows(1), "v has 1 tokens but k has 2");
  expect_append_refused(cache, all.k.leftCols(4), all.v, "k has 2 dimensions a head but the cache has 8");
  expect_append_refused(cache, all.k.leftCols(3), all.v, "k has 3 columns, which 2 heads do not divide");
  Matrix nan = all.k.topRows(2);
  nan(1, 12) = std::numeric_limits<float>::quiet_NaN();
  expect_append_refused(cache, nan, all.v.topRows(2),
                        "k of token 1, head 1 is nan, which int8 can not store");
  Matrix infinite = all.v.topRows(2);
  infinite(0, 0) = std::numeric_limits<float>::infinity();
  expect_append_refused(cache, all.k.topRows(2), infinite,
                        "v of token 0, head 0 is inf, which int8 can not store");

  const fovea::rotary_table<float> table(11, dim), wide(99, 2 * dim);
  const Matrix k = all.k.topRows(2), v = all.v.topRows(2);
  expect_refused([&] { cache.append(k, v, table.angles()); },
                 "position 11 is not within the table's 11 rows");
  fovea::rotary_table<float> gone(99, dim);
  const auto taken = std::move(gone);
  expect_refused([&] { cache.append(k, v, gone.angles()); },
                 "the table of 99 x 4 cosines and sines is a null pointer (was it moved from?)");
  expect_refused([&] { cache.append(k, v, wide.angles()); },
                 "the table rotates 16 dimensions, the cache's keys have 8");
  EXPECT_EQ(cache.tokens(), 10);
}

TEST(cache_errors, of_pages) {
  fovea::page_pool<float, kv_heads> pool({.pages = 3, .page_tokens = 4, .dim = dim});
  fovea::paged_cache<float, kv_heads> cache(pool);
  cache.append(all.k, all.v);
  expect_append_refused(cache, all.k.topRows(3), all.v.topRows(3),
                        "the pool has 0 free pages of 3, not the 1 needed");
  auto fork = cache.fork();  // its last page is shared, and there is none to copy it to
  expect_append_refused(fork, all.k.topRows(1), all.v.topRows(1),
                        "the pool has 0 free pages of 3, not the 1 needed");
  std::vector<fovea::paged_cache<float, kv_heads>> beams;
  beams.push_back(cache.fork()), beams.push_back(cache.fork());
  expect_refused(
      [&] {
        fovea::reorder(std::span(beams), std::vector<index_type>{0, 2});
      },
      "reorder: from names sequence 2, not one of 2");
  expect_refused([&] { fovea::reorder(std::span(beams), std::vector<index_type>{0}); },
                 "reorder: from has 1 entries for 2 caches");
}

TEST(cache_errors, of_sizes_and_calls) {
  using cache_type = fovea::kv_cache<float, kv_heads>;
  expect_refused([] { cache_type(0, dim); }, "a cache's capacity (tokens a page) is 0, not above 0");
  expect_refused([] { cache_type(4, -1); }, "a cache's dim is -1, not above 0");
  expect_refused([] { cache_type(4, dim, {.heads = 3}); }, "a cache has 3 heads, but its type says 2");
  expect_refused(
      [] { fovea::kv_cache<float>(4, dim); },
      "a cache's number of heads is 0, not above 0; give it as an option, {.heads = 8}, or in the type, as "
      "kv_cache<float, 8>");
  expect_refused([] { fovea::ring_cache<float, 2>(0, dim); }, "a ring's window is 0, not above 0");
  expect_refused([] { fovea::ring_cache<float, 2>(4, dim, {.sinks = -1}); },
                 "a ring's sinks are -1, below 0");
  cache_type cache(4, dim);
  expect_refused([&] { cache.truncate(1); }, "truncate to 1 tokens: the cache has 0");
  cache.append(all.k.topRows(1).eval(), all.v.topRows(1).eval());
  expect_refused([&] { attend(q, cache, fovea::causal); },
                 "causal: q has 2 tokens, more than the 1 in the cache");
  expect_refused([&] { fovea::attention<float, 6, 3>()(q, cache); }, "k: cache 0 has 2 heads, not 3");
  cache_type other(4, dim + 1);
  const std::vector<const cache_type*> mixed{&cache, &other}, missing{&cache, nullptr};
  expect_refused([&] { fovea::cache_batch{mixed}; },
                 "cache 1 of a batch has 9 dimensions a key, the first has 8");
  expect_refused([&] { fovea::cache_batch{missing}; }, "cache 1 of a batch is a null pointer");
}

}  // namespace errors_test
}  // namespace fovea_test
