// tests/mask/expect_mask.hpp - a mask against what it means, said plainly: cells, what it promises of blocks,
// and calls.
#pragma once

#include "../support/max_abs.hpp"
#include "../support/random.hpp"
#include "../support/refusal.hpp"

#include <fovea/kv_cache.hpp>
#include <fovea/reference.hpp>

#include <gtest/gtest.h>

namespace mask_test {

using fovea::coverage;
using fovea::index_type;
using fovea::range;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using booleans = Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// The queries are the last tokens of the keys: a cache holds them where there are fewer.
inline fovea::place last_tokens(index_type queries, index_type keys) {
  return {.batch = 0,
          .head = 0,
          .batches = 1,
          .heads = 1,
          .queries = queries,
          .keys = keys,
          .in_cache = queries != keys};
}

enum class cover_is { a_promise, exact };

/// sees(q, k): what the mask means, q counted from the first key. What it says of blocks holds for their
/// cells; where it says that this is exact, it says all that can be said.
void expect_promises(const auto& mask, const fovea::place& at, cover_is how, const auto& sees) {
  fovea_test::random_source random(8);
  fovea::check_at(mask, at);
  decltype(auto) bound = fovea::bind_to(mask, at);
  const index_type queries = at.queries, keys = at.keys;
  booleans cells(queries, keys);
  for (index_type q = 0; q < queries; ++q)
    for (index_type k = 0; k < keys; ++k) {
      cells(q, k) = sees(keys - queries + q, k);
      ASSERT_EQ(cells(q, k), static_cast<bool>(fovea::visible_at(bound, fovea::cell{q, k}))) << q << " " << k;
    }
  for (int block = 0; block < 200; ++block) {
    const index_type i = random.integer(0, queries - 1), j = random.integer(0, keys - 1);
    const index_type most_rows = random.chance(0.5) ? 4 : queries, most_keys = random.chance(0.5) ? 9 : keys;
    const range rows{i, random.integer(i + 1, std::min(i + most_rows, queries))},
        columns{j, random.integer(j + 1, std::min(j + most_keys, keys))};
    const range reach = fovea::reach_of(bound, rows, keys), shown = fovea::shown_of(bound, rows, columns);
    const index_type next = fovea::next_of(bound, rows, j);
    index_type seen = 0;
    for (index_type q = rows.first; q < rows.last; ++q)
      for (index_type k = 0; k < keys; ++k) {
        if (!cells(q, k)) continue;
        ASSERT_TRUE(k >= reach.first && k < reach.last) << q << " " << k;
        ASSERT_TRUE(k < j || k >= next) << q << " " << k << " " << next;
        const bool inside = k >= j && k < columns.last;
        ASSERT_TRUE(!inside || (k >= shown.first && k < shown.last)) << q << " " << k;
        seen += inside;
      }
    const coverage covered = fovea::cover_of(bound, rows, columns),
                   is = seen == 0                              ? coverage::none
                        : seen == rows.size() * columns.size() ? coverage::full
                                                               : coverage::partial;
    if (how == cover_is::exact || covered != coverage::partial) {
      ASSERT_EQ(covered, is) << rows.first << "-" << rows.last << " " << columns.first << "-" << columns.last;
    }
  }
}

inline booleans cells_of(index_type queries, index_type keys, const auto& sees) {
  booleans cells(queries, keys);
  for (index_type q = 0; q < queries; ++q)
    for (index_type k = 0; k < keys; ++k) cells(q, k) = sees(keys - queries + q, k);
  return cells;
}

/// O and gradients as the matrix of booleans has them; with a cache the last rows get the same.
void expect_like_booleans(const auto& mask, index_type tokens, const auto& sees) {
  const booleans cells = cells_of(tokens, tokens, sees);
  const Matrix q = Matrix::Random(tokens, 32), k = Matrix::Random(tokens, 32), v = Matrix::Random(tokens, 32),
               d_out = Matrix::Random(tokens, 32);
  const fovea::attention<float, 2> attend;
  const auto got = attend.with_lse(q, k, v, mask);
  const auto expected = fovea::reference(q, k, v, {2}, fovea::boolean_mask(cells));
  for (index_type i = 0; i < tokens; ++i)
    for (index_type c = 0; c < 32; ++c)
      ASSERT_NEAR(static_cast<double>(got.out(i, c)), expected.out(0, c / 16, i, c % 16), 1e-5) << i;
  const auto d = attend.backward(q, k, v, got.out, got.lse, d_out, mask);
  const auto e = attend.backward(q, k, v, got.out, got.lse, d_out, fovea::boolean_mask(cells));
  EXPECT_LT(fovea_test::max_abs(d.d_q - e.d_q), 1e-5f);
  EXPECT_LT(fovea_test::max_abs(d.d_k - e.d_k), 1e-5f);
  EXPECT_LT(fovea_test::max_abs(d.d_v - e.d_v), 1e-5f);

  fovea::kv_cache<float, 2> cache{tokens, 16};
  cache.append(k, v);
  const Matrix last = q.bottomRows(5), o = attend(last, cache, mask);
  EXPECT_LT(fovea_test::max_abs(o - got.out.bottomRows(5)), 1e-5f);
}

}  // namespace mask_test
