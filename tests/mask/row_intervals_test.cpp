// block_diffusion, chunked: what they say of blocks is so, exactly; results are those of their
// booleans.
#include "../support/random.hpp"
#include "../support/refusal.hpp"

#include <fovea/kv_cache.hpp>
#include <fovea/reference.hpp>

#include <gtest/gtest.h>

#include <string>

namespace row_intervals_test {

using fovea::coverage;
using fovea::index_type;
using fovea::range;
using fovea_test::expect_refused;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// sees(q, k): what the mask means, q counted from the first key.
void expect_exact(const auto& mask, index_type queries, index_type keys, const auto& sees) {
  fovea_test::random_source random(8);
  const fovea::place at{
      .batch = 0, .head = 0, .batches = 1, .heads = 1, .queries = queries, .keys = keys, .in_cache = true};
  fovea::check_at(mask, at);
  const auto bound = mask.bind(at);
  for (int block = 0; block < 200; ++block) {
    const index_type i = random.integer(0, queries - 1), j = random.integer(0, keys - 1);
    const range rows{i, random.integer(i + 1, queries)}, columns{j, random.integer(j + 1, keys)};
    const range reach = fovea::reach_of(bound, rows, keys);
    index_type seen = 0;
    for (index_type q = rows.first; q < rows.last; ++q)
      for (index_type k = 0; k < keys; ++k) {
        const bool now = sees(keys - queries + q, k);
        ASSERT_EQ(now, bound.visible(fovea::cell{q, k})) << q << " " << k;
        ASSERT_TRUE(!now || (k >= reach.first && k < reach.last));
        seen += now && k >= j && k < columns.last;
      }
    ASSERT_EQ(bound.cover(rows, columns), seen == 0                              ? coverage::none
                                          : seen == rows.size() * columns.size() ? coverage::full
                                                                                 : coverage::partial);
  }
}

/// O and gradients as the matrix of booleans has them.
void expect_like_booleans(const auto& mask, index_type tokens, const auto& sees) {
  const Matrix q = Matrix::Random(tokens, 32), k = Matrix::Random(tokens, 32), v = Matrix::Random(tokens, 32),
               d_out = Matrix::Random(tokens, 32);
  Eigen::Matrix<bool, -1, -1, Eigen::RowMajor> cells(tokens, tokens);
  for (index_type i = 0; i < tokens; ++i)
    for (index_type j = 0; j < tokens; ++j) cells(i, j) = sees(i, j);
  const fovea::attention<float, 2> attend;
  const auto got = attend.with_lse(q, k, v, mask);
  const auto expected = fovea::reference(q, k, v, {2}, fovea::boolean_mask(cells));
  for (index_type i = 0; i < tokens; ++i)
    for (index_type c = 0; c < 32; ++c)
      ASSERT_NEAR(static_cast<double>(got.out(i, c)), expected.out(0, c / 16, i, c % 16), 1e-5) << i;
  const auto d = attend.backward(q, k, v, got.out, got.lse, d_out, mask);
  const auto e = attend.backward(q, k, v, got.out, got.lse, d_out, fovea::boolean_mask(cells));
  EXPECT_LT((d.d_q - e.d_q).cwiseAbs().maxCoeff(), 1e-5f);
  EXPECT_LT((d.d_k - e.d_k).cwiseAbs().maxCoeff(), 1e-5f);
  EXPECT_LT((d.d_v - e.d_v).cwiseAbs().maxCoeff(), 1e-5f);

  fovea::kv_cache<float, 2> cache{tokens, 16};  // and with a cache the last rows get the same
  cache.append(k, v);
  const Matrix last = q.bottomRows(5), o = attend(last, cache, mask);
  EXPECT_LT((o - got.out.bottomRows(5)).cwiseAbs().maxCoeff(), 1e-5f);
}

void expect_all(const auto& mask, const auto& sees) {
  expect_exact(mask, 90, 90, sees), expect_exact(mask, 37, 150, sees);
  expect_like_booleans(mask, 90, sees), expect_like_booleans(mask, 421, sees);
}

TEST(block_diffusion, sees_its_block_and_those_before) {
  for (const index_type b : {1, 5, 16, 64, 1000})
    expect_all(fovea::block_diffusion{b}, [b](index_type q, index_type k) { return q / b >= k / b; });
}

TEST(chunked, sees_its_chunk) {
  for (const index_type c : {1, 5, 16, 64, 1000})
    expect_all(fovea::chunked{c}, [c](index_type q, index_type k) { return q / c == k / c; });
  expect_like_booleans(fovea::causal & fovea::chunked{48}, 300,
                       [](index_type q, index_type k) { return q / 48 == k / 48 && k <= q; });
}

TEST(row_intervals, refuse_what_does_not_fit) {
  const Matrix q = Matrix::Random(7, 16), k = Matrix::Random(8, 16);
  const fovea::attention<float, 1> attend;
  const auto refused = [&](const Matrix& x, const auto& mask, const char* why) {
    expect_refused([&] { attend(x, k, k, mask); }, std::string(why));
  };
  refused(q, fovea::block_diffusion{4},
          "block_diffusion needs as many queries as keys, not 7 queries and 8 keys");
  refused(k, fovea::block_diffusion{0}, "block_diffusion's size is 0, not within 1 and 2147483647");
  refused(q, fovea::chunked{4}, "chunked needs as many queries as keys, not 7 queries and 8 keys");
  refused(k, fovea::chunked{-3}, "chunked's size is -3, not within 1 and 2147483647");
}

}  // namespace row_intervals_test
