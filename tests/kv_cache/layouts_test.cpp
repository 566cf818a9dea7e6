// Caches of every layout give what a call over the same keys and values gives; pages are shared and copied,
// rings let go, tokens are taken back.
#include "support.hpp"

#include <type_traits>

namespace fovea_test {
namespace layouts_test {

/// What a cache stores: keys, values.
template <class E, class VE>
struct stored {
  using key = E;
  using value = VE;
};

template <class Stored>
class layouts : public testing::Test {};
using storages =
    testing::Types<stored<float, float>, stored<fovea::bf16, fovea::bf16>, stored<fovea::fp16, float>>;
TYPED_TEST_SUITE(layouts, storages);

TYPED_TEST(layouts, are_as_exact_as_a_call_without_a_cache) {
  using E = typename TypeParam::key;
  using VE = typename TypeParam::value;
  for (const index_type dim : {64, 40, 7})
    for (const index_type count : {1, 45, 300})
      for (const index_type queries : {1, 4, 33}) {
        if (queries > count) continue;
        SCOPED_TRACE(testing::Message()
                     << "dim " << dim << ", " << count << " tokens, " << queries << " queries");
        const tokens<E, VE> all(count, dim, dim + 3, 5);
        const Matrix q = normal(queries, heads * dim, 9);
        fovea::kv_cache<E, kv_heads, VE> whole(count + 2, dim, {.value_dim = dim + 3});
        append(whole, all.k, all.v, 0, count);
        expect_exact(attend(q, whole), q, all.k, all.v);
        expect_exact(attend(q, whole, fovea::causal), q, all.k, all.v, fovea::causal_bottom_right);

        fovea::page_pool<E, kv_heads, VE> pool(
            {.pages = 2 * count, .page_tokens = 7, .dim = dim, .value_dim = dim + 3});
        fovea::paged_cache<E, kv_heads, VE> paged(pool), other(pool);
        for (index_type t = 0; t < count; ++t)
          append(paged, all.k, all.v, t, t + 1), append(other, all.k, all.v, t, t + 1);
        expect_exact(attend(q, paged, fovea::causal), q, all.k, all.v, fovea::causal_bottom_right);
      }
}

TYPED_TEST(layouts, place_masks_and_scores_at_the_end_of_the_cache) {
  using E = typename TypeParam::key;
  using VE = typename TypeParam::value;
  const index_type count = 120, dim = 16, queries = 5;
  const tokens<E, VE> all(count, dim, dim, 3);
  const Matrix q = normal(queries, heads * dim, 4);
  const std::vector<float> slopes(heads, 0.05f), logits(heads, 0.5f);
  Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> tree(queries, count);
  tree.setConstant(true);
  for (index_type i = 0; i < queries; ++i)
    for (index_type j = 0; j < queries; ++j) tree(i, count - queries + j) = (i & j) == j;
  fovea::kv_cache<E, kv_heads, VE> cache(count, dim);
  append(cache, all.k, all.v, 0, count);
  const index_type first = count - queries;
  expect_exact(attend(q, cache, fovea::causal & fovea::sliding_window{.left = 30}), q, all.k, all.v,
               fovea::causal_bottom_right & fovea::sliding_window{.left = 30, .offset = first});
  expect_exact(attend(q, cache, fovea::causal, fovea::alibi{slopes}, fovea::softcap{3.f}), q, all.k, all.v,
               fovea::causal_bottom_right, fovea::alibi{slopes, first}, fovea::softcap{3.f});
  expect_exact(attend(q, cache, fovea::boolean_mask(tree), fovea::sink{logits}), q, all.k, all.v,
               fovea::boolean_mask(tree), fovea::sink{logits});
  const auto weights = attend.weights(q, cache, fovea::causal);
  EXPECT_EQ(weights.dim(), count);
  EXPECT_EQ(weights(0, 0, 0, count - 1), 0);
  EXPECT_GT(weights(0, 0, queries - 1, count - 1), 0);
}

TYPED_TEST(layouts, keep_the_sinks_and_the_newest_in_a_ring) {
  using E = typename TypeParam::key;
  using VE = typename TypeParam::value;
  const index_type dim = 24, window = 37, sinks = 4, count = 150;
  const tokens<E, VE> all(count, dim, dim, 8);
  const Matrix q = normal(1, heads * dim, 2);
  fovea::ring_cache<E, kv_heads, VE> ring(window, dim, {.sinks = sinks});
  for (index_type t = 0; t < count; ++t) {
    append(ring, all.k, all.v, t, t + 1);
    const index_type kept = std::min(t + 1, window + sinks), late = std::max<index_type>(kept - sinks, 0);
    ASSERT_EQ(ring.tokens(), kept);
    ASSERT_EQ(ring.position(), t + 1);
    if (t % 13 != 0) continue;
    Matrix k(kept, all.k.cols()), v(kept, all.v.cols());
    k << all.k.topRows(kept - late), all.k.middleRows(t + 1 - late, late);
    v << all.v.topRows(kept - late), all.v.middleRows(t + 1 - late, late);
    expect_exact(attend(q, ring, fovea::causal), q, k, v);
  }
  ring.truncate(ring.tokens() - 3);
  EXPECT_EQ(ring.position(), count - 3);
  append(ring, all.k, all.v, count - 3, count);
  EXPECT_EQ(ring.position(), count);
}

TEST(ring_cache, turns_sinks_as_if_they_stood_before_the_window) {
  const index_type dim = 16, window = 20, sinks = 4, count = 90;
  const tokens<float> all(count, dim, dim, 1);
  const fovea::rotary_table<float> table(count, dim);
  fovea::ring_cache<float, kv_heads> ring(window, dim, {.sinks = sinks});
  for (index_type t = 0; t < count; ++t) {
    const Matrix k = all.k.row(t), v = all.v.row(t);
    ring.append(k, v, table.angles());
  }
  Matrix k(window + sinks, all.k.cols()), v(window + sinks, all.v.cols()), q = normal(1, heads * dim, 3);
  k << all.k.topRows(sinks), all.k.bottomRows(window);
  v << all.v.topRows(sinks), all.v.bottomRows(window);
  fovea::rotate(k, table.angles(), {.heads = kv_heads, .first = count - window - sinks});
  expect_exact(attend(q, ring, fovea::causal), q, k, v);
}

TEST(ring_cache, moved_to_itself_is_what_it_was) {
  const index_type dim = 16, count = 60;
  const tokens<float> all(count, dim, dim, 1);
  const fovea::rotary_table<float> table(count, dim);
  const Matrix q = normal(1, heads * dim, 3);
  const auto ring_of = [&](auto... more) {
    fovea::ring_cache<float, kv_heads> ring(20, dim, {.sinks = 4});
    for (index_type t = 0; t < count; ++t) {
      ring.append(Matrix(all.k.row(t)), Matrix(all.v.row(t)), table.angles());
      if (t == 40) (more(ring), ...);
    }
    const Matrix full = attend(q, ring, fovea::causal);
    ring.truncate(2);  // the sinks' keys are turned back
    return std::pair(full, Matrix(attend(q, ring, fovea::causal)));
  };
  EXPECT_EQ(ring_of(), ring_of([](auto& ring) {
              auto& same = ring;
              ring = std::move(same);
            }));
}

TEST(paged_cache, forks_share_pages_until_one_of_them_writes) {
  const index_type dim = 8, count = 21;
  const tokens<float> all(60, dim, dim, 1);
  const Matrix q = normal(1, heads * dim, 2);
  fovea::page_pool<float, kv_heads> pool({.pages = 20, .page_tokens = 4, .dim = dim});
  fovea::paged_cache<float, kv_heads> first(pool);
  append(first, all.k, all.v, 0, count);
  const index_type used = pool.pages() - pool.free_pages();
  EXPECT_EQ(used, 6);
  {
    auto second = first.fork(), third = second.fork();
    EXPECT_EQ(pool.pages() - pool.free_pages(), used);
    const Matrix before = attend(q, first);
    append(second, all.k, all.v, 40, 42), append(third, all.k, all.v, 50, 51);
    EXPECT_EQ(attend(q, first), before);
    EXPECT_EQ(pool.pages() - pool.free_pages(), used + 2);  // the last page, twice
    Matrix k(count + 2, all.k.cols()), v(count + 2, all.v.cols());
    k << all.k.topRows(count), all.k.middleRows(40, 2), v << all.v.topRows(count), all.v.middleRows(40, 2);
    expect_exact(attend(q, second), q, k, v);

    std::vector<fovea::paged_cache<float, kv_heads>> beams;
    beams.push_back(first.fork()), beams.push_back(second.fork()), beams.push_back(third.fork());
    const std::vector<index_type> from{1, 1, 0};
    fovea::reorder(std::span(beams), from);
    EXPECT_EQ(attend(q, beams[0]), attend(q, second));
    EXPECT_EQ(attend(q, beams[1]), attend(q, second));
    EXPECT_EQ(attend(q, beams[2]), before);
  }
  EXPECT_EQ(pool.pages() - pool.free_pages(), used);
  first.truncate(9);
  EXPECT_EQ(pool.pages() - pool.free_pages(), 3);
  first.reset();
  EXPECT_EQ(pool.free_pages(), pool.pages());
}

TEST(cache_batch, reads_a_shared_prefix_once) {
  const index_type dim = 24, prefix = 300;
  const tokens<float> all(400, dim, dim, 6);
  fovea::page_pool<float, kv_heads> pool({.pages = 60, .page_tokens = 16, .dim = dim});
  std::vector<fovea::paged_cache<float, kv_heads>> caches;
  caches.emplace_back(pool);
  append(caches[0], all.k, all.v, 0, prefix);
  for (int i = 0; i < 3; ++i) caches.push_back(caches[0].fork());
  std::vector<const fovea::paged_cache<float, kv_heads>*> some;
  for (index_type b = 0; b < 4; ++b) {
    append(caches[static_cast<std::size_t>(b)], all.k, all.v, prefix + 10 * b, prefix + 12 * b + 3);
    some.push_back(&caches[static_cast<std::size_t>(b)]);
  }
  const std::vector<index_type> offsets{0, 1, 3, 4, 7};
  const Matrix q = normal(7, heads * dim, 7);
  const Matrix got =
      fovea::attend_shared_prefix(attend, fovea::ragged{q, offsets}, fovea::cache_batch{some}, prefix);
  for (std::size_t b = 0; b < 4; ++b) {
    const index_type own = offsets[b + 1] - offsets[b];
    const Matrix one = q.middleRows(offsets[b], own);
    EXPECT_LE(relative_error(got.middleRows(offsets[b], own), attend(one, caches[b], fovea::causal)), 1e-6);
  }
  const auto shared = [&](index_type tokens, const std::vector<index_type>& where) {
    return fovea::attend_shared_prefix(attend, fovea::ragged{q, where}, fovea::cache_batch{some}, tokens);
  };
  EXPECT_THROW(shared(303, offsets), std::invalid_argument);
  EXPECT_THROW(shared(-1, offsets), std::invalid_argument);
  EXPECT_THROW(shared(prefix, {0, 7}), std::invalid_argument);
}

TEST(cache_batch, is_each_sequence_bit_for_bit_whoever_works) {
  const index_type dim = 32;
  const std::vector<index_type> lengths{70, 1, 5000, 260}, queries{1, 1, 2, 60};
  std::vector<fovea::kv_cache<fovea::bf16, kv_heads>> caches;
  std::vector<const fovea::kv_cache<fovea::bf16, kv_heads>*> some;
  std::vector<index_type> offsets{0};
  caches.reserve(lengths.size());
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    const tokens<float> all(lengths[b], dim, dim, b);
    caches.emplace_back(lengths[b], dim);
    append(caches[b], all.k, all.v, 0, lengths[b]);
    some.push_back(&caches[b]);
    offsets.push_back(offsets.back() + queries[b]);
  }
  const Matrix q = normal(offsets.back(), heads * dim, 7);
  const fovea::cache_batch batch(some);
  const Matrix together = attend(fovea::ragged{q, offsets}, batch, fovea::causal);
  for (const index_type workers : {2, 3}) {
    fovea::threads pool(workers);
    const fovea::attention<float, heads, kv_heads> parallel{{.executor = pool}};
    EXPECT_EQ(parallel(fovea::ragged{q, offsets}, batch, fovea::causal), together);
  }
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    const Matrix one = q.middleRows(offsets[b], queries[b]);
    EXPECT_EQ(attend(one, caches[b], fovea::causal), together.middleRows(offsets[b], queries[b]));
  }
}

}  // namespace layouts_test
}  // namespace fovea_test
