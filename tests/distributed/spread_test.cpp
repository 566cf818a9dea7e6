// tests/distributed/spread_test.cpp - heads spread over ranks, tokens, or both: what one process gives.
#include "../support/refusal.hpp"
#include "support.hpp"

#include <fovea/reference.hpp>

namespace fovea_test {
namespace {

using fovea::causal;
using fovea::tensor;

/// f(head_ranks) for all ways to spread so many heads over the ranks, and for the plan's own (0).
template <class F>
void each_way(index_type heads, index_type kv_heads, const F& f) {
  f(0);
  for (int group = 1; group <= ranks_here(); ++group)
    if (ranks_here() % group == 0 && fovea::distributed::head_shares{heads, kv_heads, group}.fit()) f(group);
}

template <class T, class... Mods>
void expect_same(index_type kv_heads, index_type queries, index_type keys, token_layout layout,
                 const Mods&... mods) {
  const index_type heads = 8;
  const auto q = random_tensor<T>(1, 2, heads, queries, 16), k = random_tensor<T>(2, 2, kv_heads, keys, 16),
             v = random_tensor<T>(3, 2, kv_heads, keys, 8);
  const auto rows = ranges_of(layout, false, queries), columns = ranges_of(layout, false, keys);
  const auto reference = fovea::reference(q, k, v, {.heads = heads, .kv_heads = kv_heads}, mods...);
  each_way(heads, kv_heads, [&](int head_ranks) {
    const fovea::spread_attention<T> attend(
        MPI_COMM_WORLD,
        {.ring = {.heads = heads, .kv_heads = kv_heads, .layout = layout}, .head_ranks = head_ranks});
    const auto own = attend.with_lse(rows_of(q, rows), rows_of(k, columns), rows_of(v, columns), mods...);
    SCOPED_TRACE(head_ranks);
    expect_rows("o", own.out, reference.out, rows, sizeof(T) == 4 ? 3e-6 : 1e-2);
    expect_rows("lse", own.lse, reference.lse, rows, sizeof(T) == 4 ? 3e-6 : 1e-2);
  });
}

TEST(spread, is_attention) {
  const std::vector<float> slopes{0.1f, 0.2f, 0.05f, 0.4f, 0.3f, 0.15f, 0.01f, 0.02f},
      logits{0.f, 1.f, -1.f, 2.f, 0.3f, 0.1f, 0.2f, -2.f};
  for (const index_type kv_heads : {8, 2, 1}) {
    expect_same<float>(kv_heads, 64, 64, token_layout::balanced, causal, fovea::alibi{slopes},
                       fovea::sink{logits}, fovea::dropout{.rate = 0.2, .seed = 5});
    expect_same<float>(kv_heads, 41, 77, token_layout::contiguous);
  }
  expect_same<fovea::bf16>(2, 64, 64, token_layout::balanced, causal);
}

TEST(spread, gradients) {
  const index_type heads = 8, tokens = 70;
  for (const index_type kv_heads : {8, 2}) {
    const auto q = random_tensor<float>(1, 1, heads, tokens, 16),
               k = random_tensor<float>(2, 1, kv_heads, tokens, 16),
               v = random_tensor<float>(3, 1, kv_heads, tokens, 8),
               d_out = random_tensor<float>(4, 1, heads, tokens, 8);
    const fovea::attention<float> one({.heads = heads, .kv_heads = kv_heads});
    const auto whole = one.with_lse(q, k, v, causal);
    const auto wanted = one.backward(q, k, v, whole.out, whole.lse, d_out, causal);
    const auto rows = ranges_of(token_layout::balanced, false, tokens);
    const auto own_q = rows_of(q, rows), own_k = rows_of(k, rows), own_v = rows_of(v, rows),
               own_d = rows_of(d_out, rows);
    each_way(heads, kv_heads, [&](int head_ranks) {
      const fovea::spread_attention<float> attend(
          MPI_COMM_WORLD, {.ring = {.heads = heads, .kv_heads = kv_heads, .layout = token_layout::balanced},
                           .head_ranks = head_ranks});
      const auto own = attend.with_lse(own_q, own_k, own_v, causal);
      tensor<float> d_q = own_q, d_k = own_k, d_v = own_v;
      attend.backward_into(d_q, d_k, d_v, own_q, own_k, own_v, own.out, own.lse, own_d, causal);
      SCOPED_TRACE(head_ranks);
      expect_rows("d_q", d_q, wanted.d_q, rows, 2e-5);
      expect_rows("d_k", d_k, wanted.d_k, rows, 2e-5);
      expect_rows("d_v", d_v, wanted.d_v, rows, 2e-5);
    });
  }
}

/// The bits do not tell by how many ranks heads are shared, either.
TEST(spread, reproducible_bits) {
  const index_type tokens = 96 * 8;
  const auto x = random_tensor<float>(1, 1, 8, tokens, 16);
  const fovea::ring_attention<float, 8> alone(MPI_COMM_SELF, {.reproducible_block = 16});
  const auto whole = alone.with_lse(x, x, x, causal);
  const auto rows = ranges_of(token_layout::balanced, false, tokens);
  const auto own_x = rows_of(x, rows);
  each_way(8, 8, [&](int head_ranks) {
    const fovea::spread_attention<float, 8> attend(
        MPI_COMM_WORLD,
        {.ring = {.layout = token_layout::balanced, .reproducible_block = 16}, .head_ranks = head_ranks});
    const auto own = attend.with_lse(own_x, own_x, own_x, causal);
    expect_rows("o", own.out, whole.out, rows, 0);
    expect_rows("lse", own.lse, whole.lse, rows, 0);
  });
}

TEST(spread, refuses_on_all_ranks) {
  const auto x = random_tensor<float>(1, 1, 2, 8, 8);
  const int ranks = ranks_here();
  const fovea::spread_attention<float, 2> too_many(MPI_COMM_WORLD, {.head_ranks = 5 * ranks});
  expect_refused([&] { too_many(x, x, x); }, "head_ranks is " + std::to_string(5 * ranks) + ", of which " +
                                                 std::to_string(ranks) + " ranks are no multiple");
  if (ranks > 2) {
    const fovea::spread_attention<float, 2> no_share(MPI_COMM_WORLD, {.head_ranks = ranks});
    expect_refused([&] { no_share(x, x, x); },
                   "head_ranks is " + std::to_string(ranks) +
                       ", among which 2 query heads and 2 key/value heads can not be shared evenly");
  }
  const fovea::spread_attention<float, 2> attend(MPI_COMM_WORLD);
  const auto longer = random_tensor<float>(1, 1, 2, 9, 8);
  expect_refused([&] { attend(x, longer, longer, causal); },
                 {"rank 0", "causal needs as many queries as keys"});
}

/// Counted by hand: 8 heads of 64 + 64 columns, 1,024 tokens over 4 ranks.
TEST(spread_plan, counts_bytes) {
  fovea::spread_sizes s{.heads = 8, .kv_heads = 8, .queries = 1024, .keys = 1024, .dim = 64, .value_dim = 64};
  EXPECT_EQ(fovea::plan_of_heads(4, 1, s).bytes(), 3 * 256 * 8 * 128 * 4);
  // Three others get 2 heads of 256 tokens, of q and o, and of k and v.
  EXPECT_EQ(fovea::plan_of_heads(4, 4, s).bytes(), 3 * 256 * 2 * (128 + 128) * 4);
  // One other gets 4 heads of 256 tokens; then 512 tokens of 4 heads go round.
  EXPECT_EQ(fovea::plan_of_heads(4, 2, s).exchange_bytes, 256 * 4 * 256 * 4);
  EXPECT_EQ(fovea::plan_of_heads(4, 2, s).ring_bytes, 512 * 4 * 128 * 4);
  EXPECT_EQ(fovea::plan_spread(4, s).head_ranks, 4);
  s.kv_heads = 1;  // keys are few: a ring moves less than q and o
  EXPECT_EQ(fovea::plan_spread(4, s).head_ranks, 1);
  s.kv_heads = 8, s.heads = 8;
  EXPECT_EQ(fovea::plan_spread(64, s).head_ranks, 8);  // no more than there are heads
  EXPECT_EQ(fovea::plan_spread(64, s).ring_ranks, 8);
  EXPECT_EQ(fovea::plan_of_heads(4, 2, s).text(),
            "2 ranks share heads x 2 in a ring: 1048576 bytes for heads, 1048576 round the ring");
}

TEST(spread_plan, refuses_what_there_is_no_plan_for) {
  const fovea::spread_sizes s{
      .heads = 8, .kv_heads = 8, .queries = 1024, .keys = 1024, .dim = 64, .value_dim = 64};
  for (const int ranks : {0, -4}) EXPECT_THROW(fovea::plan_spread(ranks, s), std::invalid_argument);
  for (fovea::index_type fovea::spread_sizes::*size :
       {&fovea::spread_sizes::heads, &fovea::spread_sizes::kv_heads, &fovea::spread_sizes::queries,
        &fovea::spread_sizes::keys, &fovea::spread_sizes::dim, &fovea::spread_sizes::value_dim}) {
    auto bad = s;
    bad.*size = -1;
    EXPECT_THROW(fovea::plan_spread(4, bad), std::invalid_argument);
    bad.*size = (fovea::index_type(1) << 62) + 16;
    EXPECT_ANY_THROW(fovea::plan_spread(4, bad));
  }
  auto none = s;
  none.heads = 0;
  EXPECT_THROW(fovea::plan_of_heads(4, 1, none), std::invalid_argument);
  none.heads = 2, none.kv_heads = 4;
  EXPECT_THROW(fovea::plan_of_heads(4, 1, none), std::invalid_argument);
}

}  // namespace
}  // namespace fovea_test
