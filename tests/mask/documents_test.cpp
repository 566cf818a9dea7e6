// documents{ids}: what it says of blocks is so, exactly; documents get what they get alone; blocks of others
// are skipped.
#include "../support/max_abs.hpp"
#include "../support/random.hpp"
#include "../support/refusal.hpp"

#include <fovea/kv_cache.hpp>
#include <fovea/reference.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace documents_test {

using fovea::coverage;
using fovea::documents;
using fovea::index_type;
using fovea::range;
using fovea_test::expect_refused;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

enum class order { rising, any, mixed };

/// Ids of documents of up to `longest` tokens; mixed: a document's tokens do not follow each other.
template <class E>
std::vector<E> ids_of(order o, index_type tokens, index_type longest, fovea_test::random_source& random) {
  std::vector<E> ids;
  index_type left = 0, id = 0;
  for (index_type t = 0; t < tokens; ++t) {
    if (left-- == 0 || o == order::mixed) {
      left = random.integer(0, longest - 1);
      id = o == order::rising ? std::min<index_type>(id + random.integer(1, 2), 120) : random.integer(0, 9);
    }
    ids.push_back(static_cast<E>(id));
  }
  return ids;
}

template <class E>
void expect_exact(const std::vector<E>& of_queries, const std::vector<E>& of_keys, const auto& mask,
                  fovea_test::random_source& random) {
  const auto queries = static_cast<index_type>(of_queries.size()),
             keys = static_cast<index_type>(of_keys.size());
  const fovea::place at{0, 0, 1, 1, queries, keys};
  mask.check(at);
  const auto bound = mask.bind(at);
  const auto sees = [&](index_type q, index_type k) {
    return of_queries[static_cast<std::size_t>(q)] == of_keys[static_cast<std::size_t>(k)];
  };
  for (int block = 0; block < 60; ++block) {
    const index_type i = random.integer(0, queries - 1), i_end = random.integer(i + 1, queries);
    const index_type j = random.integer(0, keys - 1), j_end = random.integer(j + 1, keys);
    const range rows{i, i_end}, reach = fovea::reach_of(bound, rows, keys);
    const index_type next = fovea::next_of(bound, rows, j);
    bool all = true, any = false;
    for (index_type q = i; q < i_end; ++q)
      for (index_type k = 0; k < keys; ++k) {
        const bool seen = sees(q, k);
        ASSERT_EQ(seen, bound.visible(fovea::cell{q, k}));
        if (k >= j && k < j_end) all = all && seen, any = any || seen;
        ASSERT_TRUE(!seen || (k >= reach.first && k < reach.last)) << q << " " << k << " beyond reach";
        ASSERT_TRUE(!seen || k < j || k >= next) << q << " " << k << " is skipped, " << j << " to " << next;
      }
    ASSERT_EQ(bound.cover(rows, {j, j_end}), all ? coverage::full : any ? coverage::partial : coverage::none);
  }
}

template <class E>
void expect_exact_of(fovea_test::random_source& random) {
  for (const order o : {order::rising, order::any, order::mixed})
    for (const index_type longest : {1, 7, 60, 400}) {
      const auto keys = ids_of<E>(o, 203, longest, random), queries = ids_of<E>(o, 91, longest, random);
      expect_exact(keys, keys, documents{keys}, random);
      expect_exact(queries, keys, documents{queries, keys}, random);
      expect_exact(keys, queries, documents{keys, queries}, random);
      // Of column-major rows: numbers that are two apart.
      Eigen::Matrix<E, 2, Eigen::Dynamic> two(2, 203);
      for (index_type t = 0; t < 203; ++t) two(0, t) = E(1), two(1, t) = keys[static_cast<std::size_t>(t)];
      const auto row = two.row(1);
      expect_exact(keys, keys, documents{row}, random);
    }
}

TEST(documents, say_of_blocks_what_is_so_of_cells) {
  fovea_test::random_source random(3);
  expect_exact_of<std::int8_t>(random), expect_exact_of<std::uint16_t>(random), expect_exact_of<int>(random);
  expect_exact_of<std::uint64_t>(random);
  // Ids that no float holds, and that differ in their upper half alone.
  const std::vector<std::int64_t> large{(1 << 24) + 1, 1 << 24, (std::int64_t(1) << 40) + 7, 7, 7};
  expect_exact(large, large, documents{large}, random);
}

/// O, LSE and gradients as the matrix of booleans has them.
void expect_like_booleans(const std::vector<int>& ids, const auto&... masks) {
  const auto tokens = static_cast<index_type>(ids.size());
  const Matrix q = Matrix::Random(tokens, 32), k = Matrix::Random(tokens, 32), v = Matrix::Random(tokens, 32),
               d_out = Matrix::Random(tokens, 32);
  Eigen::Matrix<bool, -1, -1, Eigen::RowMajor> same(tokens, tokens);
  for (index_type i = 0; i < tokens; ++i)
    for (index_type j = 0; j < tokens; ++j)
      same(i, j) = ids[static_cast<std::size_t>(i)] == ids[static_cast<std::size_t>(j)];
  const fovea::attention<float, 2> attend;
  const auto got = attend.with_lse(q, k, v, masks..., documents{ids});
  const auto expected = fovea::reference(q, k, v, {2}, masks..., fovea::boolean_mask(same));
  for (index_type i = 0; i < tokens; ++i)
    for (index_type c = 0; c < 32; ++c)
      ASSERT_NEAR(static_cast<double>(got.out(i, c)), expected.out(0, c / 16, i, c % 16), 1e-5) << i;
  for (index_type i = 0; i < tokens; ++i)
    for (index_type h = 0; h < 2; ++h)
      if (const double lse = expected.lse(0, h, i, 0); std::isinf(lse))
        ASSERT_EQ(static_cast<double>(got.lse(i, h)), lse) << i;
      else
        ASSERT_NEAR(static_cast<double>(got.lse(i, h)), lse, 1e-5) << i;
  const auto d = attend.backward(q, k, v, got.out, got.lse, d_out, masks..., documents{ids});
  const auto e = attend.backward(q, k, v, got.out, got.lse, d_out, masks..., fovea::boolean_mask(same));
  EXPECT_LT(fovea_test::max_abs(d.d_q - e.d_q), 1e-5f);
  EXPECT_LT(fovea_test::max_abs(d.d_k - e.d_k), 1e-5f);
  EXPECT_LT(fovea_test::max_abs(d.d_v - e.d_v), 1e-5f);
}

TEST(documents, are_the_matrix_of_booleans) {
  fovea_test::random_source random(4);
  for (const index_type tokens : {1, 3, 50, 421})
    for (const order o : {order::rising, order::any, order::mixed}) {
      const auto ids = ids_of<int>(o, tokens, 150, random);
      expect_like_booleans(ids);
      expect_like_booleans(ids, fovea::causal);
      expect_like_booleans(ids, fovea::causal, fovea::sliding_window{.left = 9});
      expect_like_booleans(ids, fovea::sliding_window{.left = 0, .right = 0, .offset = 200});
    }
}

TEST(documents, get_what_they_get_alone) {
  const Matrix x = Matrix::Random(700, 32);
  std::vector<int> ids;
  const std::vector<index_type> offsets{0, 1, 40, 303, 303, 700};
  for (std::size_t d = 0; d + 1 < offsets.size(); ++d)
    for (index_type t = offsets[d]; t < offsets[d + 1]; ++t) ids.push_back(static_cast<int>(7 * d % 5));
  const fovea::attention<float, 2> attend;
  const fovea::ragged apart{x, offsets};
  const Matrix packed = attend(x, x, x, fovea::causal & documents{ids}),
               alone = attend(apart, apart, apart, fovea::causal);
  EXPECT_LT(fovea_test::max_abs(packed - alone), 1e-6f);
}

TEST(documents, of_queries_that_are_the_last_of_a_cache) {
  const Matrix k = Matrix::Random(600, 32), v = Matrix::Random(600, 32);
  std::vector<short> ids;
  for (int t = 0; t < 600; ++t) ids.push_back(static_cast<short>(t / 130));
  fovea::kv_cache<float, 2> cache{600, 16};
  cache.append(k, v);
  const fovea::attention<float, 2> attend;
  for (const index_type queries : {1, 4, 50, 130}) {
    const Matrix q = Matrix::Random(queries, 32);
    const std::vector<short> of_queries(ids.end() - queries, ids.end());
    const Matrix got = attend(q, cache, fovea::causal, documents{ids});
    EXPECT_EQ(got, attend(q, k, v, fovea::causal_bottom_right, documents{of_queries, ids}));
    // The last document alone, of the last 80 tokens.
    if (queries <= 80) {
      const Matrix last_k = k.bottomRows(80), last_v = v.bottomRows(80);
      const Matrix alone = attend(q, last_k, last_v, fovea::causal_bottom_right);
      EXPECT_LT(fovea_test::max_abs(got - alone), 1e-6f);
    }
  }
}

TEST(documents, of_batches_are_a_list_for_all_or_a_row_each) {
  const index_type tokens = 70;
  fovea::tensor<float> x(2, 2, tokens, 16);
  fovea_test::random_source random(5);
  for (index_type i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(random.uniform(-1, 1));
  Eigen::MatrixXi rows(2, tokens);
  for (index_type t = 0; t < tokens; ++t)
    rows(0, t) = static_cast<int>(t / 20), rows(1, t) = 5 - rows(0, t) / 2;
  const fovea::attention<float, 2> attend;
  const Matrix one = [&] {
    Matrix m(tokens, 32);
    for (index_type t = 0; t < tokens; ++t)
      for (index_type c = 0; c < 32; ++c) m(t, c) = x(1, c / 16, t, c % 16);
    return m;
  }();
  const auto expect_alone = [&](const auto& of_batch, const auto& mask) {
    const Matrix alone = attend(one, one, one, mask);
    for (index_type t = 0; t < tokens; ++t)
      for (index_type c = 0; c < 32; ++c) ASSERT_EQ(of_batch(1, c / 16, t, c % 16), alone(t, c));
  };
  const Eigen::VectorXi second = rows.row(1).transpose();
  expect_alone(attend(x, x, x, documents{rows}), documents{second});
  expect_alone(attend(x, x, x, documents{second}), documents{second});
  ASSERT_NE(attend(one, one, one), attend(one, one, one, documents{second}));

  // Sequences of different length: a row is as long as its sequence, or longer.
  const std::vector<int> offsets{0, 20, 70};
  const fovea::ragged packed{one, offsets};
  const Matrix got = attend(packed, packed, packed, documents{rows});
  const Matrix last = one.bottomRows(50);
  const Eigen::VectorXi of_last = second.head(50);
  EXPECT_EQ(Matrix(got.bottomRows(50)), attend(last, last, last, documents{of_last}));
}

TEST(documents, blocks_of_others_are_skipped) {
  const index_type tokens = 4096, each = 512;
  const Matrix x = Matrix::Random(tokens, 16);
  std::vector<int> rising, any;
  for (index_type t = 0; t < tokens; ++t)
    rising.push_back(static_cast<int>(t / each)), any.push_back(static_cast<int>(t / each * 5 % 8));
  const fovea::attention<float, 1> attend;
  const auto all = attend.plan_for(x, x, x, fovea::causal_offset{tokens});
  const index_type blocks = all.full_blocks;
  for (const auto& ids : {rising, any}) {
    const auto plan = attend.plan_for(x, x, x, documents{ids});
    EXPECT_EQ(plan.full_blocks + plan.partial_blocks + plan.hidden_blocks, blocks);
    EXPECT_GE(plan.hidden_blocks, blocks * 3 / 4);
    EXPECT_LE(plan.longest_span, 2 * each + plan.rows_a_job + 2 * plan.key_block);
    // Blocks that are not computed are not read: NaN there does not reach a row of another document.
    Matrix poisoned = x;
    poisoned.topRows(each).setConstant(std::numeric_limits<float>::quiet_NaN());
    const Matrix clean = attend(x, x, x, documents{ids}),
                 got = attend(poisoned, poisoned, poisoned, documents{ids});
    EXPECT_EQ(Matrix(got.bottomRows(tokens - each)), Matrix(clean.bottomRows(tokens - each)));
    EXPECT_TRUE(got.topRows(each).array().isNaN().all());
  }
}

TEST(documents, are_as_many_as_tokens) {
  const Matrix q = Matrix::Random(3, 16), k = Matrix::Random(7, 16);
  const fovea::attention<float, 1> attend;
  const std::vector<int> three(3), seven(7);
  const Eigen::MatrixXi rows = Eigen::MatrixXi::Zero(2, 7), narrow = Eigen::MatrixXi::Zero(1, 5);
  const auto refused = [&](const Matrix& queries, const auto& mask, const std::string& text) {
    expect_refused([&] { attend(queries, k, k, mask); }, text);
  };
  refused(k, documents{three}, "documents' ids has 3 entries for 7 keys");
  refused(
      q, documents{seven},
      "documents needs as many queries as keys, not 3 queries and 7 keys; say documents{query_ids, key_ids}");
  refused(q, documents{seven, three}, "documents' key_ids has 3 entries for 7 keys");
  refused(q, documents{seven, seven}, "documents' query_ids has 7 entries for 3 queries");
  refused(k, documents{rows}, "documents' ids has 2 rows for 1 sequences");
  refused(k, documents{narrow}, "documents' ids has 5 columns, fewer than the 7 keys of sequence 0");
  attend(q, k, k, documents{three, seven});

  std::vector<int> ids{0, 0, 1, 1, 2, 2, 2};
  const documents rising{ids};
  ids[4] = 0;
  refused(
      k, rising,
      "documents' ids fell from 1 to 0 at token 4 after the mask was made, when they did not fall; make the "
      "mask anew where ids change");
  const documents any{ids};
  ids[4] = 2;
  EXPECT_EQ(attend(k, k, k, any), attend(k, k, k, rising));
}

TEST(documents, share_no_memory_with_a_result) {
  Matrix q = Matrix::Random(7, 16), o(7, 16);
  const fovea::attention<float, 1> attend;
  const std::span<const int> inside(reinterpret_cast<const int*>(o.data()), 7);
  o.setZero();
  EXPECT_THROW(attend.into(o, q, q, q, documents{inside}), std::invalid_argument);
}

}  // namespace documents_test
