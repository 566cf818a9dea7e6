// Few queries against many keys: split by keys, merged; the same bits for any number of workers.
#include "support.hpp"

#include <limits>

namespace fovea_test {
namespace key_splits_test {

using fovea::range;
constexpr index_type count = 6500, dim = 16;
const tokens<float> all(count, dim, dim, 1);

TEST(spans, are_exact_with_everything_that_a_call_can_have) {
  const std::vector<float> slopes(heads, 0.01f), logits(heads, 4.f);
  for (const index_type queries : {1, 3}) {
    const Matrix q = normal(queries, heads * dim, 2) * 3;
    ASSERT_GT(attend.plan_for(q, all.k, all.v).key_splits, 1);
    expect_exact(attend(q, all.k, all.v), q, all.k, all.v);
    expect_exact(attend(q, all.k, all.v, fovea::alibi{slopes, count - queries}, fovea::sink{logits}), q,
                 all.k, all.v, fovea::alibi{slopes, count - queries}, fovea::sink{logits});
    const auto some =
        fovea::causal_bottom_right & fovea::mask([](auto i, auto j) { return (j & 3) != (i & 1); });
    expect_exact(attend(q, all.k, all.v, some), q, all.k, all.v, some);
    const fovea::sliding_window window{.left = 100, .right = 0, .offset = 3000};
    expect_exact(attend(q, all.k, all.v, window), q, all.k, all.v, window);
  }
}

TEST(spans, hide_what_is_masked_and_keep_what_is_not) {
  const Matrix q = normal(1, heads * dim, 2);
  Matrix k = all.k, v = all.v;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  k.middleRows(100, 2500).setConstant(nan), v.middleRows(100, 2500).setConstant(nan);
  const auto seen = fovea::mask([](auto, auto j) { return (j < 100) | (j > 2599); });
  const Matrix got = attend(q, k, v, seen);
  expect_exact(got, q, all.k, all.v, seen);
  k(count - 1, 0) = nan;  // of the last split, visible to the heads of the first key/value head
  const Matrix lost = attend(q, k, v, seen);
  EXPECT_TRUE(lost.leftCols(3 * dim).array().isNaN().all());
  EXPECT_EQ(lost.rightCols(3 * dim), got.rightCols(3 * dim));
  const std::vector<index_type> none{0};
  const auto empty = attend.with_lse(q, all.k, all.v, fovea::key_lengths{none});
  EXPECT_TRUE((empty.out.array() == 0).all());
  EXPECT_TRUE((empty.lse.array() == -std::numeric_limits<float>::infinity()).all());
}

TEST(spans, give_the_same_bits_to_any_number_of_workers_in_given_memory) {
  const Matrix q = normal(2, heads * dim, 2);
  const auto alone = attend.with_lse(q, all.k, all.v);
  for (const index_type workers : {1, 2, 5}) {
    fovea::threads pool(workers);
    const fovea::attention<float, heads, kv_heads> planned{{.executor = pool}};
    std::vector<std::byte> memory(
        static_cast<std::size_t>(planned.plan_for(q, all.k, all.v).workspace_bytes()) + 64, std::byte{0x5a});
    const fovea::attention<float, heads, kv_heads> given{
        {.executor = pool, .workspace = std::span(memory).first(memory.size() - 64)}};
    const auto got = given.with_lse(q, all.k, all.v);
    EXPECT_EQ(got.out, alone.out);
    EXPECT_EQ(got.lse, alone.lse);
    for (std::size_t i = memory.size() - 64; i < memory.size(); ++i) ASSERT_EQ(memory[i], std::byte{0x5a});
  }
}

// Lines are asked for, and sums kept, otherwise where the keys of a call lie beyond the caches: as those of
// many sequences do, here of one cache many times. A group of 4 reads its block in parts.
template <class Cache>
void expect_the_same_among_many(const Cache& cache) {
  const index_type width = cache.dim(), tokens_of_one = cache.tokens() * width * kv_heads;
  const auto many = static_cast<index_type>(fovea::last_cache_bytes() / 4 / double(2 * tokens_of_one)) + 2;
  const std::vector<const Cache*> all_of_them(static_cast<std::size_t>(many), &cache);
  for (const index_type group : {1, 2, 3, 4, 5, 8}) {
    const fovea::attention<float> grouped({.heads = group * kv_heads, .kv_heads = kv_heads});
    const Matrix q = normal(group * kv_heads, width, 5).replicate(many, 1);
    Matrix one = Matrix::Zero(group * kv_heads, width), out = q;
    grouped.into(fovea::bhsd(one.data(), 1, group * kv_heads, 1, width),
                 fovea::bhsd(q.data(), 1, group * kv_heads, 1, width), cache, fovea::causal);
    grouped.into(fovea::bhsd(out.data(), many, group * kv_heads, 1, width),
                 fovea::bhsd(q.data(), many, group * kv_heads, 1, width), fovea::cache_batch{all_of_them},
                 fovea::causal);
    EXPECT_EQ(out, one.replicate(many, 1)) << "heads a key/value head: " << group;
  }
}

TEST(spans, give_the_same_bits_where_keys_lie_beyond_the_caches) {
  constexpr index_type keys = 1011, width = 128;  // blocks of 128, the last of parts of 16 and of 3
  const Matrix k = normal(keys, kv_heads * width, 6), v = normal(keys, kv_heads * width, 7);
  const auto in_one_piece = [&]<class E>(std::type_identity<E>) {
    fovea::kv_cache<E> cache(keys, width, {.heads = kv_heads});
    cache.append(k, v);
    expect_the_same_among_many(cache);
  };
  in_one_piece(std::type_identity<float>()), in_one_piece(std::type_identity<fovea::bf16>());
  in_one_piece(std::type_identity<std::int8_t>());
  for (const index_type page_tokens : {16, 24}) {
    fovea::page_pool<float> pool({.pages = 100, .page_tokens = page_tokens, .heads = kv_heads, .dim = width});
    fovea::paged_cache<float> cache(pool);
    cache.append(k, v);
    expect_the_same_among_many(cache);
  }
}

}  // namespace key_splits_test
}  // namespace fovea_test
