// What a cache refuses, or has no memory for, leaves it as it was; and what was moved from is empty.
#include "support.hpp"

#include "../support/allocations.hpp"
#include "../support/refusal.hpp"

#include <limits>
#include <thread>

namespace fovea_test {
namespace unchanged_test {

constexpr index_type dim = 8, before = 45;
const tokens<float> text(100, dim, dim, 1);
const fovea::rotary_table<float> table(80, dim), short_table(50, dim), wide_table(80, 2 * dim);

template <class E>
struct contiguous {
  using element = E;
  fovea::kv_cache<E, kv_heads> cache{60, dim};
  index_type free_pages() const { return 0; }
};
template <class E>
struct ring {
  using element = E;
  fovea::ring_cache<E, kv_heads> cache{20, dim, {.sinks = 5}};
  index_type free_pages() const { return 0; }
};
/// A sequence whose last page is shared.
template <class E>
struct paged {
  using element = E;
  fovea::page_pool<E, kv_heads> pool{{.pages = 5, .page_tokens = 16, .dim = dim}};
  fovea::paged_cache<E, kv_heads> cache{pool}, other{pool};
  index_type free_pages() const { return pool.free_pages(); }
};

template <class Held>
void fill(Held& held) {
  held.cache.append(Matrix(text.k.topRows(before)), Matrix(text.v.topRows(before)), table.angles());
  if constexpr (requires { held.other; }) held.other = held.cache.fork();
}

template <class Held>
class unchanged : public testing::Test {};
using caches = testing::Types<contiguous<float>, contiguous<std::int8_t>, ring<float>, ring<std::int8_t>,
                              paged<float>, paged<std::int8_t>>;
TYPED_TEST_SUITE(unchanged, caches);

TYPED_TEST(unchanged, where_append_refuses) {
  TypeParam held;
  auto& cache = held.cache;
  fill(held);
  const numbers all = numbers_of(cache);
  const index_type position = cache.position(), free_pages = held.free_pages();
  const auto expect_refusal = [&](const char* why, const auto& append) {
    SCOPED_TRACE(why);
    expect_refused(append, {why});
    EXPECT_EQ(numbers_of(cache), all);
    EXPECT_EQ(cache.position(), position);
    EXPECT_EQ(held.free_pages(), free_pages);
  };
  const Matrix k = text.k.topRows(7), v = text.v.topRows(7);
  expect_refusal("v has 6 tokens but k has 7", [&] { cache.append(k, Matrix(v.topRows(6))); });
  expect_refusal("v has 6 tokens", [&] { cache.append(k, Matrix(v.topRows(6)), table.angles()); });
  expect_refusal("k has 4 dimensions a head but the cache has 8",
                 [&] { cache.append(Matrix(k.leftCols(8)), v); });
  expect_refusal("position 51 is not within the table's 50 rows",
                 [&] { cache.append(k, v, short_table.angles()); });
  expect_refusal("rotates 16 dimensions", [&] { cache.append(k, v, wide_table.angles()); });
  auto torn = table.angles();
  torn.sin.rows = 3;
  expect_refusal("that of sines 3 x 4", [&] { cache.append(k, v, torn); });
  if constexpr (!std::is_same_v<TypeParam, ring<typename TypeParam::element>>)
    expect_refusal(held.free_pages() > 0 ? "not the 4 needed" : "not for 50",
                   [&] { cache.append(Matrix(text.k.topRows(50)), Matrix(text.v.topRows(50))); });

  // Of the cache's own memory.
  const typename TypeParam::element* own = nullptr;
  cache.template each_piece<fovea::caching::side::values>(
      0, {4, 5}, [&](const auto& piece) { own = piece.tokens.data; });
  ASSERT_NE(own, nullptr);
  if constexpr (std::is_same_v<typename TypeParam::element, float>) {
    const fovea::tensor_view<const float> mine{own, 1, kv_heads, 1, dim, 0, 0, dim, 1};
    expect_refusal("k lies in the cache's own memory", [&] { cache.append(mine, Matrix(v.topRows(1))); });
    expect_refusal("v lies in the cache's own memory", [&] { cache.append(Matrix(k.topRows(1)), mine); });
  } else {
    // No scale can express it: in a value, in a key, in a key once it is turned.
    const auto refuse = [&](double bad, const char* why, bool of_key, bool turns) {
      Eigen::MatrixXd bad_k = k.cast<double>(), bad_v = v.cast<double>();
      (of_key ? bad_k : bad_v).row(5).setConstant(bad);
      expect_refusal(
          why, [&] { turns ? cache.append(bad_k, bad_v, table.angles()) : cache.append(bad_k, bad_v); });
    };
    refuse(std::numeric_limits<double>::quiet_NaN(), "k of token 5, head 0 is nan", true, true);
    refuse(-std::numeric_limits<double>::infinity(), "v of token 5, head 0 is -inf", false, false);
    refuse(0x1p130, "k of token 5, head 0 is 1.361129467683754e+39, which int8 can not store", true, false),
        refuse(-0x1p130, "v of token 5, head 0 is -1.361129467683754e+39, which int8 can not store", false,
               true);
    refuse(3e38, "k, turned, of token 5, head 0", true, true);
  }
}

/// Each allocation that an append makes fails in turn.
TYPED_TEST(unchanged, where_there_is_no_memory) {
  const Matrix k = text.k.topRows(12), v = text.v.topRows(12);
  for (const bool turns : {false, true}) {
    int failures = 0;
    for (long calls = 0;; ++calls) {
      TypeParam held;
      if (calls % 2 == 0) fill(held);  // or none before: then it makes all of its memory
      const numbers all = numbers_of(held.cache);
      const index_type position = held.cache.position(), free_pages = held.free_pages();
      fail_allocation(calls / 2);
      bool failed = false;
      try {
        turns ? held.cache.append(k, v, table.angles()) : held.cache.append(k, v);
      } catch (const std::bad_alloc&) {
        failed = true;
      }
      fail_allocation(-1);
      if (failed) {
        ++failures;
        ASSERT_EQ(numbers_of(held.cache), all) << calls;
        ASSERT_EQ(held.cache.position(), position);
        ASSERT_EQ(held.free_pages(), free_pages);
        held.cache.append(k, v, table.angles());  // and it goes on
      } else if (calls % 2 == 1) {
        break;
      }
    }
    EXPECT_GT(failures, 0);
  }
}

TYPED_TEST(unchanged, moved_from_is_empty) {
  TypeParam held;
  fill(held);
  const numbers all = numbers_of(held.cache);
  const Matrix k = text.k.topRows(2), v = text.v.topRows(2);
  auto other = std::move(held.cache);
  EXPECT_EQ(numbers_of(other), all);
  EXPECT_EQ(held.cache.tokens(), 0);
  EXPECT_EQ(held.cache.bytes(), 0);
  held.cache.truncate(0), held.cache.reset();
  expect_refused([&] { held.cache.append(k, v); }, {"the cache was moved from"});
  expect_refused([&] { held.cache.append(k, v, table.angles()); }, {"the cache was moved from"});
  if constexpr (std::is_same_v<TypeParam, contiguous<float>>)
    expect_refused([&] { attend(normal(1, heads * dim, 2), held.cache); }, {"cache 0 was moved from"});
  held.cache = std::move(other);
  EXPECT_EQ(numbers_of(held.cache), all);
}

/// Reading changes nothing either: several threads may read one cache.
TEST(unchanged, by_threads_that_read) {
  contiguous<std::int8_t> held;
  fill(held);
  const Matrix q = normal(2, heads * dim, 2), alone = attend(q, held.cache, fovea::causal);
  std::vector<Matrix> results(4);
  std::vector<std::thread> readers;
  for (Matrix& result : results)
    readers.emplace_back([&] {
      for (int i = 0; i < 20; ++i) result = attend(q, held.cache, fovea::causal);
    });
  for (std::thread& reader : readers) reader.join();
  for (const Matrix& result : results) EXPECT_EQ(result, alone);
}

}  // namespace unchanged_test
}  // namespace fovea_test
