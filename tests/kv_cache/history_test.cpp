// Whatever was appended, taken back, shared and moved before, a cache holds its tokens and no others, each
// key turned to where it stands.
#include "../support/max_abs.hpp"
#include "support.hpp"

#include <cmath>
#include <sstream>

namespace fovea_test {
namespace history_test {

constexpr index_type dim = 8, rows = 700;
const tokens<float> text(rows, dim, dim + 2, 1);
const fovea::rotary_table<float> table(rows, dim);

/// A head's key in double, turned to position p.
Eigen::RowVectorXd turned(const Eigen::RowVectorXd& key, index_type p) {
  Eigen::RowVectorXd out = key;
  for (index_type h = 0; h < kv_heads; ++h)
    for (index_type i = 0; i < dim / 2; ++i) {
      const double angle = static_cast<double>(p) * std::pow(10000.0, -2.0 * static_cast<double>(i) / dim);
      const index_type a = h * dim + i, b = a + dim / 2;
      out(a) = key(a) * std::cos(angle) - key(b) * std::sin(angle);
      out(b) = key(a) * std::sin(angle) + key(b) * std::cos(angle);
    }
  return out;
}

/// What the storage types allow, of numbers up to about 5.
template <class E>
constexpr double tolerance = std::is_same_v<E, float>         ? 1e-4
                             : std::is_same_v<E, std::int8_t> ? 0.1
                                                              : 0.02;

/// Rows `kept` of the text, the last of them right before the cache's position.
template <class E, class Cache>
void expect_tokens(const Cache& cache, const std::vector<index_type>& kept, bool turns) {
  const auto count = static_cast<index_type>(kept.size());
  ASSERT_EQ(cache.tokens(), count);
  const numbers got = numbers_of(cache);
  for (index_type i = 0; i < count; ++i) {
    const index_type row = kept[static_cast<std::size_t>(i)];
    const Eigen::RowVectorXd key = text.k.row(row).cast<double>();
    const Eigen::RowVectorXd want = turns ? turned(key, cache.position() - count + i) : key;
    ASSERT_LE(fovea_test::max_abs(got.k.row(i) - want), tolerance<E>) << "key " << i << " of " << count;
    ASSERT_LE(fovea_test::max_abs(got.v.row(i) - text.v.row(row).cast<double>()), tolerance<E>) << i;
  }
}

/// Appends rows of the text, to the cache and to the list of what it holds.
template <class Cache>
void give(Cache& cache, std::vector<index_type>& kept, index_type first, index_type count, bool turns) {
  const Matrix k = text.k.middleRows(first, count), v = text.v.middleRows(first, count);
  if (turns)
    cache.append(k, v, table.angles());
  else
    cache.append(k, v);
  for (index_type i = 0; i < count; ++i) kept.push_back(first + i);
}

template <class E>
class histories : public testing::Test {};
using elements = testing::Types<float, fovea::bf16, std::int8_t>;
TYPED_TEST_SUITE(histories, elements);

TYPED_TEST(histories, of_rings_cut_to_every_length) {
  for (const bool turns : {false, true})
    for (const auto& [sinks, window] :
         {std::pair<index_type, index_type>{3, 4}, {4, 40}, {0, 5}, {40, 33}, {5, 1}})
      for (const index_type appended : {sinks + window - 1, sinks + window + 1, sinks + 2 * window + 9})
        for (index_type left = std::min(appended, sinks + window); left >= 0; left -= left > 12 ? 5 : 1) {
          SCOPED_TRACE(testing::Message() << "turned " << turns << ", " << sinks << " + " << window << ", "
                                          << appended << " in, cut to " << left);
          fovea::ring_cache<TypeParam, kv_heads> ring(window, dim, {.value_dim = dim + 2, .sinks = sinks});
          std::vector<index_type> kept;
          const auto let_go = [&] {
            while (static_cast<index_type>(kept.size()) > sinks + window) kept.erase(kept.begin() + sinks);
          };
          for (index_type t = 0; t < appended; t += 7)
            give(ring, kept, t, std::min<index_type>(7, appended - t), turns);
          let_go();
          const index_type full = ring.tokens();
          ASSERT_NO_FATAL_FAILURE(expect_tokens<TypeParam>(ring, kept, turns));
          ring.truncate(left), kept.resize(static_cast<std::size_t>(left));
          ASSERT_EQ(ring.position(), left <= sinks ? left : appended - (full - left));
          ASSERT_NO_FATAL_FAILURE(expect_tokens<TypeParam>(ring, kept, turns));
          for (const index_type more : {1, 2, 45}) {
            give(ring, kept, 200 + more, more, turns), let_go();
            ASSERT_NO_FATAL_FAILURE(expect_tokens<TypeParam>(ring, kept, turns)) << "and " << more << " more";
          }
        }
}

/// A sink appended without angles stays as it was given.
TYPED_TEST(histories, of_a_ring_that_turns_only_some_sinks) {
  fovea::ring_cache<TypeParam, kv_heads> ring(6, dim, {.value_dim = dim + 2, .sinks = 4});
  std::vector<index_type> kept;
  give(ring, kept, 0, 2, false), give(ring, kept, 2, 30, true);
  for (const index_type left : {10, 3}) {
    ring.truncate(left);
    const numbers got = numbers_of(ring);
    for (index_type s = 0; s < std::min<index_type>(left, 4); ++s) {
      const Eigen::RowVectorXd key = text.k.row(s).cast<double>();
      const Eigen::RowVectorXd want = s < 2 ? key : turned(key, ring.position() - left + s);
      ASSERT_LE(fovea_test::max_abs(got.k.row(s) - want), tolerance<TypeParam>) << s << " of " << left;
    }
  }
}

/// int8 keys share their scales with those of their block that are there, not with those that are gone.
TEST(histories, of_an_int8_ring_whose_large_keys_are_gone) {
  fovea::ring_cache<std::int8_t, kv_heads> ring(64, dim);
  const Matrix large = 1000 * text.k.middleRows(0, 20), v = text.v.middleRows(0, 1).leftCols(kv_heads * dim);
  const auto append = [&](const Matrix& k) { ring.append(k, Matrix(v.replicate(k.rows(), 1))); };
  append(large), append(text.k.middleRows(20, 64));  // the large ones are gone but for their slots' integers
  ring.truncate(10);                                 // rows 20 to 29, in the block where the large ones were
  append(text.k.middleRows(100, 5));                 // and the block is opened again
  append(text.k.middleRows(105, 60));
  ring.truncate(50);
  const numbers got = numbers_of(ring);
  ASSERT_EQ(got.k.rows(), 50);
  double worst = 0;
  for (index_type i = 0; i < 50; ++i)
    worst =
        fovea_test::worse(worst, fovea_test::max_abs(got.k.row(i) - text.k.row(111 + i - 10).cast<double>()));
  EXPECT_LE(worst, 0.1);
}

/// Sequences of a pool that fork, go on, take back and end, in a random order: what one of them writes,
/// none of the others sees.
TYPED_TEST(histories, of_sequences_that_share_pages) {
  random_source random(5);
  for (const index_type page_tokens : {4, 16, 40}) {
    fovea::page_pool<TypeParam, kv_heads> pool(
        {.pages = 400, .page_tokens = page_tokens, .dim = dim, .value_dim = dim + 2});
    using sequence = fovea::paged_cache<TypeParam, kv_heads>;
    std::vector<sequence> all;
    std::vector<std::vector<index_type>> kept(1);
    all.emplace_back(pool);
    for (int step = 0; step < 300; ++step) {
      const auto i = static_cast<std::size_t>(random.integer(0, static_cast<index_type>(all.size()) - 1));
      const index_type count = all[i].tokens(), what = random.integer(0, 9);
      if (what == 0 && all.size() < 6) {
        all.push_back(all[i].fork()), kept.push_back(std::vector<index_type>(kept[i]));
      } else if (what == 1 && all.size() > 1) {
        all.erase(all.begin() + static_cast<std::ptrdiff_t>(i));
        kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(i));
      } else if (what <= 4 || count > 90) {
        const index_type left = random.integer(std::max<index_type>(0, count - 40), count);
        all[i].truncate(left), kept[i].resize(static_cast<std::size_t>(left));
      } else {
        give(all[i], kept[i], random.integer(0, 600), random.integer(1, 20), true);
      }
      for (std::size_t j = 0; j < all.size(); ++j)
        ASSERT_NO_FATAL_FAILURE(expect_tokens<TypeParam>(all[j], kept[j], true))
            << "sequence " << j << ", step " << step;
    }
    all.clear();
    EXPECT_EQ(pool.free_pages(), pool.pages());
  }
}

/// A page that an int8 sequence gave back with keys not yet quantised comes back to it as a copy of another.
TEST(histories, of_a_page_that_comes_back) {
  fovea::page_pool<std::int8_t, kv_heads> pool(
      {.pages = 3, .page_tokens = 16, .dim = dim, .value_dim = dim + 2});
  fovea::paged_cache<std::int8_t, kv_heads> first(pool);
  std::vector<index_type> kept;
  give(first, kept, 0, 21, false);
  auto second = first.fork();
  second.truncate(16), first.truncate(3), kept.resize(3);
  give(first, kept, 100, 4, false);
  expect_tokens<std::int8_t>(first, kept, false);
}

TYPED_TEST(histories, of_one_sequence) {
  random_source random(9);
  fovea::kv_cache<TypeParam, kv_heads> cache(120, dim, {.value_dim = dim + 2});
  std::vector<index_type> kept;
  for (int step = 0; step < 300; ++step) {
    const index_type count = cache.tokens(), what = random.integer(0, 9);
    if (what < 3 || count > 100) {
      const index_type left = random.integer(std::max<index_type>(0, count - 40), count);
      cache.truncate(left), kept.resize(static_cast<std::size_t>(left));
    } else if (what == 3) {
      std::stringstream file;
      cache.save(file), cache.reset(), cache.load(file);
    } else if (what == 4) {
      fovea::kv_cache<TypeParam, kv_heads> other(std::move(cache));
      EXPECT_EQ(cache.tokens(), 0);
      cache = std::move(other);
    } else if (what == 5) {
      std::vector<index_type> some, left;
      for (index_type i = 0; i < count; ++i)
        if (random.integer(0, 9) > 0) some.push_back(i), left.push_back(kept[static_cast<std::size_t>(i)]);
      cache.keep(some), kept = left;
    } else {
      give(cache, kept, random.integer(0, 600), random.integer(0, 19), false);
    }
    ASSERT_NO_FATAL_FAILURE(expect_tokens<TypeParam>(cache, kept, false)) << step;
  }
}

}  // namespace history_test
}  // namespace fovea_test
