// tests/distributed/gradient_test.cpp - gradients over ranks are those of one process.
#include "../support/refusal.hpp"
#include "support.hpp"

namespace fovea_test {
namespace {

using fovea::causal;
using fovea::tensor;

/// Gradients of whole sequences by one process, of slices by a ring.
template <class T, class... Mods>
void expect_gradients(index_type batch, index_type heads, index_type kv_heads, index_type queries,
                      index_type keys, token_layout layout, const Mods&... mods) {
  const index_type dim = 16, value_dim = 8;
  const auto make = [&]<class E>(E, std::uint64_t seed, index_type h, index_type tokens, index_type columns) {
    return random_tensor<E>(seed, batch, h, tokens, columns);
  };
  const auto rows = ranges_of(layout, false, queries), columns = ranges_of(layout, false, keys);
  const auto q = make(T(), 1, heads, queries, dim), k = make(T(), 2, kv_heads, keys, dim);
  const auto v = make(T(), 3, kv_heads, keys, value_dim), d_out = make(T(), 4, heads, queries, value_dim);
  const auto d_lse = make(T(), 5, heads, queries, 1);
  const fovea::attention<T> attend{{.heads = heads, .kv_heads = kv_heads}};
  const fovea::ring_attention<T> ring(MPI_COMM_WORLD,
                                      {.heads = heads, .kv_heads = kv_heads, .layout = layout});
  const auto whole = attend.with_lse(q, k, v, mods...);
  const auto wanted =
      attend.backward(q, k, v, whole.out, whole.lse, d_out, fovea::lse_gradient(d_lse), mods...);
  const auto own_q = rows_of(q, rows), own_k = rows_of(k, columns), own_v = rows_of(v, columns),
             own_d_out = rows_of(d_out, rows), own_d_lse = rows_of(d_lse, rows);
  const auto own = ring.with_lse(own_q, own_k, own_v, mods...);
  const auto got = ring.backward(own_q, own_k, own_v, own.out, own.lse, own_d_out,
                                 fovea::lse_gradient(own_d_lse), mods...);
  const double error = sizeof(T) == 8 ? 1e-12 : 2e-5;
  expect_rows("d_q", got.d_q, wanted.d_q, rows, error);
  expect_rows("d_k", got.d_k, wanted.d_k, columns, error);
  expect_rows("d_v", got.d_v, wanted.d_v, columns, error);
}

TEST(ring_gradient, is_attentions) {
  for (const token_layout layout : {token_layout::contiguous, token_layout::balanced}) {
    expect_gradients<float>(2, 4, 2, 96, 96, layout);
    expect_gradients<float>(2, 4, 2, 96, 96, layout, causal);
    expect_gradients<float>(1, 2, 1, 40, 77, layout);
  }
  expect_gradients<double>(1, 2, 2, 64, 64, token_layout::balanced, causal);
}

TEST(ring_gradient, of_masks_scores_and_dropout) {
  const std::vector<float> slopes{0.1f, 0.2f};
  for (const token_layout layout : {token_layout::contiguous, token_layout::balanced})
    expect_gradients<float>(1, 2, 1, 90, 90, layout, causal & fovea::sliding_window{.left = 20},
                            fovea::softcap{2.f}, fovea::alibi{slopes},
                            fovea::dropout{.rate = 0.2, .seed = 5});
}

TEST(ring_gradient, of_a_sink) {
  const std::vector<float> logits{0.4f, -1.f};
  std::vector<float> wanted(2), got(2);
  const auto x = random_tensor<float>(1, 1, 2, 60, 16), d_out = random_tensor<float>(2, 1, 2, 60, 16);
  const auto rows = ranges_of(token_layout::contiguous, false, 60);
  const fovea::attention<float, 2> attend;
  const fovea::ring_attention<float, 2> ring(MPI_COMM_WORLD);
  const auto whole = attend.with_lse(x, x, x, causal, fovea::sink{logits});
  const auto gradients =
      attend.backward(x, x, x, whole.out, whole.lse, d_out, causal, fovea::sink{logits, wanted});
  const auto own = rows_of(x, rows), own_d_out = rows_of(d_out, rows);
  const auto result = ring.with_lse(own, own, own, causal, fovea::sink{logits});
  const auto of_ring =
      ring.backward(own, own, own, result.out, result.lse, own_d_out, causal, fovea::sink{logits, got});
  expect_rows("d_k", of_ring.d_k, gradients.d_k, rows, 2e-5);
  for (std::size_t h = 0; h < 2; ++h) EXPECT_NEAR(got[h], wanted[h], 1e-4 * (1 + std::abs(wanted[h])));
}

/// P - 1 blocks of keys and values, and P of their gradients.
TEST(ring_gradient, sends_what_the_formula_says) {
  const int ranks = ranks_here();
  const auto x = random_tensor<fovea::bf16>(1, 1, 2, 6, 8);
  fovea::exchange_trace trace;
  const fovea::ring_attention<fovea::bf16, 2> ring(MPI_COMM_WORLD, {.trace = &trace});
  const auto result = ring.with_lse(x, x, x);
  ring.backward(x, x, x, result.out, result.lse, x);
  const index_type elements = 6 * 2 * (8 + 8);
  EXPECT_EQ(trace.bytes_sent(), (ranks - 1) * elements * 2 + (ranks > 1 ? ranks : 0) * elements * 4);
}

TEST(ring_gradient, refuses_on_all_ranks) {
  const bool last = rank_here() == ranks_here() - 1;
  const auto x = random_tensor<float>(1, 1, 2, 8, 8), lse = random_tensor<float>(1, 1, 2, 8, 1);
  const auto d_out = random_tensor<float>(2, 1, 2, last ? 7 : 8, 8);
  const fovea::ring_attention<float, 2> ring(MPI_COMM_WORLD),
      fixed(MPI_COMM_WORLD, {.reproducible_block = 8});
  expect_refused([&] { ring.backward(x, x, x, x, lse, d_out); },
                 "rank " + std::to_string(ranks_here() - 1) + ": d_out has 7 tokens but q has 8");
  expect_refused([&] { fixed.backward(x, x, x, x, lse, x); },
                 "rank 0: backward over ranks has no option reproducible_block, which is 8");
  const std::vector<float> slopes{1.f, 1.f};
  std::vector<float> d_slopes(2);
  expect_refused(
      [&] { ring.backward(x, x, x, x, lse, x, fovea::alibi{.slopes = slopes, .d_slopes = d_slopes}); },
      {"rank 0: alibi's d_slopes is wanted"});
}

}  // namespace
}  // namespace fovea_test
