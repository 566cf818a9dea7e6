// tests/distributed/decode_test.cpp - a cache over ranks is one cache.
#include "../support/refusal.hpp"
#include "support.hpp"

#include <fovea/kv_cache.hpp>

#include <cstring>

namespace fovea_test {
namespace {

using fovea::causal;
using fovea::tensor;

/// A cache of some tokens of k and v.
template <class E>
fovea::kv_cache<E, 2> cache_of(const tensor<float>& k, const tensor<float>& v, range tokens) {
  fovea::kv_cache<E, 2> cache{std::max<index_type>(tokens.size(), 1), k.dim()};
  const auto own_k = rows_of(k, {tokens}), own_v = rows_of(v, {tokens});
  if (tokens.size() > 0) cache.append(own_k, own_v);
  return cache;
}

template <class E, class... Mods>
void expect_decoded(index_type queries, bool uneven, const Mods&... mods) {
  const index_type tokens = 150;
  const auto q = random_tensor<float>(1, 1, 4, queries, 16), k = random_tensor<float>(2, 1, 2, tokens, 16),
             v = random_tensor<float>(3, 1, 2, tokens, 16);
  const range own = ranges_of(token_layout::contiguous, uneven, tokens)[0];
  const fovea::attention<float, 4, 2> attend;
  const fovea::spread_decode<float, 4, 2> spread(MPI_COMM_WORLD);
  const auto wanted = attend(q, cache_of<E>(k, v, {0, tokens}), mods...);
  const auto got = spread(q, cache_of<E>(k, v, own), mods...);
  expect_rows("o", got, wanted, {{0, queries}}, 2e-6);
  auto of_rank_0 = got;  // all ranks have the same bits
  MPI_Bcast(of_rank_0.data(), static_cast<int>(got.size()), MPI_FLOAT, 0, MPI_COMM_WORLD);
  EXPECT_EQ(std::memcmp(of_rank_0.data(), got.data(), static_cast<std::size_t>(got.size()) * sizeof(float)),
            0);
}

TEST(decode, is_that_of_one_cache) {
  const std::vector<float> slopes{0.1f, 0.2f, 0.05f, 0.4f}, logits{0.f, 1.f, -1.f, 2.f};
  for (const bool uneven : {false, true}) {
    expect_decoded<float>(1, uneven, causal);
    expect_decoded<fovea::bf16>(5, uneven, causal, fovea::alibi{slopes}, fovea::sink{logits});
    expect_decoded<float>(3, uneven,
                          causal & fovea::sliding_window{.left = 40});  // most ranks have nothing to show
  }
}

TEST(decode, refuses_on_all_ranks) {
  const bool last = rank_here() == ranks_here() - 1;
  const auto k = random_tensor<float>(2, 1, 2, 8, 16);
  const auto cache = cache_of<float>(k, k, {0, 8});
  const fovea::spread_decode<float, 4, 2> spread(MPI_COMM_WORLD);
  if (ranks_here() > 1) {
    const auto q = random_tensor<float>(last ? 1 : 2, 1, 4, 1, 16);
    expect_refused([&] { spread(q, cache); }, {"the number that q's elements are told by"});
  }
  const auto wide = random_tensor<float>(1, 1, 4, 1, last ? 24 : 16);
  expect_refused([&] { spread(wide, cache); },
                 "rank " + std::to_string(ranks_here() - 1) + ": q has 24 dimensions a head but k has 16");
  const auto many = random_tensor<float>(1, 1, 4, 8 * ranks_here() + 1, 16);
  expect_refused([&] { spread(many, cache, causal); }, {"rank 0", "in the cache"});
}

}  // namespace
}  // namespace fovea_test
