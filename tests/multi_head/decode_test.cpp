// Decoding with caches equals the whole sequence at once.
#include "support.hpp"

#include <fovea/kv_cache.hpp>

namespace decode_test {

using namespace multi_head_test;
using fovea::index_type;

const fovea::rotary_table<double> table(32, 4);

TEST(MultiHeadDecode, StepByStepEqualsTheWhole) {
  for (const bool rotary : {false, true})
    for (const bool normalised : {false, true}) {
      const layer l = random_layer({.width = 8,
                                    .heads = 2,
                                    .kv_heads = 1,
                                    .value_dim = 3,
                                    .normalised = normalised,
                                    .rotary = rotary ? table.angles() : fovea::rotary_angles<double>{}});
      const matrix x = random_matrix(11, 8, 1), whole = l(x, fovea::causal);
      fovea::kv_cache<double> cache(11, 4, {.heads = 1, .value_dim = 3});
      EXPECT_LT(distance(l(x.topRows(4), cache, fovea::causal), whole.topRows(4)), 1e-14) << "a prompt";
      for (index_type t = 4; t < 11; ++t)
        EXPECT_LT(distance(l(x.row(t), cache, fovea::causal), whole.row(t)), 1e-14) << t;
      EXPECT_EQ(cache.tokens(), 11);
      EXPECT_THROW(l(x.row(0), cache, fovea::causal), std::invalid_argument) << "the cache is full";
      cache.truncate(9);
      EXPECT_LT(distance(l(x.row(9), cache, fovea::causal), whole.row(9)), 1e-14) << "taken back";
    }
}

TEST(MultiHeadDecode, FloatsAndFixedHeadsAndA16BitCache) {
  const options o{.width = 16, .heads = 4, .kv_heads = 2};
  const layer exact = random_layer(o);
  fovea::multi_head<float, 4, 2> l({.width = 16});
  l.qkv_weight = exact.qkv_weight.cast<float>(), l.qkv_bias = exact.qkv_bias.cast<float>();
  l.out_weight = exact.out_weight.cast<float>(), l.out_bias = exact.out_bias.cast<float>();
  const matrix x = random_matrix(9, 16, 1), whole = exact(x, fovea::causal);
  const Eigen::MatrixXf narrow = x.cast<float>();
  EXPECT_LT(distance(l(narrow, fovea::causal).cast<double>(), whole), 1e-5);
  fovea::kv_cache<fovea::bf16, 2> cache(9, 4);
  for (index_type t = 0; t < 9; ++t)
    EXPECT_LT(distance(l(narrow.row(t), cache, fovea::causal).cast<double>(), whole.row(t)), 0.03) << t;
}

TEST(MultiHeadDecode, SeveralSequencesWithPagedCaches) {
  const layer l = random_layer({.width = 8, .heads = 2, .rotary = table.angles()});
  fovea::page_pool<double> pool({.pages = 12, .page_tokens = 2, .heads = 2, .dim = 4});
  std::vector<fovea::paged_cache<double>> caches;
  for (int b = 0; b < 3; ++b) caches.emplace_back(pool);
  const std::vector<fovea::paged_cache<double>*> all{&caches[0], &caches[1], &caches[2]};
  const std::span<fovea::paged_cache<double>* const> batch(all);
  const matrix x[] = {random_matrix(6, 8, 1), random_matrix(4, 8, 2), random_matrix(5, 8, 3)};
  index_type at[] = {0, 0, 0};
  const index_type steps[][3] = {{3, 1, 0}, {1, 1, 1}, {1, 0, 3}, {1, 2, 1}};
  for (const auto& step : steps) {
    offsets starts{0};
    for (const index_type n : step) starts.push_back(starts.back() + n);
    matrix rows(starts.back(), 8);
    for (std::size_t b = 0; b < 3; ++b) rows.middleRows(starts[b], step[b]) = x[b].middleRows(at[b], step[b]);
    const matrix y = l({rows, starts}, batch, fovea::causal);
    for (std::size_t b = 0; b < 3; ++b) {
      const matrix whole = l(x[b], fovea::causal);
      EXPECT_LT(distance(y.middleRows(starts[b], step[b]), whole.middleRows(at[b], step[b])), 1e-14);
      at[b] += step[b];
    }
  }
}

TEST(MultiHeadDecode, WhatIsRejectedLeavesCachesAlone) {
  const layer l = random_layer({.width = 8, .heads = 2, .rotary = table.angles()});
  fovea::page_pool<double> pool({.pages = 3, .page_tokens = 2, .heads = 2, .dim = 4});
  fovea::paged_cache<double> a(pool), b(pool);
  const std::vector<fovea::paged_cache<double>*> both{&a, &b};
  const std::span<fovea::paged_cache<double>* const> batch(both);
  const matrix x = random_matrix(6, 8, 1);
  l({x.topRows(2), offsets{0, 1, 2}}, batch, fovea::causal);
  const auto expect_unchanged = [&] {
    EXPECT_EQ(a.tokens(), 1);
    EXPECT_EQ(b.tokens(), 1);
    EXPECT_EQ(pool.free_pages(), 1);
  };
  EXPECT_THROW(l({x, offsets{0, 2, 6}}, batch, fovea::causal), std::invalid_argument) << "b has no room";
  expect_unchanged();
  EXPECT_THROW(l({x, offsets{0, 6}}, batch, fovea::causal), std::invalid_argument);
  EXPECT_THROW(l({random_matrix(2, 7, 1), offsets{0, 1, 2}}, batch, fovea::causal), std::invalid_argument);
  EXPECT_THROW(l(x, a, fovea::causal), std::invalid_argument) << "six tokens into two pages";
  expect_unchanged();
  const std::vector<fovea::paged_cache<double>*> none{&a, nullptr};
  EXPECT_THROW(l({x, offsets{0, 2, 6}}, std::span<fovea::paged_cache<double>* const>(none), fovea::causal),
               std::invalid_argument);
  expect_unchanged();
}

/// A ring can not take back what it let go of: nothing is appended to one sequence before all of them are
/// checked.
TEST(MultiHeadDecode, WhatOneSequenceRejectsNoneAppends) {
  const layer l = random_layer({.width = 8, .heads = 2, .rotary = table.angles()});
  using ring = fovea::ring_cache<double>;
  ring a(4, 4, {.heads = 2}), b(4, 4, {.heads = 2});
  const std::vector<ring*> both{&a, &b};
  const matrix x = random_matrix(8, 8, 1);
  for (int i = 0; i < 2; ++i) l(x.topRows(3), a, fovea::causal);
  const index_type rows = table.angles().cos.rows;
  for (index_type i = 0; i < rows - 1; ++i) l(x.topRows(1), b, fovea::causal);
  EXPECT_THROW(l({x.topRows(3), offsets{0, 1, 3}}, std::span<ring* const>(both), fovea::causal),
               std::invalid_argument)
      << "the table of angles ends with b's next token";
  EXPECT_EQ(a.position(), 6);
  EXPECT_EQ(b.position(), rows - 1);
  const std::vector<ring*> twice{&a, &a};
  EXPECT_THROW(l({x.topRows(2), offsets{0, 1, 2}}, std::span<ring* const>(twice), fovea::causal),
               std::invalid_argument);
  EXPECT_EQ(a.position(), 6);
}

/// Squares of what is normalised may be no numbers.
TEST(HeadNorm, OfRowsOfAnyLength) {
  const auto expect = [](auto largest) {
    using T = decltype(largest);
    using rows = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Eigen::Matrix<T, 1, Eigen::Dynamic> gain = Eigen::Matrix<T, 1, Eigen::Dynamic>::Ones(4);
    for (T by = 1; by <= largest; by *= T(1e4)) {
      rows x(1, 8);
      x << by, -by, by, -by, by, by, 3 * by, 3 * by;
      fovea::normalise_heads<T>(x, 2, gain, T(1e-6), nullptr);
      for (int c = 0; c < 4; ++c) EXPECT_NEAR(x(0, c), c % 2 == 0 ? 1 : -1, 1e-5) << by;
      for (int c = 4; c < 8; ++c) EXPECT_NEAR(x(0, c), (c < 6 ? 1 : 3) / std::sqrt(5.0), 1e-5) << by;
    }
    rows most = rows::Constant(1, 8, std::numeric_limits<T>::max());  // whose length is no number
    fovea::normalise_heads<T>(most, 2, gain, T(1e-6), nullptr);
    EXPECT_NEAR(most.minCoeff(), 1, 1e-5);
  };
  expect(1e37f), expect(1e307);
}

}  // namespace decode_test
