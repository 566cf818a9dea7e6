// tests/distributed/gradient_test.cpp - gradients over ranks are those of one process.
#include "../support/refusal.hpp"
#include "support.hpp"

#include <algorithm>
#include <limits>

namespace fovea_test {
namespace {

using fovea::causal;
using fovea::ceil_div;
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

/// The gradients of a rank alone, whatever ranks there are: even slices of blocks, slices of uneven numbers
/// of blocks, a last block that is not full, sequences side by side.
template <class... Mods>
void expect_same_bits(index_type batch, index_type tokens, token_layout layout, bool uneven,
                      const Mods&... mods) {
  constexpr index_type block = 16, dim = 8;
  const std::vector<float> logits{0.4f, -1.f, 0.f, 2.f};
  std::vector<float> wanted_sink(4), got_sink(4);
  const auto q = random_tensor<float>(1, batch, 4, tokens, dim),
             k = random_tensor<float>(2, batch, 2, tokens, dim);
  const auto v = random_tensor<float>(3, batch, 2, tokens, dim),
             d_out = random_tensor<float>(4, batch, 4, tokens, dim);
  std::vector<range> rows = ranges_of(layout, false, tokens);
  if (uneven)  // of blocks, not of tokens
    for (range& r : rows = ranges_of(layout, true, ceil_div(tokens, block)))
      r = {r.first * block, std::min(r.last * block, tokens)};
  const auto gradients = [&](MPI_Comm comm, const std::vector<range>& own, std::vector<float>& d_sink) {
    const fovea::ring_attention<float, 4, 2> ring(comm, {.layout = layout, .reproducible_block = block});
    const auto own_q = rows_of(q, own), own_k = rows_of(k, own), own_v = rows_of(v, own);
    const auto result = ring.with_lse(own_q, own_k, own_v, fovea::sink{logits}, mods...);
    return ring.backward(own_q, own_k, own_v, result.out, result.lse, rows_of(d_out, own),
                         fovea::sink{logits, d_sink}, mods...);
  };
  const auto wanted = gradients(MPI_COMM_SELF, {{0, tokens}}, wanted_sink);
  const auto got = gradients(MPI_COMM_WORLD, rows, got_sink);
  expect_rows("d_q", got.d_q, wanted.d_q, rows, 0);
  expect_rows("d_k", got.d_k, wanted.d_k, rows, 0);
  expect_rows("d_v", got.d_v, wanted.d_v, rows, 0);
  EXPECT_EQ(got_sink, wanted_sink);

  const fovea::attention<float, 4, 2> attend;
  const auto whole = attend.with_lse(q, k, v, fovea::sink{logits}, mods...);
  const auto near = attend.backward(q, k, v, whole.out, whole.lse, d_out, fovea::sink{logits}, mods...);
  expect_rows("d_q of one process", got.d_q, near.d_q, rows, 2e-5);
  expect_rows("d_k of one process", got.d_k, near.d_k, rows, 2e-5);
  expect_rows("d_v of one process", got.d_v, near.d_v, rows, 2e-5);
}

TEST(ring_gradient, reproducible_bits) {
  const index_type even = 32 * ranks_here();
  for (const token_layout layout : {token_layout::contiguous, token_layout::balanced}) {
    expect_same_bits(1, 2 * even, layout, false, causal);
    expect_same_bits(2, even, layout, false, fovea::sliding_window{.left = 40, .right = 3});
  }
  expect_same_bits(1, 211, token_layout::contiguous, true, causal, fovea::dropout{.rate = 0.2, .seed = 5});
  expect_same_bits(2, 16 * 9, token_layout::contiguous, true);
}

/// Sums of numbers of all magnitudes, in any order and over ranks: to the last bit those of integers.
template <class T>
void expect_exact_sums() {
  using limits = std::numeric_limits<T>;
  random_source random(static_cast<std::uint64_t>(rank_here()) + 1);
  std::vector<T> numbers{limits::denorm_min(), limits::max(), -limits::max(), T(-0.0), limits::min(), T(3)};
  for (int i = 0; i < 1000; ++i) {
    const T x = static_cast<T>(random.uniform(-1, 1));
    numbers.push_back(std::ldexp(x, static_cast<int>(random.uniform(-140, 120))));
  }
  const auto sum_of = [&](const std::vector<T>& all, const std::vector<T>& negated) {
    fovea::distributed::exact_sums<T> sums(2);
    for (const T x : all) sums.add(1, x);
    for (const T x : negated) sums.add(1, -x);
    sums.add_ranks(fovea::distributed::communicator(MPI_COMM_WORLD));
    EXPECT_EQ(sums.value(0), 0.0);
    return sums.value(1);
  };
  std::vector<T> other = numbers;
  std::reverse(other.begin(), other.end());
  EXPECT_EQ(sum_of(numbers, {}), sum_of(other, {}));
  EXPECT_EQ(sum_of(numbers, other), 0.0);
  other.pop_back();  // the first number, which nothing then takes away
  EXPECT_EQ(sum_of(numbers, other), static_cast<double>(limits::denorm_min()) * ranks_here());
  EXPECT_EQ(sum_of({T(0.1), T(0.2), T(-0.7)}, {T(0.1), T(0.2)}), static_cast<double>(T(-0.7)) * ranks_here());
  const T infinite = limits::infinity();
  EXPECT_EQ(sum_of({infinite, T(1)}, {}), static_cast<double>(infinite));
  EXPECT_EQ(sum_of({}, {infinite, T(1)}), -static_cast<double>(infinite));
  EXPECT_TRUE(std::isnan(sum_of({infinite}, {infinite})));
  EXPECT_TRUE(std::isnan(sum_of({limits::quiet_NaN()}, {})));
}

TEST(exact_sums, of_any_order) {
  expect_exact_sums<float>();
  expect_exact_sums<double>();
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
  const fovea::ring_attention<float, 2> ring(MPI_COMM_WORLD);
  expect_refused([&] { ring.backward(x, x, x, x, lse, d_out); },
                 "rank " + std::to_string(ranks_here() - 1) + ": d_out has 7 tokens but q has 8");
  const std::vector<float> slopes{1.f, 1.f};
  std::vector<float> d_slopes(2);
  expect_refused(
      [&] { ring.backward(x, x, x, x, lse, x, fovea::alibi{.slopes = slopes, .d_slopes = d_slopes}); },
      {"rank 0: alibi's d_slopes is wanted"});
}

}  // namespace
}  // namespace fovea_test
