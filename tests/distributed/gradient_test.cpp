// tests/distributed/gradient_test.cpp - gradients over ranks are those of one process.
#include "../support/refusal.hpp"
#include "../support/worse.hpp"
#include "support.hpp"

#include <algorithm>
#include <span>

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

/// The tokens of sequences, and those that this rank holds.
struct held_tokens {
  index_type tokens;
  std::vector<range> own;
};
constexpr index_type bits_block = 16;

/// The gradients of a rank alone, whatever ranks there are.
template <class... Mods>
void expect_same_bits(index_type batch, token_layout layout, const held_tokens& queries,
                      const held_tokens& keys, const Mods&... mods) {
  constexpr index_type block = bits_block, dim = 8;
  const std::vector<float> logits{0.4f, -1.f, 0.f, 2.f};
  std::vector<float> wanted_sink(4), got_sink(4);
  const auto q = random_tensor<float>(1, batch, 4, queries.tokens, dim),
             k = random_tensor<float>(2, batch, 2, keys.tokens, dim);
  const auto v = random_tensor<float>(3, batch, 2, keys.tokens, dim),
             d_out = random_tensor<float>(4, batch, 4, queries.tokens, dim);
  const std::vector<range>&rows = queries.own, &columns = keys.own;
  const auto gradients = [&](MPI_Comm comm, const std::vector<range>& own, const std::vector<range>& own_keys,
                             std::vector<float>& d_sink) {
    const fovea::ring_attention<float, 4, 2> ring(comm, {.layout = layout, .reproducible_block = block});
    const auto own_q = rows_of(q, own), own_k = rows_of(k, own_keys), own_v = rows_of(v, own_keys);
    const auto result = ring.with_lse(own_q, own_k, own_v, fovea::sink{logits}, mods...);
    return ring.backward(own_q, own_k, own_v, result.out, result.lse, rows_of(d_out, own),
                         fovea::sink{logits, d_sink}, mods...);
  };
  const auto wanted = gradients(MPI_COMM_SELF, {{0, queries.tokens}}, {{0, keys.tokens}}, wanted_sink);
  const auto got = gradients(MPI_COMM_WORLD, rows, columns, got_sink);
  expect_rows("d_q", got.d_q, wanted.d_q, rows, 0);
  expect_rows("d_k", got.d_k, wanted.d_k, columns, 0);
  expect_rows("d_v", got.d_v, wanted.d_v, columns, 0);
  EXPECT_EQ(got_sink, wanted_sink);

  const fovea::attention<float, 4, 2> attend;
  const auto whole = attend.with_lse(q, k, v, fovea::sink{logits}, mods...);
  const auto near = attend.backward(q, k, v, whole.out, whole.lse, d_out, fovea::sink{logits}, mods...);
  expect_rows("d_q of one process", got.d_q, near.d_q, rows, 2e-5);
  expect_rows("d_k of one process", got.d_k, near.d_k, columns, 2e-5);
  expect_rows("d_v of one process", got.d_v, near.d_v, columns, 2e-5);
}

/// Even slices of blocks, slices of uneven numbers of blocks, a last block that is not full, sequences side
/// by side.
template <class... Mods>
void expect_same_bits(index_type batch, index_type tokens, token_layout layout, bool uneven,
                      const Mods&... mods) {
  std::vector<range> rows = ranges_of(layout, false, tokens);
  if (uneven)  // of blocks, not of tokens
    for (range& r : rows = ranges_of(layout, true, ceil_div(tokens, bits_block)))
      r = {r.first * bits_block, std::min(r.last * bits_block, tokens)};
  expect_same_bits(batch, layout, {tokens, rows}, {tokens, rows}, mods...);
}

/// Slices of so many blocks; ranks beyond them hold none, those of ranks that are not there the last one.
held_tokens slices_of_blocks(const std::vector<index_type>& blocks) {
  index_type all = 0, first = 0, last = 0;
  for (std::size_t r = 0; r < blocks.size(); ++r) {
    const int owner = std::min(static_cast<int>(r), ranks_here() - 1);
    if (owner < rank_here()) first += blocks[r];
    if (owner <= rank_here()) last += blocks[r];
    all += blocks[r];
  }
  return {all * bits_block, {{first * bits_block, last * bits_block}}};
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

/// A rank that gets more subtrees of one slice than it has of its own.
TEST(ring_gradient, reproducible_bits_of_slices_that_do_not_fit_the_tree) {
  const auto self = slices_of_blocks({1, 16, 1});
  expect_same_bits(1, token_layout::contiguous, self, self);
  expect_same_bits(1, token_layout::contiguous, slices_of_blocks({1, 0, 7}), slices_of_blocks({0, 2, 0}));
}

/// Gradients of parameters: slopes, a bias that some sizes share, tables that are read through an index. Each
/// rank has all of them.
struct parameters {
  index_type batch, tokens, bias_batch, bias_heads, bias_queries, bias_keys;
  std::vector<float> slopes{0.1f, 0.2f, 0.05f, 0.4f}, d_slopes = std::vector<float>(4);
  fovea::tensor<float> bias{bias_batch, bias_heads, bias_queries, bias_keys},
      d_bias = bias, table{1, 1, 8, 4}, d_table = table;

  parameters(index_type b, index_type l, index_type bb, index_type bh, index_type bq, index_type bk)
      : batch(b), tokens(l), bias_batch(bb), bias_heads(bh), bias_queries(bq), bias_keys(bk) {
    bias = random_tensor<float>(7, bb, bh, bq, bk), table = random_tensor<float>(8, 1, 1, 8, 4);
  }
  template <class Call>
  auto with(const Call& call) {
    const auto view_of_table = [](fovea::tensor<float>& x) {
      return Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(x.data(), 8,
                                                                                               4);
    };
    const auto numbers = view_of_table(table);
    auto gradient = view_of_table(d_table);
    return call(causal, fovea::softcap{3.f}, fovea::alibi{.slopes = slopes, .d_slopes = d_slopes},
                fovea::bias(bias, d_bias), fovea::t5_bias(numbers, gradient, {.max_distance = 20}));
  }
  /// The largest difference, of what `count` cells a parameter were summed from.
  void expect_near(const parameters& other, double error) const {
    const auto near = [&](const char* name, const float* got, const float* wanted, index_type count) {
      double most = 0, largest = 0;
      for (index_type i = 0; i < count; ++i)
        most = fovea_test::worse(most, static_cast<double>(std::abs(got[i] - wanted[i]))),
        largest = std::max(largest, static_cast<double>(std::abs(wanted[i])));
      EXPECT_LE(most, error * largest) << name << " on rank " << rank_here();
      EXPECT_GT(largest, 0) << name;
    };
    near("slopes", d_slopes.data(), other.d_slopes.data(), 4);
    near("bias", d_bias.data(), other.d_bias.data(), d_bias.size());
    near("table", d_table.data(), other.d_table.data(), d_table.size());
  }
};

void expect_parameters(parameters mine, token_layout layout, index_type block) {
  constexpr index_type dim = 8;
  const index_type tokens = mine.tokens;
  const auto q = random_tensor<float>(1, mine.batch, 4, tokens, dim);
  const auto k = random_tensor<float>(2, mine.batch, 2, tokens, dim);
  const auto v = random_tensor<float>(3, mine.batch, 2, tokens, dim);
  const auto d_out = random_tensor<float>(4, mine.batch, 4, tokens, dim);
  parameters whole = mine, alone = mine;
  const auto rows = ranges_of(layout, false, tokens);
  const auto gradients = [&](MPI_Comm comm, const std::vector<range>& own, parameters& learnt) {
    const fovea::ring_attention<float, 4, 2> ring(comm, {.layout = layout, .reproducible_block = block});
    const auto own_q = rows_of(q, own), own_k = rows_of(k, own), own_v = rows_of(v, own);
    return learnt.with([&](const auto&... mods) {
      const auto result = ring.with_lse(own_q, own_k, own_v, mods...);
      return ring.backward(own_q, own_k, own_v, result.out, result.lse, rows_of(d_out, own), mods...);
    });
  };
  const auto got = gradients(MPI_COMM_WORLD, rows, mine);
  const fovea::attention<float, 4, 2> attend;
  const auto wanted = whole.with([&](const auto&... mods) {
    const auto result = attend.with_lse(q, k, v, mods...);
    return attend.backward(q, k, v, result.out, result.lse, d_out, mods...);
  });
  expect_rows("d_q", got.d_q, wanted.d_q, rows, 2e-5);
  expect_rows("d_k", got.d_k, wanted.d_k, rows, 2e-5);
  mine.expect_near(whole, 2e-5);
  if (block == 0) return;
  const auto same = gradients(MPI_COMM_SELF, {{0, tokens}}, alone);
  expect_rows("d_k, bits", got.d_k, same.d_k, rows, 0);
  mine.expect_near(alone, 0);
}

TEST(ring_gradient, of_scores_parameters) {
  const index_type tokens = 32 * ranks_here();
  for (const index_type block : {0, 16}) {
    expect_parameters({1, tokens, 1, 4, tokens, tokens}, token_layout::balanced, block);
    expect_parameters({3, tokens, 1, 1, tokens, tokens}, token_layout::contiguous, block);
    expect_parameters({2, tokens, 1, 1, 1, tokens}, token_layout::contiguous, block);
    expect_parameters({2, tokens, 2, 4, 1, tokens}, token_layout::balanced, block);
  }
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
  fovea::tensor<float> d_bias(1, 1, 8 * ranks_here(), last ? 3 : 1), bias(1, 1, 8 * ranks_here(), 1);
  expect_refused(
      [&] { ring.backward(x, x, x, x, lse, x, fovea::bias(bias, d_bias)); },
      "rank " + std::to_string(ranks_here() - 1) + ": bias: the gradient has 3 columns (keys), the bias 1");
  const std::vector<float> slopes{1.f, 1.f};
  std::vector<float> d_slopes(2);
  if (ranks_here() > 1) {  // what only one rank wants, none sums
    const std::span<float> wanted(d_slopes.data(), rank_here() == 0 ? 2 : 0);
    const std::string not_wanted = " is not wanted on rank 1 but wanted on rank 0";
    expect_refused(
        [&] { ring.backward(x, x, x, x, lse, x, fovea::alibi{.slopes = slopes, .d_slopes = wanted}); },
        "alibi's d_slopes" + not_wanted);
    expect_refused(
        [&] {
          ring.backward(x, x, x, x, lse, x, fovea::sink{slopes, wanted});
        },
        "sink's d_logits" + not_wanted);
    EXPECT_EQ(d_slopes, std::vector<float>(2));
  }
  const fovea::spread_attention<float, 2> spread(MPI_COMM_WORLD, {.head_ranks = 2});
  fovea::tensor<float> d_q(1, 2, 8, 8), d_k(1, 2, 8, 8), d_v(1, 2, 8, 8);
  if (ranks_here() % 2 == 0)
    expect_refused(
        [&] {
          spread.backward_into(d_q, d_k, d_v, x, x, x, x, lse, x,
                               fovea::alibi{.slopes = slopes, .d_slopes = d_slopes});
        },
        {"alibi's d_slopes is wanted, but this rank has 1 of 2 heads"});
}

}  // namespace
}  // namespace fovea_test
