// Rows of a packed batch that belong to no sequence, and batches of no sequence: the same rule in every call.
#include "../support/refusal.hpp"

#include <fovea/kv_cache.hpp>
#include <fovea/position.hpp>

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace rows_of_none_test {

using fovea::index_type;
using fovea::ragged;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
constexpr float infinity = std::numeric_limits<float>::infinity(),
                nan = std::numeric_limits<float>::quiet_NaN();

/// Three sequences of 3, 0 and 4 rows in 12, of which 0, 1 and 9 to 11 are NaN; two heads of 4.
struct rows_of_none : testing::Test {
  const std::vector<index_type> offsets{2, 5, 5, 9}, own{0, 3, 3, 7};
  Matrix q = inputs(1), k = inputs(2), v = inputs(3), d_o = inputs(4);
  fovea::attention<float> attend{{.heads = 2}};

  static Matrix inputs(unsigned seed) {
    std::srand(seed);
    Matrix x = Matrix::Constant(12, 8, nan);
    x.middleRows(2, 7).setRandom();
    return x;
  }
  ragged<const Matrix> batch(const Matrix& x) const { return {x, offsets}; }
  void expect(const Matrix& got, const Matrix& of_sequences, float of_none) const {
    EXPECT_EQ(Matrix(got.middleRows(2, 7)), of_sequences);
    EXPECT_TRUE((got.topRows(2).array() == of_none).all()) << got.topRows(2);
    EXPECT_TRUE((got.bottomRows(3).array() == of_none).all()) << got.bottomRows(3);
  }
};

TEST_F(rows_of_none, are_as_rows_that_see_no_key) {
  const Matrix qs = q.middleRows(2, 7), ks = k.middleRows(2, 7), vs = v.middleRows(2, 7),
               ds = d_o.middleRows(2, 7);
  const auto alone = attend.with_lse(ragged{qs, own}, ragged{ks, own}, ragged{vs, own});
  const auto got = attend.with_lse(batch(q), batch(k), batch(v));
  expect(got.out, alone.out, 0), expect(got.lse, alone.lse, -infinity);
  expect(attend(batch(q), batch(k), batch(v)), alone.out, 0);
  Matrix o = Matrix::Constant(12, 8, nan), lse = Matrix::Constant(12, 2, nan);
  attend.with_lse_into(ragged{o, offsets}, ragged{lse, offsets}, batch(q), batch(k), batch(v));
  expect(o, alone.out, 0), expect(lse, alone.lse, -infinity);
  o.setConstant(nan);
  attend.into(ragged{o, offsets}, batch(q), batch(k), batch(v));
  expect(o, alone.out, 0);
  Matrix in_place = q;
  attend.into(ragged{in_place, offsets}, ragged{in_place, offsets}, batch(k), batch(v));
  expect(in_place, alone.out, 0);

  const auto d = attend.backward(ragged{qs, own}, ragged{ks, own}, ragged{vs, own}, ragged{alone.out, own},
                                 ragged{alone.lse, own}, ragged{ds, own});
  Matrix d_q = Matrix::Constant(12, 8, nan), d_k = d_q, d_v = d_q;
  o.topRows(2).setConstant(nan), lse.bottomRows(3).setConstant(nan);
  attend.backward_into(ragged{d_q, offsets}, ragged{d_k, offsets}, ragged{d_v, offsets}, batch(q), batch(k),
                       batch(v), batch(o), batch(lse), batch(d_o));
  expect(d_q, d.d_q, 0), expect(d_k, d.d_k, 0), expect(d_v, d.d_v, 0);
  const auto returned = attend.backward(batch(q), batch(k), batch(v), batch(o), batch(lse), batch(d_o));
  expect(returned.d_q, d.d_q, 0), expect(returned.d_k, d.d_k, 0), expect(returned.d_v, d.d_v, 0);
}

TEST_F(rows_of_none, take_no_part_in_what_is_looked_at) {
  const auto weights = attend.weights(batch(q), batch(k));
  const auto sums = attend.received(batch(q), batch(k));
  const auto rows = attend.statistics(batch(q), batch(k));
  double all = 0;
  for (index_type i = 0; i < weights.size(); ++i) all += double(weights.data()[i]);
  EXPECT_NEAR(all, 2 * 7, 1e-4);
  for (index_type i = 0; i < sums.size(); ++i) all -= double(sums.data()[i]);
  EXPECT_NEAR(all, 0, 1e-4);
  for (index_type i = 0; i < 3; ++i) EXPECT_EQ(rows.visible(0, 1, i, 0), 3);
  EXPECT_EQ(rows.visible(0, 1, 3, 0), 0);
  const Matrix one = attend.weights_of(1, batch(q), batch(k));
  ASSERT_EQ(one.rows(), 12);
  ASSERT_EQ(one.cols(), 4);
  EXPECT_TRUE(one.topRows(2).isZero(0) && one.bottomRows(3).isZero(0));
  for (index_type i = 0; i < 4; ++i)
    for (index_type j = 0; j < 4; ++j) {
      EXPECT_EQ(one(5 + i, j), weights(2, 1, i, j));
      if (i < 3) {
        EXPECT_EQ(one(2 + i, j), weights(0, 1, i, j));
      }
    }
  Matrix added = Matrix::Constant(12, 2, 7);
  Matrix o(12, 8);
  ragged of_added{added, offsets};
  attend.into(ragged{o, offsets}, batch(q), batch(k), batch(v), fovea::dropout{},
              fovea::add_received(of_added));
  EXPECT_TRUE((added.topRows(2).array() == 7).all() && (added.bottomRows(3).array() == 7).all());
  EXPECT_NEAR(added.sum(), 12 * 2 * 7 + 2 * 7, 1e-3f);
}

TEST_F(rows_of_none, beside_caches) {
  fovea::kv_cache<float> first(8, 4, {.heads = 2}), second(8, 4, {.heads = 2});
  first.append(k.middleRows(2, 5), v.middleRows(2, 5)), second.append(k.middleRows(4, 5), v.middleRows(4, 5));
  const std::vector<const fovea::kv_cache<float>*> both{&first, &second};
  const std::vector<index_type> two{2, 4, 5};
  const fovea::cache_batch caches(both);
  const Matrix got = attend(ragged{q, two}, caches);
  const Matrix a = attend(q.middleRows(2, 2), first), b = attend(q.middleRows(4, 1), second);
  EXPECT_EQ(Matrix(got.middleRows(2, 2)), a);
  EXPECT_EQ(Matrix(got.middleRows(4, 1)), b);
  EXPECT_TRUE(got.topRows(2).isZero(0) && got.bottomRows(7).isZero(0));
}

TEST_F(rows_of_none, no_sequence_at_all) {
  const std::vector<index_type> none{0};
  const auto no = [&](const Matrix& x) { return ragged<const Matrix>{x, none}; };
  const auto got = attend.with_lse(no(q), no(k), no(v));
  EXPECT_TRUE(got.out.isZero(0) && (got.lse.array() == -infinity).all());
  EXPECT_EQ(got.out.rows(), 12);
  Matrix table = Matrix::Zero(4, 4), d_table = Matrix::Constant(4, 4, nan);
  const std::vector<float> two(2);
  std::vector<float> d_slopes(2, nan), d_logits(2, nan);
  Matrix d_q = Matrix::Constant(12, 8, nan), d_k = d_q, d_v = d_q;
  attend.backward_into(ragged{d_q, none}, ragged{d_k, none}, ragged{d_v, none}, no(q), no(k), no(v),
                       no(got.out), no(got.lse), no(d_o), fovea::bias(table, d_table),
                       fovea::alibi{two, 0, d_slopes}, fovea::sink{two, d_logits});
  EXPECT_TRUE(d_q.isZero(0) && d_k.isZero(0) && d_v.isZero(0) && d_table.isZero(0));
  EXPECT_EQ(d_slopes, two);
  EXPECT_EQ(d_logits, two);
  const auto d = attend.backward(no(q), no(k), no(v), no(got.out), no(got.lse), no(d_o));
  EXPECT_TRUE(d.d_q.isZero(0) && d.d_k.isZero(0) && d.d_v.isZero(0));
  EXPECT_EQ(attend.weights(no(q), no(k)).size(), 0);
  EXPECT_EQ(attend.scores(no(q), no(k)).size(), 0);
  EXPECT_EQ(attend.received(no(q), no(k)).size(), 0);
  EXPECT_EQ(attend.statistics(no(q), no(k)).entropy.size(), 0);
  const Matrix one = attend.weights_of(1, no(q), no(k));
  EXPECT_EQ(one.rows(), 12);
  EXPECT_EQ(attend.plan_for(no(q), no(k), no(v)).workspace_bytes(), 0);
}

/// Four sequences of 2, 0, 3 and 1 rows in 12, with lengths: rows 0, 3, 4, 8, 10 and 11 are of none, and NaN.
struct rows_between : testing::Test {
  const std::vector<int> offsets{1, 4, 5, 9};
  const std::vector<std::int64_t> lengths{2, 0, 3, 1};
  const std::vector<index_type> own{0, 2, 2, 5, 6}, of_sequences{1, 2, 5, 6, 7, 9};
  Matrix q = inputs(1), k = inputs(2), v = inputs(3), d_o = inputs(4);
  fovea::attention<float> attend{{.heads = 2}};

  Matrix inputs(unsigned seed) const {
    std::srand(seed);
    Matrix x = Matrix::Constant(12, 8, nan);
    for (const index_type i : of_sequences) x.row(i).setRandom();
    return x;
  }
  ragged<const Matrix> batch(const Matrix& x) const { return {x, offsets, lengths}; }
  Matrix packed(const Matrix& x) const {
    Matrix rows(6, x.cols());
    for (std::size_t i = 0; i < 6; ++i) rows.row(static_cast<index_type>(i)) = x.row(of_sequences[i]);
    return rows;
  }
  void expect(const Matrix& got, const Matrix& alone, float of_none) const {
    EXPECT_EQ(packed(got), alone);
    for (const index_type i : {0, 3, 4, 8, 10, 11}) EXPECT_TRUE((got.row(i).array() == of_none).all()) << i;
  }
};

TEST_F(rows_between, are_as_rows_that_see_no_key) {
  const Matrix qs = packed(q), ks = packed(k), vs = packed(v), ds = packed(d_o);
  const auto alone = attend.with_lse(ragged{qs, own}, ragged{ks, own}, ragged{vs, own}, fovea::causal);
  const auto got = attend.with_lse(batch(q), batch(k), batch(v), fovea::causal);
  expect(got.out, alone.out, 0), expect(got.lse, alone.lse, -infinity);
  Matrix o = Matrix::Constant(12, 8, nan), lse = Matrix::Constant(12, 2, nan);
  attend.with_lse_into(ragged{o, offsets, lengths}, ragged{lse, offsets, lengths}, batch(q), batch(k),
                       batch(v), fovea::causal);
  expect(o, alone.out, 0), expect(lse, alone.lse, -infinity);
  Matrix in_place = q;
  attend.into(ragged{in_place, offsets, lengths}, ragged{in_place, offsets, lengths}, batch(k), batch(v),
              fovea::causal);
  expect(in_place, alone.out, 0);

  const auto d = attend.backward(ragged{qs, own}, ragged{ks, own}, ragged{vs, own}, ragged{alone.out, own},
                                 ragged{alone.lse, own}, ragged{ds, own}, fovea::causal);
  for (const index_type i : {0, 3, 4, 8, 10, 11}) o.row(i).setConstant(nan), lse.row(i).setConstant(nan);
  Matrix d_q = Matrix::Constant(12, 8, nan), d_k = d_q, d_v = d_q;
  attend.backward_into(ragged{d_q, offsets, lengths}, ragged{d_k, offsets, lengths},
                       ragged{d_v, offsets, lengths}, batch(q), batch(k), batch(v), batch(o), batch(lse),
                       batch(d_o), fovea::causal);
  expect(d_q, d.d_q, 0), expect(d_k, d.d_k, 0), expect(d_v, d.d_v, 0);
  const auto returned =
      attend.backward(batch(q), batch(k), batch(v), batch(o), batch(lse), batch(d_o), fovea::causal);
  expect(returned.d_q, d.d_q, 0), expect(returned.d_k, d.d_k, 0), expect(returned.d_v, d.d_v, 0);

  const auto weights = attend.weights(batch(q), batch(k)),
             of_packed = attend.weights(ragged{qs, own}, ragged{ks, own});
  EXPECT_TRUE(std::equal(weights.data(), weights.data() + weights.size(), of_packed.data()));
  const Matrix one = attend.weights_of(0, batch(q), batch(k));
  expect(one, attend.weights_of(0, ragged{qs, own}, ragged{ks, own}), 0);
}

/// Queries lie apart and keys do not; large sequences, which are cut into jobs of both forms.
TEST_F(rows_between, of_queries_alone) {
  const std::vector<int> starts{3, 105, 190}, counts{90, 85, 7};
  const std::vector<int> packed_keys{0, 200, 290, 500};
  const Matrix keys = Matrix::Random(500, 8), values = Matrix::Random(500, 8);
  Matrix queries = Matrix::Constant(200, 8, nan);
  for (std::size_t b = 0; b < 3; ++b) queries.middleRows(starts[b], counts[b]).setRandom();
  const Matrix got = attend(ragged{queries, starts, counts}, ragged{keys, packed_keys},
                            ragged{values, packed_keys}, fovea::causal_bottom_right);
  Matrix expected = Matrix::Zero(200, 8);
  for (std::size_t b = 0; b < 3; ++b) {
    const index_type n = packed_keys[b + 1] - packed_keys[b];
    const Matrix of_q = queries.middleRows(starts[b], counts[b]), of_k = keys.middleRows(packed_keys[b], n),
                 of_v = values.middleRows(packed_keys[b], n);
    expected.middleRows(starts[b], counts[b]) = attend(of_q, of_k, of_v, fovea::causal_bottom_right);
  }
  EXPECT_EQ(got, expected);
}

TEST_F(rows_between, beside_caches_and_rotated) {
  fovea::kv_cache<float> first(8, 4, {.heads = 2}), second(8, 4, {.heads = 2});
  const Matrix ks = packed(k), vs = packed(v);
  first.append(ks.topRows(5), vs.topRows(5)), second.append(ks.topRows(3), vs.topRows(3));
  const std::vector<const fovea::kv_cache<float>*> both{&first, &second};
  const std::vector<int> two{1, 9}, counts{2, 1};
  const fovea::cache_batch caches(both);
  const Matrix got = attend(ragged{q, two, counts}, caches, fovea::causal);
  EXPECT_EQ(Matrix(got.middleRows(1, 2)), attend(q.middleRows(1, 2), first, fovea::causal));
  EXPECT_EQ(Matrix(got.row(9)), attend(q.row(9), second, fovea::causal));
  EXPECT_TRUE(got.topRows(1).isZero(0) && got.middleRows(3, 6).isZero(0) && got.bottomRows(2).isZero(0));
  fovea_test::expect_refused(
      [&] {
        attend_shared_prefix(attend, ragged{q, two, counts}, caches, 1);
      },
      "q has 2 lengths, but attend_shared_prefix reads all rows of its sequences as those of one: offsets "
      "alone say where they lie");

  const fovea::rotary_table<float> table(12, 4);
  const auto angles = table.angles();
  Matrix turned = q, alone = packed(q);
  fovea::rotate(ragged{turned, offsets, lengths}, angles, {.heads = 2});
  fovea::rotate(ragged{alone, own}, angles, {.heads = 2});
  EXPECT_EQ(packed(turned), alone);
  EXPECT_TRUE(turned.row(3).array().isNaN().all() && turned.row(8).array().isNaN().all());
}

TEST_F(rows_between, of_wrong_lengths) {
  using list = std::vector<int>;
  const auto refused = [&](const list& at, const list& counts, const std::string& text) {
    const ragged wrong{q, at, counts};
    fovea_test::expect_refused([&] { attend(wrong, wrong, wrong); }, text);
  };
  refused({0, 4}, {1}, "k has 2 offsets but 1 lengths; a batch of n sequences has n of both");
  refused({0, 4, 12}, {1, 1}, "k has 3 offsets but 2 lengths; a batch of n sequences has n of both");
  refused({0, 4}, {5, 1},
          "k's offset 1 is 4, but sequence 0 ends at 5: sequences follow each other and do not overlap");
  refused({6, 4}, {1, 1},
          "k's offset 1 is 4, but sequence 0 ends at 7: sequences follow each other and do not overlap");
  refused({0, 4}, {1, -1}, "k's length 1 is -1, not within 0 and the 8 tokens from offset 4 on");
  refused({0, 4}, {1, 9}, "k's length 1 is 9, not within 0 and the 8 tokens from offset 4 on");
  refused({0, 13}, {1, 0}, "k's offset 1 is 13, not within 0 and 12");
  refused({-1, 4}, {1, 1}, "k's offset 0 is -1, not within 0 and 12");
  const list no;
  const ragged none{q, no, no};
  EXPECT_TRUE(attend(none, none, none).isZero(0));
}

}  // namespace rows_of_none_test
