// Gradients of small tables that scores read through an index: sums of dS, whoever makes them.
#include "../support/max_abs.hpp"
#include "../support/random.hpp"

#include <fovea/attention.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace {

using fovea::index_type;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using fovea::tensor;
using fovea_test::random_source;

Matrix random_matrix(index_type rows, index_type columns, std::uint64_t seed) {
  random_source random(seed);
  Matrix m(rows, columns);
  for (double& x : m.reshaped()) x = random.uniform(-1, 1);
  return m;
}
tensor<double> random_tensor(index_type b, index_type h, index_type t, index_type c, std::uint64_t seed) {
  random_source random(seed);
  tensor<double> x(b, h, t, c);
  for (index_type i = 0; i < x.size(); ++i) x.data()[i] = random.uniform(-1, 1);
  return x;
}

/// Slot 0 to slots - 1, or none, of sequence, head, query and key.
constexpr index_type slots = 23;
index_type any_slot(index_type b, index_type h, index_type q, index_type k) {
  return (3 * q + 5 * k + 7 * h + 11 * b) % (slots + 4) - 2;
}

/// A backward call with other scores before and behind the table, a mask and a dropout.
struct training {
  index_type batch, heads, queries, keys;
  double rate = 0.25;  // of dropout
  tensor<double> q = random_tensor(batch, heads, queries, 7, 1);
  tensor<double> k = random_tensor(batch, heads / 2, keys, 7, 2);
  tensor<double> v = random_tensor(batch, heads / 2, keys, 5, 3);
  tensor<double> d_out = random_tensor(batch, heads, queries, 5, 4);
  std::vector<float> slopes = std::vector<float>(static_cast<std::size_t>(heads), 0.0625f);

  template <class F>
  void with(const F& f) const {
    f(fovea::softcap{3.0}, fovea::alibi{slopes}, fovea::causal_offset{keys / 2},
      fovea::dropout{.rate = rate, .seed = 5});
  }
  /// dS, a matrix a head, as the gradient of a bias of as many cells: of 0, beside the score.
  template <class Score>
  tensor<double> of_cells(const Score& score) const {
    tensor<double> zero(batch, heads, queries, keys), d_zero(batch, heads, queries, keys);
    backward({}, score, fovea::bias(zero, d_zero));
    return d_zero;
  }
  template <class... Scores>
  void backward(fovea::executor_ref executor, const Scores&... scores) const {
    const fovea::attention<double> attend({.heads = heads, .kv_heads = heads / 2, .executor = executor});
    with([&](const auto&... others) {
      const auto [out, lse] = attend.with_lse(q, k, v, scores..., others...);
      attend.backward(q, k, v, out, lse, d_out, scores..., others...);
    });
  }
  template <class Score>
  double loss(const Score& score) const {
    const fovea::attention<double> attend({.heads = heads, .kv_heads = heads / 2});
    double sum = 0;
    with([&](const auto&... others) {
      const auto out = attend(q, k, v, score, others...);
      for (index_type i = 0; i < out.size(); ++i) sum += out.data()[i] * d_out.data()[i];
    });
    return sum;
  }
};

/// Sums over cells by hand; a slot below 0 is none.
template <class Slot>
Matrix summed(const tensor<double>& cells, index_type rows, index_type columns, const Slot& slot) {
  Matrix sums = Matrix::Zero(rows, columns);
  for (index_type b = 0; b < cells.batch(); ++b)
    for (index_type h = 0; h < cells.heads(); ++h)
      for (index_type i = 0; i < cells.tokens(); ++i)
        for (index_type j = 0; j < cells.dim(); ++j)
          if (const index_type s = slot(b, h, i, j); s >= 0 && s < rows)
            sums(s, columns == 1 ? 0 : h) += cells(b, h, i, j);
  return sums;
}

/// make(table, gradient...) makes the score; all its entries against sums of cells, some against differences.
template <class Make, class Slot>
void expect_gradient(const training& t, index_type rows, index_type columns, const Make& make,
                     const Slot& slot) {
  Matrix table = random_matrix(rows, columns, 6);
  Matrix got = Matrix::Constant(rows, columns, std::numeric_limits<double>::quiet_NaN());
  t.backward({}, make(table, got));
  const Matrix want = summed(t.of_cells(make(table)), rows, columns, slot);
  for (index_type s = 0; s < rows; ++s)
    for (index_type h = 0; h < columns; ++h) ASSERT_NEAR(got(s, h), want(s, h), 1e-12) << s << ", " << h;
  for (index_type s = 0; s < rows; s += rows / 3 + 1) {
    const double x = table(s, 0), step = 1e-5;
    table(s, 0) = x + step;
    const double above = t.loss(make(table));
    table(s, 0) = x - step;
    const double below = t.loss(make(table));
    table(s, 0) = x;
    EXPECT_NEAR(got(s, 0), (above - below) / (2 * step), 1e-7) << s;
  }
  for (const index_type workers : {2, 3, 7}) {
    fovea::threads pool(static_cast<int>(workers));
    Matrix again = Matrix::Zero(rows, columns);
    t.backward(pool, make(table, again));
    EXPECT_EQ(again, got) << workers << " workers";
  }
}

TEST(tables, of_any_index_learn_the_sums_of_their_cells) {
  for (const training& t : {training{1, 2, 1, 1}, training{2, 4, 75, 130}, training{3, 2, 20, 7}})
    for (const index_type columns : {index_type(1), t.heads}) {
      const auto with = [](const auto& slot) {
        return [slot](auto&... tables) { return fovea::bias_table(tables..., slot); };
      };
      expect_gradient(t, slots, columns, with(any_slot), any_slot);
      const auto of_registers = [](auto q, auto k) {
        using std::max, std::min;
        using position = decltype(q);
        return min(max(k - q, position(-9)), position(9)) + position(9) - (k & position(8)) * position(9);
      };
      expect_gradient(t, 19, columns, with(of_registers),
                      [&](index_type, index_type, index_type q, index_type k) { return of_registers(q, k); });
    }
}

TEST(tables, of_t5_learn_the_sums_of_their_buckets) {
  for (const training& t : {training{2, 2, 70, 150}, training{1, 4, 9, 300}})
    for (const bool bidirectional : {true, false})
      for (const index_type columns : {index_type(1), t.heads}) {
        const fovea::t5_options options{.bidirectional = bidirectional, .max_distance = 50, .offset = 3};
        const fovea::t5_buckets buckets(16, options);
        expect_gradient(
            t, 16, columns, [&](auto&... tables) { return fovea::t5_bias(tables..., options); },
            [&](index_type, index_type, index_type q, index_type k) { return buckets[k - q - 3]; });
      }
}

TEST(tables, of_swin_learn_the_sums_of_their_offsets) {
  const training t{3, 2, 35, 35};
  for (const index_type columns : {1, 2})
    expect_gradient(
        t, 13 * 9, columns,
        [](auto&... tables) { return fovea::swin_bias(tables..., {.height = 7, .width = 5}); },
        [](index_type, index_type, index_type q, index_type k) {
          return (q / 5 - k / 5 + 6) * 9 + q % 5 - k % 5 + 4;
        });
}

TEST(tables, of_no_sequence_learn_nothing) {
  Matrix table = random_matrix(8, 2, 6), d_table = random_matrix(8, 2, 7);
  const training none{0, 2, 3, 4};
  none.backward({}, fovea::t5_bias(table, d_table, {.max_distance = 20}));
  EXPECT_EQ(d_table, Matrix::Zero(8, 2));
}

TEST(tables, of_a_batch_learn_the_sum_of_its_sequences) {
  const auto slot = [](index_type q, index_type k) { return (q + k) % slots; };
  const training two{2, 2, 40, 60, 0};
  Matrix table = random_matrix(slots, 2, 6), of_two(slots, 2), sum = Matrix::Zero(slots, 2), d(slots, 2);
  two.backward({}, fovea::bias_table(table, of_two, slot));
  for (index_type b = 0; b < 2; ++b) {
    training one{1, 2, 40, 60, 0};
    const auto copy = [&](tensor<double>& to, const tensor<double>& from) {
      std::copy_n(from.data() + b * to.size(), to.size(), to.data());
    };
    copy(one.q, two.q), copy(one.k, two.k), copy(one.v, two.v), copy(one.d_out, two.d_out);
    one.backward({}, fovea::bias_table(table, d, slot));
    sum += d;
  }
  EXPECT_LT(fovea_test::max_abs(sum - of_two), 1e-13);
}

}  // namespace
