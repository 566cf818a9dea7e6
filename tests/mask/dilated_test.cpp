// Dilated masks, whose tokens calls sort by remainder: results, gradients and bits.
#include "../support/max_abs.hpp"
#include "expect_mask.hpp"

#include <fovea/executor.hpp>

#include <array>

namespace dilated_test {

using fovea::index_type;
using mask_test::booleans, mask_test::cells_of, mask_test::Matrix;

/// Gradients, of tokens sorted by remainder, are those of the same mask as booleans; of keys that no query
/// sees they are 0.
void expect_gradients_like_booleans(index_type queries, index_type keys, index_type step, const auto& mask,
                                    const auto& sees, const auto&... mods) {
  constexpr index_type heads = 4, kv_heads = 2, dim = 16;
  const Matrix q = Matrix::Random(queries, heads * dim), k = Matrix::Random(keys, kv_heads * dim),
               v = Matrix::Random(keys, kv_heads * dim), d_out = Matrix::Random(queries, heads * dim);
  const fovea::attention<float, heads, kv_heads> attend;
  const booleans cells =
      cells_of(queries, keys, [&](index_type i, index_type j) { return sees(i - (keys - queries), j); });
  const auto as_booleans = fovea::boolean_mask(cells);
  const auto want = attend.with_lse(q, k, v, as_booleans, mods...),
             is = attend.with_lse(q, k, v, mask, mods...);
  EXPECT_LT(fovea_test::max_abs(is.out - want.out), 2e-6);
  const auto of_booleans = attend.backward(q, k, v, want.out, want.lse, d_out, as_booleans, mods...);
  const auto d = attend.backward(q, k, v, want.out, want.lse, d_out, mask, mods...);
  EXPECT_LT(fovea_test::max_abs(d.d_q - of_booleans.d_q), 1e-5);
  EXPECT_LT(fovea_test::max_abs(d.d_k - of_booleans.d_k), 1e-5);
  EXPECT_LT(fovea_test::max_abs(d.d_v - of_booleans.d_v), 1e-5);
  for (index_type j = 0; j < keys; ++j)
    EXPECT_TRUE(cells.col(j).any() || (d.d_k.row(j).isZero(0) && d.d_v.row(j).isZero(0))) << j;
  EXPECT_EQ(attend.plan_for(q, k, v, mask, mods...).batches, std::min(queries, step));
}

TEST(dilated, gradients_of_sorted_tokens) {
  for (const auto& [queries, keys, step] : {std::array<index_type, 3>{100, 100, 2},
                                            {300, 300, 7},
                                            {5, 90, 7},
                                            {60, 50, 200},
                                            {100, 20, 40},
                                            {1, 300, 64}}) {
    const index_type n = keys - queries + 3, s = step;
    const auto sees = [n, s](index_type q, index_type k) { return (q + n - k) % s == 0; };
    const fovea::dilated every{.step = s, .offset = n};
    expect_gradients_like_booleans(queries, keys, s, every, sees);
    const auto below = [&](index_type q, index_type k) { return sees(q, k) && k <= q + n - 3; };
    expect_gradients_like_booleans(
        queries, keys, s, fovea::causal_bottom_right & every, below, fovea::softcap{3.0f},
        fovea::score([](auto x, auto q, auto k) { return x - decltype(x)(0.01f) * (q - k); }));
  }
  std::vector<int> ids(200);
  for (std::size_t t = 0; t < ids.size(); ++t) ids[t] = static_cast<int>(t * 7 % 3);
  expect_gradients_like_booleans(200, 200, 5, fovea::documents{ids} & fovea::dilated{5} & fovea::causal,
                                 [&](index_type q, index_type k) {
                                   return k <= q && (q - k) % 5 == 0 &&
                                          ids[static_cast<std::size_t>(q)] ==
                                              ids[static_cast<std::size_t>(k)];
                                 });
}

TEST(dilated, has_the_same_bits_alone_and_for_any_executor) {
  constexpr index_type heads = 2, dim = 16;
  const std::vector<index_type> starts{0, 150, 151, 190}, key_starts{0, 200, 260, 310};  // diagonals differ
  const Matrix q = Matrix::Random(190, heads * dim), k = Matrix::Random(310, heads * dim),
               v = Matrix::Random(310, heads * dim);
  fovea::threads three{3};
  const fovea::attention<float, heads> attend, parallel{{.executor = three}};
  const auto mask = fovea::causal_bottom_right & fovea::dilated{7};
  const auto all =
      attend(fovea::ragged{q, starts}, fovea::ragged{k, key_starts}, fovea::ragged{v, key_starts}, mask);
  EXPECT_EQ(
      parallel(fovea::ragged{q, starts}, fovea::ragged{k, key_starts}, fovea::ragged{v, key_starts}, mask),
      all);
  for (std::size_t b = 0; b + 1 < starts.size(); ++b) {
    const auto rows = [b](const Matrix& x, const auto& at) -> Matrix {
      return x.middleRows(at[b], at[b + 1] - at[b]);
    };
    EXPECT_EQ(Matrix(attend(rows(q, starts), rows(k, key_starts), rows(v, key_starts), mask)),
              rows(all, starts))
        << b;
  }
  Matrix in_place = q;
  const Matrix own = k.topRows(190);
  attend.into(in_place, in_place, own, own, fovea::causal & fovea::dilated{7});
  EXPECT_EQ(in_place, Matrix(attend(q, own, own, fovea::causal & fovea::dilated{7})));
}

/// What is near and every n-th key, as two calls: results merge, gradients add up.
TEST(dilated, strided_as_two_calls) {
  constexpr index_type heads = 2, dim = 16, tokens = 300, step = 8;
  const auto random = [] { return Matrix(Matrix::Random(tokens, heads * dim)); };
  const Matrix q = random(), k = random(), v = random(), d_out = random();
  const fovea::attention<float, heads> attend;
  const fovea::sliding_window close{.left = step};
  const auto near = fovea::causal & close;
  const auto far = fovea::causal & fovea::dilated{step} & !close;
  const auto both = fovea::causal & (close | fovea::dilated{step});
  const auto one = attend.with_lse(q, k, v, both);
  const auto two = merge(attend.with_lse(q, k, v, near), attend.with_lse(q, k, v, far));
  EXPECT_LT(fovea_test::max_abs(one.out - two.out), 2e-6);
  EXPECT_LT(fovea_test::max_abs(one.lse - two.lse), 2e-6);
  const auto d = attend.backward(q, k, v, one.out, one.lse, d_out, both);
  const auto d_near = attend.backward(q, k, v, two.out, two.lse, d_out, near);
  const auto d_far = attend.backward(q, k, v, two.out, two.lse, d_out, far);
  EXPECT_LT(fovea_test::max_abs(d.d_q - d_near.d_q - d_far.d_q), 1e-5);
  EXPECT_LT(fovea_test::max_abs(d.d_k - d_near.d_k - d_far.d_k), 1e-5);
  EXPECT_LT(fovea_test::max_abs(d.d_v - d_near.d_v - d_far.d_v), 1e-5);
}

}  // namespace dilated_test
