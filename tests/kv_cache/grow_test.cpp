// Caches that grow hold, bit for bit, what caches hold that had room from the start.
#include "support.hpp"

namespace fovea_test {
namespace grow_test {

/// All that attention reads of a cache: stored elements and scales.
template <class Cache>
std::vector<double> contents(const Cache& cache) {
  std::vector<double> all;
  const auto take = [&](const auto& piece) {
    for (index_type t = 0; t < piece.tokens.rows; ++t)
      for (index_type c = 0; c < piece.tokens.cols; ++c)
        all.push_back(fovea::load_element<double>(piece.tokens(t, c)) *
                      (piece.channel_scales ? static_cast<double>(piece.channel_scales[c]) : 1) *
                      (piece.token_scales ? static_cast<double>(piece.token_scales[t]) : 1));
  };
  for (index_type h = 0; h < cache.heads(); ++h) {
    cache.template each_piece<fovea::caching::side::keys>(h, {0, cache.tokens()}, take);
    cache.template each_piece<fovea::caching::side::values>(h, {0, cache.tokens()}, take);
  }
  return all;
}

template <class E>
class growing : public testing::Test {};
using storages = testing::Types<float, fovea::bf16, std::int8_t>;
TYPED_TEST_SUITE(growing, storages);

TYPED_TEST(growing, contiguous_caches_keep_their_tokens) {
  const index_type dim = 6, count = 150;
  const tokens<float> all(count, dim, dim + 1, 3);
  fovea::kv_cache<TypeParam, kv_heads> whole(160, dim, {.value_dim = dim + 1}),
      grown(32, dim, {.value_dim = dim + 1});
  int steps = 0;
  for (index_type first = 0; first < count; first += 7) {
    const index_type last = std::min<index_type>(first + 7, count);
    if (last > grown.capacity()) grown.reserve(2 * grown.capacity()), ++steps;
    append(whole, all.k, all.v, first, last), append(grown, all.k, all.v, first, last);
    ASSERT_EQ(contents(grown), contents(whole)) << last;
  }
  EXPECT_EQ(steps, 3);
  EXPECT_EQ(grown.capacity(), 256);
  EXPECT_EQ(grown.position(), count);
  const index_type bytes = grown.bytes();
  grown.reserve(40);
  EXPECT_EQ(grown.capacity(), 256);
  EXPECT_EQ(grown.bytes(), bytes);
  EXPECT_EQ(contents(grown).size(), static_cast<std::size_t>(count * kv_heads * (2 * dim + 1)));
}

TYPED_TEST(growing, pools_leave_their_sequences_alone) {
  const index_type dim = 6, count = 90;
  const tokens<float> all(count, dim, dim, 4);
  const auto pool_of = [&](index_type pages) {
    return fovea::pool_options{.pages = pages, .page_tokens = 5, .dim = dim};
  };
  fovea::page_pool<TypeParam, kv_heads> large(pool_of(60)), small(pool_of(3));
  fovea::paged_cache<TypeParam, kv_heads> whole(large), grown(small), beside(small);
  append(beside, all.k, all.v, 50, 58);
  const auto before = contents(beside);
  const auto fork = beside.fork();
  int steps = 0;
  for (index_type t = 0; t < count; ++t) {
    if (t % 5 == 0 && small.free_pages() == 0) small.grow(2 * small.pages()), ++steps;
    append(whole, all.k, all.v, t, t + 1), append(grown, all.k, all.v, t, t + 1);
    ASSERT_EQ(contents(grown), contents(whole)) << t;
  }
  EXPECT_EQ(steps, 3);
  EXPECT_EQ(small.pages(), 24);
  EXPECT_EQ(small.free_pages(), 24 - 18 - 2);
  EXPECT_EQ(contents(beside), before);
  EXPECT_EQ(contents(fork), before);
}

TEST(page_pool, does_not_shrink) {
  fovea::page_pool<float, kv_heads> pool({.pages = 3, .page_tokens = 5, .dim = 4});
  const auto refused = [&](index_type pages) -> std::string {
    try {
      pool.grow(pages);
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "accepted";
  };
  EXPECT_EQ(refused(2), "fovea: a pool of 3 pages can not grow to 2");
  EXPECT_EQ(refused(-1), "fovea: a pool of 3 pages can not grow to -1");
  EXPECT_EQ(pool.free_pages(), 3);
}

}  // namespace grow_test
}  // namespace fovea_test
