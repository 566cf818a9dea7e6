// Small tables that are added to the logits: which number stands where, and what is refused.
#include "../support/max_abs.hpp"
#include "../support/refusal.hpp"

#include <fovea/attention.hpp>
#include <fovea/kv_cache.hpp>
#include <fovea/reference.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace {

using fovea::index_type;
using fovea_test::expect_refused;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Of the published function (transformers, modeling_t5.py, in float32).
TEST(tables, t5_buckets_are_the_published_ones) {
  const std::vector<index_type> differences = {-200, -128, -127, -91, -64, -63, -50, -32, -20, -16, -12,
                                               -11,  -8,   -7,   -1,  0,   1,   7,   8,   11,  12,  16,
                                               23,   32,   46,   64,  90,  91,  127, 128, 500};
  const auto expect = [&](index_type buckets, const fovea::t5_options& options,
                          const std::vector<index_type>& wanted) {
    const fovea::t5_buckets of(buckets, options);
    for (std::size_t i = 0; i < wanted.size(); ++i)
      EXPECT_EQ(of[differences[i]], wanted[i]) << buckets << " buckets, difference " << differences[i];
  };
  expect(32, {}, {15, 15, 15, 15, 14, 13, 13, 12, 10, 10, 9,  8,  8,  7,  1, 0,
                  17, 23, 24, 24, 25, 26, 27, 28, 29, 30, 30, 31, 31, 31, 31});
  expect(32, {.bidirectional = false}, {31, 31, 31, 29, 26, 26, 24, 21, 17, 16, 12, 11, 8, 7, 1, 0,
                                        0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0, 0, 0});
  expect(16, {.bidirectional = false, .max_distance = 64},
         {15, 15, 15, 15, 15, 15, 15, 13, 11, 10, 9, 9, 8, 7, 1, 0});
  expect(20, {.max_distance = 100}, {9,  9,  9,  9,  9,  9,  8,  8,  7,  6,  6,  6,  5,  5,  1, 0,
                                     11, 15, 15, 16, 16, 16, 17, 18, 18, 19, 19, 19, 19, 19, 19});
}

/// What a score adds to each logit of a call with q = 0.
template <class T, class... Mods>
fovea::tensor<T> added(index_type heads, index_type queries, index_type keys, const Mods&... mods) {
  using rows = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const rows q = rows::Zero(queries, heads), k = rows::Ones(keys, heads);
  return fovea::attention<T>({.heads = heads}).scores(q, k, mods...);
}

// Each number tells its row and column; both forms of the walk: few queries, and many.
Matrix numbered(index_type slots, index_type heads) {
  Matrix m(slots, heads);
  for (index_type s = 0; s < slots; ++s)
    for (index_type h = 0; h < heads; ++h) m(s, h) = static_cast<float>(1 + s + 1000 * h);
  return m;
}

template <class Score, class Slot>
void expect_slots(index_type queries, index_type keys, index_type slots, const Score& score,
                  const Slot& slot) {
  const auto at = [&](index_type h, index_type i, index_type j) {
    const index_type s = slot(i, j);
    return s < 0 || s >= slots ? 0 : 1 + s + 1000 * h;
  };
  for (const bool shared : {false, true}) {
    const Matrix table = numbered(slots, shared ? 1 : 2);
    const Eigen::MatrixXd precise = table.cast<double>();
    const auto singles = added<float>(2, queries, keys, score(table)),
               mixed = added<double>(2, queries, keys, score(table));
    const auto doubles = added<double>(2, queries, keys, score(precise));
    for (index_type h = 0; h < 2; ++h)
      for (index_type i = 0; i < queries; ++i)
        for (index_type j = 0; j < keys; ++j) {
          const auto wanted = at(shared ? 0 : h, i, j);
          ASSERT_EQ(singles(0, h, i, j), static_cast<float>(wanted)) << h << ": " << i << ", " << j;
          ASSERT_EQ(mixed(0, h, i, j), static_cast<double>(wanted)) << h << ": " << i << ", " << j;
          ASSERT_EQ(doubles(0, h, i, j), static_cast<double>(wanted)) << h << ": " << i << ", " << j;
        }
  }
}

const std::vector<std::pair<index_type, index_type>> both_walks = {{1, 1}, {2, 70}, {61, 45}, {40, 170}};

TEST(tables, t5_bias_adds_the_number_of_a_bucket) {
  for (const auto& [queries, keys] : both_walks)
    for (const index_type offset : {0, 5, -200, 100'000}) {
      const fovea::t5_options options{.max_distance = 30, .offset = offset};
      const fovea::t5_buckets buckets(12, options);
      expect_slots(
          queries, keys, 12, [&](const auto& table) { return fovea::t5_bias(table, options); },
          [&](index_type q, index_type k) { return buckets[k - q - offset]; });
    }
}

TEST(tables, swin_bias_adds_the_number_of_an_offset) {
  for (const auto& [height, width] : {std::pair(7, 7), {8, 8}, {3, 12}, {5, 2}, {1, 9}, {9, 1}, {2, 33}})
    expect_slots(
        height * width, height * width, (2 * height - 1) * (2 * width - 1),
        [&, h = height, w = width](const auto& table) {
          return fovea::swin_bias(table, {.height = h, .width = w});
        },
        [h = height, w = width](index_type q, index_type k) {
          return (q / w - k / w + h - 1) * (2 * w - 1) + q % w - k % w + w - 1;
        });
}

TEST(tables, bias_table_adds_the_number_of_a_slot) {
  for (const auto& [queries, keys] : both_walks) {
    const auto expect = [&, q = queries, k = keys](const auto& slot) {
      expect_slots(
          q, k, 23, [&](const auto& table) { return fovea::bias_table(table, slot); }, slot);
    };
    expect([](auto q, auto k) { return q - k + decltype(q)(4); });             // rising, falling,
    expect([](auto q, auto k) { return k - q; });                              // beyond both ends
    expect([](auto q, auto k) { return (q >> 4) + (k >> 4); });                // runs of one slot
    expect([](auto q, auto k) { return (q + k + k + k) & decltype(q)(15); });  // steps and jumps
    expect([](index_type q, index_type k) { return (q * 7 + k * k) % 29 - 3; });
    // As far from first to last as neighbours are, but no neighbours.
    expect([](index_type q, index_type k) { return (q * 3) % 8 + (k * 5) % 8; });
    expect([](index_type q, index_type) { return q % 8 == 3 ? index_type(2) : index_type(5); });
  }
}

/// A slot that is none of the table's, however far, adds nothing: not what its last 32 bits would.
TEST(tables, bias_table_has_no_slots_beyond_its_own) {
  const Matrix m = numbered(5, 2);
  for (const index_type far : {index_type(1) << 32, -(index_type(1) << 32), index_type(1) << 40,
                               (index_type(1) << 62) + 3, std::numeric_limits<index_type>::min()})
    for (const index_type queries : {1, 3, 70}) {
      const auto some = [&](index_type q, index_type k) { return (q + k) % 2 == 0 ? far + 1 : (q + k) % 5; };
      const auto of_heads = [&](index_type, index_type h, index_type, index_type) { return far + h; };
      const auto scores = added<float>(2, queries, 70, fovea::bias_table(m, some));
      const auto others = added<double>(2, queries, 70, fovea::bias_table(m, of_heads));
      for (index_type h = 0; h < 2; ++h)
        for (index_type i = 0; i < queries; ++i)
          for (index_type j = 0; j < 70; ++j) {
            ASSERT_EQ(scores(0, h, i, j), (i + j) % 2 == 0 ? 0 : m((i + j) % 5, h))
                << far << " " << i << " " << j;
            ASSERT_EQ(others(0, h, i, j), 0);
          }
    }
}

TEST(tables, bias_table_is_told_sequence_and_head) {
  const Matrix table = numbered(50, 1);
  const auto slot = [](index_type b, index_type h, auto q, auto k) {
    using number = decltype(q);
    return (q & number(1)) + (k & number(1)) + number(static_cast<int>(10 * b + 20 * h));
  };
  const fovea::tensor<float> q(2, 2, 3, 1), k(2, 2, 20, 1);
  const auto s = fovea::attention<float, 2>().scores(q, k, fovea::bias_table(table, slot));
  for (index_type b = 0; b < 2; ++b)
    for (index_type h = 0; h < 2; ++h)
      for (index_type i = 0; i < 3; ++i)
        for (index_type j = 0; j < 20; ++j)
          EXPECT_EQ(s(b, h, i, j), static_cast<float>(1 + i % 2 + j % 2 + 10 * b + 20 * h));
}

TEST(tables, queries_of_a_cache_stand_at_its_end) {
  const Matrix table = numbered(8, 1), k = Matrix::Random(30, 4), v = Matrix::Random(30, 4);
  fovea::kv_cache<float, 1> cache(40, 4);
  cache.append(k, v);
  const fovea::attention<float, 1> attend;
  const Matrix q = k.bottomRows(3);
  const fovea::t5_options options{.bidirectional = false, .max_distance = 12};
  const fovea::t5_options moved{.bidirectional = false, .max_distance = 12, .offset = 27};
  const Matrix in_cache = attend(q, cache, fovea::causal, fovea::t5_bias(table, options));
  const Matrix as_matrix = attend(q, k, v, fovea::causal_bottom_right, fovea::t5_bias(table, moved));
  EXPECT_LT(fovea_test::max_abs(in_cache - as_matrix), 1e-6f);
}

TEST(tables, of_other_elements_and_strides_are_the_same_numbers) {
  const Matrix table = numbered(8, 2);
  const Eigen::MatrixXf by_columns = table;
  std::vector<fovea::bf16> halves;
  for (const float x : {1.f, 2.f, 3.f, 4.f, 5.f, 6.f, 7.f, 8.f})
    halves.push_back(fovea::store_element<fovea::bf16>(x));
  const auto bf16 = fovea::bhsd(halves.data(), 1, 1, 8, 1);
  const auto a = added<float>(2, 30, 30, fovea::t5_bias(table, {.max_distance = 9})),
             b = added<float>(2, 30, 30, fovea::t5_bias(by_columns, {.max_distance = 9})),
             c = added<float>(1, 30, 30, fovea::t5_bias(bf16, {.max_distance = 9}));
  for (index_type i = 0; i < 30; ++i)
    for (index_type j = 0; j < 30; ++j) {
      EXPECT_EQ(a(0, 1, i, j), b(0, 1, i, j));
      EXPECT_EQ(a(0, 0, i, j), c(0, 0, i, j));
    }
}

TEST(tables, wrong_ones_are_refused) {
  const Matrix x = Matrix::Random(6, 2);
  const fovea::attention<float, 2> attend;
  const auto call = [&](const auto& score) { attend(x, x, x, score); };
  const auto slot = [](index_type q, index_type k) { return q + k; };
  Matrix three = numbered(8, 3), two = numbered(8, 2), d_two = two, d_other = numbered(7, 2);
  expect_refused([&] { call(fovea::bias_table(three, slot)); },
                 "bias_table's table has 3 columns (heads), neither 1 nor 2");
  expect_refused([&] { call(fovea::t5_bias(three)); },
                 "t5_bias's table has 3 columns (heads), neither 1 nor 2");
  expect_refused([&] { call(fovea::bias_table(two, d_other, slot)); },
                 "bias_table: the gradient has 7 rows (slots), the table 8");
  expect_refused([&] { call(fovea::bias_table(two, three, slot)); },
                 "bias_table: the gradient has 3 columns (heads), the table 2");
  expect_refused([&] { fovea::bias_table(Matrix(0, 2), slot); },
                 "bias_table's table has 0 rows (slots) and 2 columns (heads), not 1 or more each");
  expect_refused([&] { fovea::t5_bias(numbered(7, 2)); },
                 "t5_bias's table has 7 rows (buckets), not 2 x 2 or more");
  expect_refused([&] { fovea::t5_bias(numbered(1, 2), {.bidirectional = false}); },
                 "t5_bias's table has 1 rows (buckets), not 1 x 2 or more");
  expect_refused(
      [&] { fovea::t5_bias(two, {.max_distance = 2}); },
      "t5_bias's max_distance is 2, not above the 2 distances that have a bucket each and at most 1048576");
  expect_refused([&] { fovea::swin_bias(two, {.height = 2, .width = 2}); },
                 "swin_bias's table has 8 rows, not the 9 offsets of a window of 2 x 2");
  expect_refused([&] { fovea::swin_bias(two, {.height = 0, .width = 2}); },
                 "swin_bias's window is 0 x 2, not of 1 to 1048576 tokens");
  expect_refused([&] { call(fovea::swin_bias(numbered(9, 2), {.height = 2, .width = 2})); },
                 "swin_bias's window of 2 x 2 has 4 tokens, not the 6 of q and 6 of k");
  two(3, 1) = std::numeric_limits<float>::infinity();
  expect_refused([&] { fovea::t5_bias(two); }, "t5_bias's table(3, 1) is inf, not a finite number");
  Eigen::MatrixXd large = d_two.cast<double>();
  large(0, 0) = 1e39;
  expect_refused([&] { call(fovea::t5_bias(large)); },
                 "t5_bias's table has a 1e+39, which the numbers of logits do not hold");
}

}  // namespace
