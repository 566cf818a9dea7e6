// tests/distributed/exchange_test.cpp - what travels, in which order, what it is summed to, and what all of
// it leaves as it was.
#include "../support/max_abs.hpp"
#include "../support/refusal.hpp"
#include "../support/resident.hpp"
#include "support.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

namespace fovea_test {
namespace {

using fovea::causal;

/// Every rank sends P - 1 blocks, each of its owner's keys: to the byte.
TEST(exchange, sends_what_the_formula_says) {
  const index_type heads = 4, kv_heads = 2, tokens = 97, dim = 16, value_dim = 8;
  const auto q = random_tensor<float>(1, 1, heads, tokens, dim),
             k = random_tensor<float>(2, 1, kv_heads, tokens, dim),
             v = random_tensor<float>(3, 1, kv_heads, tokens, value_dim);
  const int ranks = ranks_here(), rank = rank_here();
  for (const token_layout layout : {token_layout::contiguous, token_layout::balanced}) {
    const auto rows = ranges_of(layout, false, tokens);
    fovea::exchange_trace trace;
    const auto bytes_with = [&](const auto& ring) {
      ring(rows_of(q, rows), rows_of(k, rows), rows_of(v, rows), causal);
      return trace.bytes_sent();
    };
    index_type tokens_sent = 0;
    for (int t = 0; t + 1 < ranks; ++t) {
      const auto parts = fovea::tokens_of_rank(layout, tokens, (rank - t + ranks) % ranks, ranks);
      tokens_sent += parts[0].size() + parts[1].size();
    }
    const fovea::ring_attention<float, 4, 2> ring(MPI_COMM_WORLD, {.layout = layout, .trace = &trace});
    const fovea::ring_attention<float, 4, 2, fovea::bf16> narrow(MPI_COMM_WORLD,
                                                                 {.layout = layout, .trace = &trace});
    EXPECT_EQ(bytes_with(ring), tokens_sent * kv_heads * (dim + value_dim) * 4);
    ASSERT_EQ(trace.steps.size(), static_cast<std::size_t>(ranks));
    for (int t = 0; t < ranks; ++t) {
      const auto& step = trace.steps[static_cast<std::size_t>(t)];
      EXPECT_EQ(step.owner, (rank - t + ranks) % ranks);
      EXPECT_LE(step.posted,
                step.computed_from);  // messages are on their way before the block is computed with
      EXPECT_LE(step.computed_from, step.computed_to);
    }
    EXPECT_EQ(bytes_with(narrow), tokens_sent * kv_heads * (dim + value_dim) * 2);
  }
}

/// Slices of as many ranks as there may be: one after another, of equal size but for one token.
TEST(exchange, tokens_of_very_many_ranks) {
  for (const index_type ranks : {index_type(1) << 30, (index_type(1) << 31) - 1, index_type(1) << 31})
    for (const index_type tokens : {5 * ranks + ranks / 2, 3 * ranks - 1, ranks - 1})
      for (const token_layout layout : {token_layout::contiguous, token_layout::balanced}) {
        const bool balanced = layout == token_layout::balanced;
        const auto first = fovea::tokens_of_rank(layout, tokens, 0, ranks),
                   next = fovea::tokens_of_rank(layout, tokens, 1, ranks),
                   last = fovea::tokens_of_rank(layout, tokens, ranks - 1, ranks);
        EXPECT_EQ(first[0].first, 0);
        EXPECT_EQ(first[0].last, next[0].first);
        EXPECT_EQ(last[0].last, balanced ? last[1].first : tokens);
        EXPECT_EQ(balanced ? first[1].last : tokens, tokens);
        for (const auto& of_rank : {first, next, last})
          for (const fovea::range& part : of_rank) {
            EXPECT_GE(part.size(), part.last == 0 ? 0 : tokens / (balanced ? 2 * ranks : ranks));
            EXPECT_LE(part.size(), tokens / (balanced ? 2 * ranks : ranks) + 1);
          }
      }
  expect_refused([] { fovea::tokens_of_rank(token_layout::balanced, 8, 0, (index_type(1) << 31) + 1); },
                 "tokens_of_rank: 2147483649 ranks, more than 2147483648");
}

/// A call takes two blocks of keys and values, of what a rank holds, and what does not grow with the tokens:
/// with 8 ranks a quarter of all keys and values.
TEST(exchange, memory_is_that_of_two_blocks) {
  if (resident("VmHWM:") == 0) GTEST_SKIP() << "the system does not tell";
  constexpr index_type tokens = 131072, heads = 2, dim = 32, mib = 1 << 20;
  index_type own = 0;
  for (const range& r : ranges_of(token_layout::balanced, false, tokens)) own += r.size();
  fovea::tensor<float> q(1, heads, own, dim), k = q, v = q, o = q;
  for (fovea::tensor<float>* x : {&q, &k, &v, &o}) std::fill_n(x->data(), x->size(), 0.5f);
  const fovea::ring_attention<float, heads> ring(MPI_COMM_WORLD, {.layout = token_layout::balanced});
  measure_resident_again();
  const index_type before = resident("VmRSS:");
  ring.into(o, q, k, v, causal, fovea::sliding_window{.left = 200});
  const index_type block = heads * own * (dim + dim) * 4, grown = resident("VmHWM:") - before;
  EXPECT_LE(grown, (ranks_here() > 1 ? 2 : 1) * block + 16 * mib) << "of " << block << " a block";
  EXPECT_GE(grown, block / 2);  // what is counted is what is used
  EXPECT_EQ(o.data()[o.size() - 1], 0.5f);
}

/// The number of a tensor's bits, of all ranks in the order of the tokens.
std::uint64_t bits_of(const fovea::tensor<float>& own, const std::vector<range>& rows, index_type tokens) {
  fovea::tensor<float> all(own.batch(), own.heads(), tokens, own.dim()), sum = all;
  index_type row = 0;
  for (const range& r : rows)
    for (index_type t = r.first; t < r.last; ++t, ++row)
      for (index_type b = 0; b < own.batch(); ++b)
        for (index_type h = 0; h < own.heads(); ++h)
          for (index_type c = 0; c < own.dim(); ++c) all(b, h, t, c) = own(b, h, row, c);
  // Each token is one rank's; the others have zeros there.
  MPI_Allreduce(all.data(), sum.data(), static_cast<int>(all.size()), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  std::uint64_t bits = 14695981039346656037u;
  for (index_type i = 0; i < sum.size(); ++i) {
    std::uint32_t word = 0;
    std::memcpy(&word, sum.data() + i, sizeof word);
    bits = (bits ^ word) * 1099511628211u;
  }
  return bits;
}

/// The bits are those of a ring of one rank, in both layouts, however many there are.
TEST(exchange, reproducible_bits) {
  const index_type heads = 2, tokens = 96 * 8, dim = 16, block = 16;
  const auto q = random_tensor<float>(1, 2, heads, tokens, dim),
             k = random_tensor<float>(2, 2, heads, tokens, dim),
             v = random_tensor<float>(3, 2, heads, tokens, dim);
  const fovea::ring_attention<float, 2> alone(MPI_COMM_SELF, {.reproducible_block = block});
  const auto expect_bits = [&](const auto&... mods) {
    const auto whole = alone.with_lse(q, k, v, mods...);
    for (const token_layout layout : {token_layout::contiguous, token_layout::balanced}) {
      const auto rows = ranges_of(layout, false, tokens);
      const fovea::ring_attention<float, 2> ring(MPI_COMM_WORLD,
                                                 {.layout = layout, .reproducible_block = block});
      const auto own = ring.with_lse(rows_of(q, rows), rows_of(k, rows), rows_of(v, rows), mods...);
      expect_rows("o", own.out, whole.out, rows, 0);
      expect_rows("lse", own.lse, whole.lse, rows, 0);
      if (rank_here() == 0 && layout == token_layout::balanced) RecordProperty("ranks", ranks_here());
      EXPECT_EQ(bits_of(own.out, rows, tokens),
                bits_of(whole.out, {{0, rank_here() == 0 ? tokens : 0}}, tokens));
    }
  };
  expect_bits();
  expect_bits(causal, fovea::dropout{.rate = 0.1, .seed = 3});
}

/// Eigen matrices, in any storage order, and sequences of different length packed one after another.
TEST(exchange, matrices_and_ragged_batches) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const index_type rank = rank_here(), ranks = ranks_here();
  const std::vector<index_type> lengths{40, 7, 0, 61};
  const index_type columns = 2 * 8;
  std::vector<index_type> offsets{0}, whole_offsets{0};
  Matrix whole_q = Matrix::Zero(108, columns), whole_k = whole_q, whole_v = whole_q, own_rows = whole_q;
  random_source random(4);
  for (Matrix* m : {&whole_q, &whole_k, &whole_v})
    for (index_type i = 0; i < m->size(); ++i) m->data()[i] = static_cast<float>(random.uniform(-1, 1));
  std::vector<index_type> picked;  // the rows that this rank holds
  for (const index_type length : lengths) {
    const auto part = fovea::tokens_of_rank(token_layout::contiguous, length, rank, ranks)[0];
    for (index_type t = part.first; t < part.last; ++t) picked.push_back(whole_offsets.back() + t);
    offsets.push_back(static_cast<index_type>(picked.size()));
    whole_offsets.push_back(whole_offsets.back() + length);
  }
  const Matrix q = whole_q(picked, Eigen::all), k = whole_k(picked, Eigen::all);
  const Eigen::MatrixXf v = whole_v(picked, Eigen::all);
  const Matrix row_major_v = v;
  const fovea::attention<float, 2> attend;
  const fovea::ring_attention<float, 2> ring(MPI_COMM_WORLD);
  const Matrix packed = attend(fovea::ragged{whole_q, whole_offsets}, fovea::ragged{whole_k, whole_offsets},
                               fovea::ragged{whole_v, whole_offsets}, causal);
  const Matrix own =
      ring(fovea::ragged{q, offsets}, fovea::ragged{k, offsets}, fovea::ragged{row_major_v, offsets}, causal);
  if (own.rows() > 0) {
    EXPECT_LE(fovea_test::max_abs(own - packed(picked, Eigen::all)), 2e-6f);
  }

  const Matrix one = attend(whole_q, whole_k, whole_v);
  Matrix in_place = q;
  ring.into(in_place, in_place, k, v);  // o is q itself, v column-major
  const auto [first, last] = std::pair(offsets.front(), offsets.back());
  // The rows of the ranks stand one after another in another order than in `whole`: without a mask that is all one.
  if (last > first) {
    EXPECT_LE(fovea_test::max_abs(in_place - one(picked, Eigen::all)), 2e-6f);
  }
}

/// Threads of a rank do its work; results have the same bits.
TEST(exchange, threads) {
  const index_type tokens = 64;
  const auto x = random_tensor<float>(1, 1, 2, tokens, 16);
  const auto rows = ranges_of(token_layout::balanced, false, tokens);
  fovea::threads pool{2};
  const auto own = rows_of(x, rows);
  const fovea::ring_attention<float, 2> serial(MPI_COMM_WORLD, {.layout = token_layout::balanced}),
      parallel(MPI_COMM_WORLD, {.executor = pool, .layout = token_layout::balanced});
  const auto a = serial(own, own, own, causal), b = parallel(own, own, own, causal);
  EXPECT_EQ(std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)), 0);
}

/// A block may be larger than all sequences: memory is as large as these.
TEST(exchange, in_blocks_larger_than_the_sequence) {
  const auto x = random_tensor<float>(1, 1, 2, rank_here() == 0 ? 12 : 0, 8);
  const std::vector<float> slopes{0.5f, 0.25f};
  std::vector<float> d_slopes(2);
  const fovea::ring_attention<float, 2> ring(MPI_COMM_WORLD, {.reproducible_block = index_type(1) << 40});
  const fovea::alibi alibi{.slopes = slopes, .d_slopes = d_slopes};
  const auto result = ring.with_lse(x, x, x, alibi);
  const auto gradients = ring.backward(x, x, x, result.out, result.lse, x, alibi);
  const fovea::attention<float, 2> attend;
  const auto whole = attend.with_lse(x, x, x, fovea::alibi{slopes});
  const auto wanted = attend.backward(x, x, x, whole.out, whole.lse, x, fovea::alibi{slopes});
  expect_rows("d_k", gradients.d_k, wanted.d_k, {{0, x.tokens()}}, 2e-5);
  EXPECT_NE(d_slopes[0], 0.f);
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

}  // namespace
}  // namespace fovea_test
