// attention::statistics: found block by block, equal to what the matrix of probabilities says in double.
#include "../../support/allocations.hpp"
#include "../../support/random.hpp"

#include <fovea/inspect/rows.hpp>
#include <fovea/kv_cache.hpp>
#include <fovea/reference.hpp>

#include <gtest/gtest.h>

#include <vector>

namespace statistics_test {

using fovea::index_type;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

constexpr index_type batch = 2, heads = 4, kv_heads = 2, dim = 20;

template <class T>
struct inputs {
  fovea::tensor<T> q, k;
  inputs(index_type queries, index_type keys, double spread)
      : q(batch, heads, queries, dim), k(batch, kv_heads, keys, dim) {
    fovea_test::random_source random(7);
    for (index_type i = 0; i < q.size(); ++i) q.data()[i] = T(random.uniform(-spread, spread));
    for (index_type i = 0; i < k.size(); ++i) k.data()[i] = T(random.uniform(-spread, spread));
  }
};

/// -sum P ln P and the rest, the textbook way: all logits of a row, in double.
template <class T, class... Mods>
void expect_as_in_the_textbook(const inputs<T>& in, double tolerance, const Mods&... mods) {
  const fovea::attention<T, heads, kv_heads> attend;
  const auto got = attend.statistics(in.q, in.k, mods...);
  const auto wide = [](const auto& x) {
    fovea::tensor<double> y(x.batch(), x.heads(), x.tokens(), x.dim());
    for (index_type i = 0; i < x.size(); ++i) y.data()[i] = static_cast<double>(x.data()[i]);
    return y;
  };
  const fovea::attention<double, heads, kv_heads> exact;
  const auto logits = exact.scores(wide(in.q), wide(in.k), mods...);
  const index_type queries = in.q.tokens(), keys = in.k.tokens();
  double sink[heads] = {-infinity, -infinity, -infinity, -infinity};
  [[maybe_unused]] const auto look = [&](const auto& mod) {
    if constexpr (fovea::sink_like<std::remove_cvref_t<decltype(mod)>>)
      for (index_type h = 0; h < heads; ++h) sink[h] = static_cast<double>(mod.logit(h));
  };
  (look(mods), ...);
  for (index_type b = 0; b < batch; ++b)
    for (index_type h = 0; h < heads; ++h)
      for (index_type i = 0; i < queries; ++i) {
        double top = sink[h], sum = 0, entropy = 0, distance = 0, mass = 0, largest = 0;
        index_type visible = 0, key = -1;
        for (index_type j = 0; j < keys; ++j) {
          const double s = logits(b, h, i, j);
          if (s == -infinity) continue;
          ++visible;
          top = std::max(top, s);
          if (key < 0 || s > logits(b, h, i, key)) key = j;
        }
        for (index_type j = 0; j < keys; ++j)
          sum += logits(b, h, i, j) == -infinity ? 0 : std::exp(logits(b, h, i, j) - top);
        sum += sink[h] == -infinity ? 0 : std::exp(sink[h] - top);
        for (index_type j = 0; j < keys; ++j) {
          const double p = logits(b, h, i, j) == -infinity ? 0 : std::exp(logits(b, h, i, j) - top) / sum;
          if (p > 0) entropy -= p * std::log(p);
          distance += p * std::abs(double(i + keys - queries - j));
          mass += p;
          largest = std::max(largest, p);
        }
        const double lse = visible == 0 ? sink[h] : top + std::log(sum);
        SCOPED_TRACE(testing::Message() << "sequence " << b << " head " << h << " row " << i);
        if (lse == -infinity)
          ASSERT_EQ(got.lse(b, h, i, 0), lse);
        else
          ASSERT_NEAR(got.lse(b, h, i, 0), lse, tolerance * (1 + std::abs(lse)));
        ASSERT_NEAR(got.entropy(b, h, i, 0), entropy, tolerance * 4);
        ASSERT_NEAR(got.distance(b, h, i, 0), distance, tolerance * double(keys + queries));
        ASSERT_NEAR(got.largest(b, h, i, 0), largest, tolerance);
        ASSERT_NEAR(got.mass(b, h, i, 0), mass, tolerance);
        ASSERT_EQ(got.visible(b, h, i, 0), visible);
        const index_type found = got.key(b, h, i, 0);  // where two keys are equal to rounding, either
        if (found != key) {
          ASSERT_TRUE(found >= 0 && key >= 0);
          ASSERT_NEAR(logits(b, h, i, found), logits(b, h, i, key), tolerance * 10);
        }
      }
}

template <class T>
struct of_element : testing::Test {
  static constexpr double tolerance = std::is_same_v<T, double> ? 1e-12 : 1e-5;
};
using elements = testing::Types<float, double>;
TYPED_TEST_SUITE(of_element, elements);

TYPED_TEST(of_element, of_every_mask) {
  for (const double spread : {0.3, 3.0}) {
    const inputs<TypeParam> square(150, 150, spread), wide(37, 300, spread), tall(90, 21, spread);
    expect_as_in_the_textbook(square, this->tolerance);
    expect_as_in_the_textbook(square, this->tolerance, fovea::causal);
    expect_as_in_the_textbook(wide, this->tolerance, fovea::causal_bottom_right,
                              fovea::sliding_window{.left = 40, .offset = 263});
    expect_as_in_the_textbook(tall, this->tolerance, fovea::causal_offset{-30});
    const std::vector<index_type> lengths{150, 13};
    expect_as_in_the_textbook(square, this->tolerance, fovea::key_lengths{lengths}, fovea::causal);
    const auto odd = [](auto row, auto key) { return ((key & 1) == 1) | (key == row); };
    expect_as_in_the_textbook(wide, this->tolerance, fovea::mask(odd));
  }
}

TYPED_TEST(of_element, of_every_score) {
  const inputs<TypeParam> in(70, 190, 1.5);
  const std::vector<float> slopes{0.5f, 0.25f, 0.125f, 0.f}, sinks{0.f, 5.f, -3.f, 300.f};
  Eigen::Matrix<TypeParam, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> added(70, 190);
  for (index_type i = 0; i < 70; ++i)
    for (index_type j = 0; j < 190; ++j)
      added(i, j) =
          (i * j) % 7 == 3 || i == 11 ? TypeParam(-infinity) : TypeParam(double(i % 5) - double(j % 3));
  expect_as_in_the_textbook(in, this->tolerance, fovea::softcap{3.f}, fovea::causal_bottom_right);
  expect_as_in_the_textbook(in, this->tolerance, fovea::alibi{slopes});
  expect_as_in_the_textbook(in, this->tolerance, fovea::bias(added));
  expect_as_in_the_textbook(in, this->tolerance, fovea::sink{sinks});
  expect_as_in_the_textbook(in, this->tolerance, fovea::sink{sinks}, fovea::bias(added),
                            fovea::causal_top_left);
}

TYPED_TEST(of_element, of_logits_so_large_that_differences_of_them_would_be_noise) {
  inputs<TypeParam> in(5, 200, 1.0);
  for (index_type i = 0; i < in.k.size(); ++i) in.k.data()[i] = TypeParam(3e4);  // all keys alike
  for (index_type i = 0; i < in.q.size(); ++i) in.q.data()[i] = TypeParam(1e3);
  const auto rows = fovea::attention<TypeParam, heads, kv_heads>().statistics(in.q, in.k);
  for (index_type i = 0; i < 5; ++i) EXPECT_NEAR(rows.entropy(0, 0, i, 0), std::log(200.0), 1e-9);
}

TYPED_TEST(of_element, is_what_the_matrix_says) {
  const inputs<TypeParam> in(40, 40, 2.0);
  const fovea::attention<TypeParam, heads, kv_heads> attend;
  const auto swept = attend.statistics(in.q, in.k, fovea::causal);
  const auto looked = fovea::statistics_of(attend.weights(in.q, in.k, fovea::causal));
  EXPECT_EQ(looked.lse.size(), 0);
  for (index_type i = 0; i < swept.entropy.size(); ++i) {
    EXPECT_NEAR(swept.entropy.data()[i], looked.entropy.data()[i], 1e-5);
    EXPECT_NEAR(swept.distance.data()[i], looked.distance.data()[i], 1e-4);
    EXPECT_EQ(swept.key.data()[i], looked.key.data()[i]);
    EXPECT_EQ(swept.visible.data()[i], looked.visible.data()[i]);
  }
}

TYPED_TEST(of_element, masked_nans_do_not_matter_and_seen_ones_do) {
  inputs<TypeParam> in(30, 170, 1.0);
  const std::vector<index_type> lengths{160, 100};
  const fovea::attention<TypeParam, heads, kv_heads> attend;
  const auto clean = attend.statistics(in.q, in.k, fovea::key_lengths{lengths});
  for (index_type c = 0; c < dim; ++c) in.k(0, 0, 165, c) = in.k(1, 1, 100, c) = TypeParam(nan);
  const auto poisoned = attend.statistics(in.q, in.k, fovea::key_lengths{lengths});
  for (index_type i = 0; i < clean.entropy.size(); ++i) {
    EXPECT_EQ(clean.entropy.data()[i], poisoned.entropy.data()[i]);
    EXPECT_EQ(clean.lse.data()[i], poisoned.lse.data()[i]);
    EXPECT_EQ(clean.distance.data()[i], poisoned.distance.data()[i]);
  }
  in.k(0, 0, 30, 3) = TypeParam(nan);
  in.q(1, 2, 4, 0) = TypeParam(nan);
  const auto seen = attend.statistics(in.q, in.k, fovea::key_lengths{lengths});
  const auto is_nan = [&](index_type b, index_type h, index_type i) {
    const bool all = std::isnan(seen.entropy(b, h, i, 0)) && std::isnan(seen.lse(b, h, i, 0)) &&
                     std::isnan(seen.distance(b, h, i, 0)) && std::isnan(seen.largest(b, h, i, 0)) &&
                     std::isnan(seen.mass(b, h, i, 0)) && seen.key(b, h, i, 0) == -1;
    EXPECT_EQ(all, std::isnan(seen.entropy(b, h, i, 0)));
    return all;
  };
  for (index_type h = 0; h < heads; ++h)
    for (index_type i = 0; i < 30; ++i) {
      EXPECT_EQ(is_nan(0, h, i), h < 2) << h << " " << i;  // query heads 0 and 1 read key head 0
      EXPECT_EQ(is_nan(1, h, i), h == 2 && i == 4) << h << " " << i;
    }
}

TEST(statistics, of_rows_without_a_key) {
  const inputs<float> in(10, 12, 1.0);
  const fovea::attention<float, heads, kv_heads> attend;
  const std::vector<float> logits{1, 2, 3, 4};
  const auto without = attend.statistics(in.q, in.k, fovea::causal_offset{-5});
  const auto with = attend.statistics(in.q, in.k, fovea::causal_offset{-5}, fovea::sink{logits});
  const auto matrix = fovea::statistics_of(attend.weights(in.q, in.k, fovea::causal_offset{-5}));
  for (const auto* rows : {&without, &with, &matrix}) {
    EXPECT_EQ(rows->entropy(0, 1, 4, 0), 0);
    EXPECT_EQ(rows->distance(0, 1, 4, 0), 0);
    EXPECT_EQ(rows->largest(0, 1, 4, 0), 0);
    EXPECT_EQ(rows->mass(0, 1, 4, 0), 0);
    EXPECT_EQ(rows->key(0, 1, 4, 0), -1);
    EXPECT_EQ(rows->visible(0, 1, 4, 0), 0);
    EXPECT_EQ(rows->effective_keys(0, 1, 4), 0);
    EXPECT_EQ(rows->normalised_entropy(0, 1, 4), 0);
    EXPECT_EQ(rows->visible(0, 1, 5, 0), 1);
    EXPECT_EQ(rows->key(0, 1, 5, 0), 0);
    EXPECT_EQ(rows->normalised_entropy(0, 1, 5), 0);
  }
  EXPECT_EQ(without.lse(0, 1, 4, 0), -infinity);
  EXPECT_EQ(with.lse(0, 1, 4, 0), 2);
}

TEST(statistics, lse_is_that_of_the_attention) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Matrix q = Matrix::Random(50, heads * dim), k = Matrix::Random(50, kv_heads * dim);
  const fovea::attention<float, heads, kv_heads> attend;
  const auto part = attend.with_lse(q, k, k, fovea::causal);
  const auto rows = attend.statistics(q, k, fovea::causal);
  for (index_type h = 0; h < heads; ++h)
    for (index_type i = 0; i < 50; ++i) EXPECT_NEAR(rows.lse(0, h, i, 0), double(part.lse(i, h)), 2e-6);
}

TEST(statistics, of_packed_sequences_and_of_a_cache) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Matrix q = Matrix::Random(30, heads * dim), k = Matrix::Random(30, kv_heads * dim);
  const fovea::attention<float, heads, kv_heads> attend;
  const std::vector<index_type> offsets{0, 10, 10, 30};
  const fovea::ragged queries{q, offsets}, keys{k, offsets};
  const auto packed = attend.statistics(queries, keys, fovea::causal);
  const Matrix q2 = q.bottomRows(20), k2 = k.bottomRows(20);
  const auto alone = attend.statistics(q2, k2, fovea::causal);
  EXPECT_EQ(packed.batch(), 3);
  EXPECT_EQ(packed.queries(), 20);
  for (index_type h = 0; h < heads; ++h)
    for (index_type i = 0; i < 20; ++i) {
      EXPECT_EQ(packed.entropy(2, h, i, 0), alone.entropy(0, h, i, 0));
      EXPECT_EQ(packed.visible(0, h, i, 0), i < 10 ? i + 1 : 0);
      EXPECT_EQ(packed.lse(1, h, i, 0), -infinity);
    }
  fovea::kv_cache<float, kv_heads> cache(64, dim);
  cache.append(k2, k2);
  const Matrix last = q2.bottomRows(3);
  const auto newest = attend.statistics(last, cache, fovea::causal);
  for (index_type i = 0; i < 3; ++i) {
    EXPECT_NEAR(newest.entropy(0, 1, i, 0), alone.entropy(0, 1, 17 + i, 0), 1e-5);
    EXPECT_NEAR(newest.distance(0, 1, i, 0), alone.distance(0, 1, 17 + i, 0), 1e-4);
  }
}

TEST(statistics, are_the_same_bits_for_any_number_of_threads) {
  const inputs<float> in(700, 700, 1.0);
  fovea::threads pool(3);
  const fovea::attention<float, heads, kv_heads> one, three{{.executor = pool}};
  const auto a = one.statistics(in.q, in.k, fovea::causal), b = three.statistics(in.q, in.k, fovea::causal);
  for (index_type i = 0; i < a.entropy.size(); ++i) {
    ASSERT_EQ(a.entropy.data()[i], b.entropy.data()[i]);
    ASSERT_EQ(a.lse.data()[i], b.lse.data()[i]);
    ASSERT_EQ(a.key.data()[i], b.key.data()[i]);
  }
}

TEST(statistics, take_memory_for_rows_and_a_block_alone) {
  const inputs<float> in(300, 5000, 1.0);
  const fovea::attention<float, heads, kv_heads> attend;
  const auto before = fovea_test::allocations().bytes;
  const auto rows = attend.statistics(in.q, in.k);
  const auto used = fovea_test::allocations().bytes - before;
  EXPECT_GT(used, std::size_t{batch * heads * 300 * 7 * 8});  // seven numbers a row
  EXPECT_LT(used,
            std::size_t{batch * heads * 300 * 7 * 8 + 200'000});  // one head's matrix has 6'000'000 bytes
}

TEST(statistics, of_nothing) {
  const fovea::tensor<float> none(0, heads, 0, dim), q(1, heads, 3, dim), k(1, heads, 0, dim);
  const fovea::attention<float, heads> attend;
  EXPECT_EQ(attend.statistics(none, none).entropy.size(), 0);
  EXPECT_EQ(attend.statistics(q, k).visible(0, 3, 2, 0), 0);
}

TEST(statistics, mistakes_are_named) {
  const inputs<float> in(4, 6, 1.0);
  const fovea::tensor<float> narrow(batch, kv_heads, 6, dim - 1);
  const fovea::attention<float, heads, kv_heads> attend;
  EXPECT_THROW(attend.statistics(in.q, narrow), std::invalid_argument);
  EXPECT_THROW(attend.statistics(in.q, in.k, fovea::causal), std::invalid_argument);
}

}  // namespace statistics_test
