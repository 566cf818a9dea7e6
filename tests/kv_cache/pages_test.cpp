// Where keys come from memory, short pages are read for all of their heads at once: results have the bits of
// a call that reads head by head, as one sequence alone does.
#include "support.hpp"

#include <fovea/mask.hpp>
#include <fovea/score.hpp>

#include <limits>
#include <numeric>

namespace fovea_test {
namespace pages_test {

template <class E>
struct pages {
  fovea::page_pool<E> pool;
  fovea::paged_cache<E> cache{pool};

  /// `tokens` in pages that lie in no order; behind them, in the last page, what was taken back: NaN, where
  /// elements may be.
  pages(const fovea::pool_options& sizes, index_type tokens) : pool(sizes) {
    std::vector<fovea::paged_cache<E>> each;
    const auto row = [&](index_type rows, index_type dim, std::uint64_t seed) {
      return normal(rows, sizes.heads * dim, seed);
    };
    const index_type value_dim = sizes.value_dim > 0 ? sizes.value_dim : sizes.dim;
    for (index_type i = 0; i < sizes.pages; ++i) {
      each.emplace_back(pool);
      each.back().append(row(1, sizes.dim, 1), row(1, value_dim, 2));
    }
    for (index_type i = 0; i < sizes.pages; ++i) each[std::size_t(i * 7 % sizes.pages)].reset();
    cache.append(row(tokens, sizes.dim, 3), row(tokens, value_dim, 4));
    constexpr float behind = std::is_same_v<E, std::int8_t> ? 100.f : std::numeric_limits<float>::quiet_NaN();
    const Matrix k = Matrix::Constant(3, sizes.heads * sizes.dim, behind),
                 v = Matrix::Constant(3, sizes.heads * value_dim, behind);
    cache.append(k, v);
    cache.truncate(tokens);
  }
};

template <class Q, class Cache, class... Mods>
void expect_bits_of_one_alone(const Cache& cache, index_type group, const Mods&... mods) {
  const index_type heads = group * cache.heads(), row = heads * cache.dim(),
                   result = heads * cache.value_dim(),
                   bytes = cache.tokens() * cache.heads() * (cache.dim() + cache.value_dim());
  const index_type many = index_type(fovea::last_cache_bytes() / 2 / double(bytes)) + 2;
  std::vector<Q> q(std::size_t(many * row)), one(std::size_t(result), Q(1.f)),
      out(std::size_t(many * result), Q(1.f));
  const Matrix numbers = normal(1, row, 5);
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = Q(numbers.data()[i % std::size_t(row)]);
  const std::vector<const Cache*> all(std::size_t(many), &cache);
  const fovea::cache_batch batch{all};
  const auto queries = fovea::bhsd(q.data(), many, heads, 1, cache.dim());
  fovea::threads pool(2);
  const fovea::attention<Q> planned({.heads = heads, .kv_heads = cache.heads(), .executor = pool});
  const auto plan = planned.plan_for(queries, batch, mods...);
  std::vector<std::byte> memory(std::size_t(plan.workspace_bytes()) + 64, std::byte{0x5a});
  const fovea::attention<Q> attend({.heads = heads,
                                    .kv_heads = cache.heads(),
                                    .executor = pool,
                                    .workspace = std::span(memory).first(memory.size() - 64)});
  attend.into(fovea::bhsd(one.data(), 1, heads, 1, cache.value_dim()),
              fovea::bhsd(q.data(), 1, heads, 1, cache.dim()), cache, mods...);
  attend.into(fovea::bhsd(out.data(), many, heads, 1, cache.value_dim()), queries, batch, mods...);
  std::size_t other = 0;
  for (std::size_t i = 0; i < out.size(); ++i)
    other += std::memcmp(&out[i], &one[i % one.size()], sizeof(Q)) != 0;
  EXPECT_EQ(other, 0u) << "group " << group << ", " << cache.heads() << " heads of " << cache.dim() << ", "
                       << cache.tokens() << " tokens in pages of " << cache.page_tokens();
  for (const Q x : one) ASSERT_EQ(static_cast<float>(x), static_cast<float>(x));
  for (std::size_t i = memory.size() - 64; i < memory.size(); ++i) ASSERT_EQ(memory[i], std::byte{0x5a});
}

template <class E, class Q = float>
void expect_the_same_bits() {
  for (const index_type page_tokens : {16, 24, 64}) {
    const pages<E> long_ones({.pages = 100, .page_tokens = page_tokens, .heads = 2, .dim = 128}, 1011);
    for (const index_type group : {1, 2, 3, 4, 5, 8, 11})
      expect_bits_of_one_alone<Q>(long_ones.cache, group, fovea::causal);
  }
  const pages<E> split({.pages = 300, .page_tokens = 16, .heads = 3, .dim = 64, .value_dim = 48}, 4100);
  const pages<E> many({.pages = 20, .page_tokens = 16, .heads = 9, .dim = 20}, 130);
  for (const index_type group : {1, 4}) {
    expect_bits_of_one_alone<Q>(split.cache, group, fovea::causal);
    expect_bits_of_one_alone<Q>(many.cache, group, fovea::causal);
  }
}

TEST(pages, have_the_bits_of_one_sequence_alone_in_float) { expect_the_same_bits<float>(); }
TEST(pages, have_the_bits_of_one_sequence_alone_in_16_bits) {
  expect_the_same_bits<fovea::bf16, fovea::bf16>();
  expect_the_same_bits<fovea::fp16>();
}
TEST(pages, have_the_bits_of_one_sequence_alone_in_int8) { expect_the_same_bits<std::int8_t>(); }

TEST(pages, have_these_bits_with_scores_and_windows) {
  const pages<float> many({.pages = 20, .page_tokens = 16, .heads = 9, .dim = 20}, 130);
  for (const index_type group : {1, 4})
    expect_bits_of_one_alone<float>(many.cache, group, fovea::causal & fovea::sliding_window{.left = 40},
                                    fovea::softcap{2}),
        expect_bits_of_one_alone<float>(many.cache, group, fovea::causal, fovea::softcap{2});
}

TEST(pages, are_read_by_one_task_for_all_heads) {
  const pages<float> some({.pages = 100, .page_tokens = 16, .heads = 12, .dim = 64}, 1000);
  const index_type bytes = 1000 * 12 * 64 * 2 * 4,
                   many = index_type(fovea::last_cache_bytes() / 2 / double(bytes)) + 2;
  const std::vector<const fovea::paged_cache<float>*> all(std::size_t(many), &some.cache);
  const std::vector<float> q(std::size_t(many * 12 * 64));
  const auto plan = fovea::attention<float>({.heads = 12})
                        .plan_for(fovea::bhsd(q.data(), many, 12, 1, 64), fovea::cache_batch{all});
  EXPECT_EQ(plan.heads_a_task, 8);
}

}  // namespace pages_test
}  // namespace fovea_test
