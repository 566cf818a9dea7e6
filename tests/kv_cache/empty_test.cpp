// A step of decoding with nothing to do is no error: no sequences, no queries, no tokens, nothing appended.
#include "support.hpp"

#include <array>

namespace fovea_test {
namespace empty_test {

constexpr index_type dim = 8;
const float hidden = -std::numeric_limits<float>::infinity();

TEST(empty, caches) {
  using cache_type = fovea::kv_cache<float, kv_heads>;
  cache_type cache(4, dim);
  const Matrix none_k(0, kv_heads * dim), none_q(0, heads * dim), q = normal(2, heads * dim, 1);
  cache.append(none_k, none_k);
  EXPECT_EQ(cache.tokens(), 0);
  for (const index_type queries : {2, 50}) {
    const auto nothing = attend.with_lse(normal(queries, heads * dim, 1), cache);
    EXPECT_TRUE((nothing.out.array() == 0).all());
    EXPECT_TRUE((nothing.lse.array() == hidden).all());
  }
  EXPECT_EQ(attend(none_q, cache, fovea::causal).rows(), 0);
  EXPECT_EQ(attend.weights(q, cache, fovea::causal_bottom_right).dim(), 0);
  cache.append(normal(3, kv_heads * dim, 2), normal(3, kv_heads * dim, 3));
  cache.append(none_k, none_k);
  EXPECT_EQ(cache.tokens(), 3);
  EXPECT_EQ(attend(none_q, cache, fovea::causal).cols(), heads * dim);
}

TEST(empty, batches) {
  using cache_type = fovea::kv_cache<fovea::bf16, kv_heads>;
  const std::vector<const cache_type*> none;
  const fovea::cache_batch batch{none};
  const std::vector<index_type> offsets{0};
  const Matrix q(0, heads * dim);
  Matrix o(0, heads * dim);
  EXPECT_EQ(attend(fovea::ragged{q, offsets}, batch, fovea::causal).rows(), 0);
  attend.into(fovea::ragged{o, offsets}, fovea::ragged{q, offsets}, batch, fovea::causal);
  EXPECT_EQ(attend.plan_for(fovea::ragged{q, offsets}, batch, fovea::causal).jobs, 0);

  // The same cache may be read twice.
  cache_type cache(4, dim);
  cache.append(normal(4, kv_heads * dim, 2), normal(4, kv_heads * dim, 3));
  const std::vector<const cache_type*> twice{&cache, &cache};
  const std::vector<index_type> two{0, 1, 2};
  const Matrix one = normal(1, heads * dim, 1), both = one.replicate(2, 1);
  const Matrix got = attend(fovea::ragged{both, two}, fovea::cache_batch{twice}, fovea::causal);
  const Matrix want = attend(one, cache, fovea::causal);
  EXPECT_EQ(got.row(0), want.row(0));
  EXPECT_EQ(got.row(1), want.row(0));
}

}  // namespace empty_test
}  // namespace fovea_test
