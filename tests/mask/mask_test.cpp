// What masks say of blocks agrees with what they say of cells; masks join; masks of a user's own.
#include "../support/random.hpp"
#include "../support/refusal.hpp"

#include <fovea/attention.hpp>
#include <fovea/kv_cache.hpp>

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace {

using fovea::coverage;
using fovea::index_type;
using fovea::range;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

static_assert(fovea::mask_like<fovea::causal_mask> && fovea::mask_like<fovea::sliding_window>);
static_assert(!fovea::mask_like<int> && !fovea::mask_like<fovea::sink>);

/// A block is `full` only if all its cells are visible, `none` only if none is; nothing outside of reach is
/// visible.
template <class M>
void expect_true_of_cells(const M& unbound, const fovea::place& at) {
  const auto m = fovea::bind_to(unbound, at);
  const int queries = static_cast<int>(at.queries), keys = static_cast<int>(at.keys);
  fovea_test::random_source random(1);
  for (int block = 0; block < 400; ++block) {
    const int i = static_cast<int>(random.integer(0, queries - 1)),
              i_end = static_cast<int>(random.integer(i + 1, queries));
    const int j = static_cast<int>(random.integer(0, keys - 1)),
              j_end = static_cast<int>(random.integer(j + 1, keys));
    const coverage covered = fovea::cover_of(m, {i, i_end}, {j, j_end});
    const range reach = fovea::reach_of(m, {i, i_end}, keys);
    for (int q = i; q < i_end; ++q)
      for (int k = j; k < j_end; ++k) {
        const bool visible = m.visible(q, k);
        ASSERT_TRUE(visible || covered != coverage::full) << q << " " << k;
        ASSERT_TRUE(!visible || covered != coverage::none) << q << " " << k;
        ASSERT_TRUE(!visible || (k >= reach.first && k < reach.last)) << q << " " << k << " beyond reach";
      }
  }
}

constexpr fovea::place square{0, 0, 1, 1, 40, 40}, wide{0, 0, 1, 1, 30, 50}, tall{0, 0, 1, 1, 50, 30};

TEST(mask, blocks_agree_with_cells) {
  expect_true_of_cells(fovea::causal, square);
  for (const fovea::place& at : {square, wide, tall}) {
    expect_true_of_cells(fovea::causal_top_left, at);
    expect_true_of_cells(fovea::causal_bottom_right, at);
    for (const index_type n : {-60, -3, 0, 7, 60}) expect_true_of_cells(fovea::causal_offset{n}, at);
    for (const index_type left : {-1, 0, 1, 12})
      for (const index_type right : {-1, 0, 2, 30})
        for (const index_type offset : {-20, 0, 5})
          expect_true_of_cells(fovea::sliding_window{.left = left, .right = right, .offset = offset}, at);
    const std::vector<index_type> length = {17}, nothing = {0};
    expect_true_of_cells(fovea::key_lengths{length}, at);
    expect_true_of_cells(fovea::key_lengths{nothing}, at);
    expect_true_of_cells(fovea::left_padding{length}, at);
    for (const index_type offset : {-60, -3, 0, 7, 60})
      for (const auto* lengths : {&length, &nothing})
        expect_true_of_cells(fovea::prefix{*lengths, offset}, at);
  }
}

TEST(mask, visible_cells) {
  const auto seen = [](const auto& mask, const fovea::place& at) {
    const auto m = fovea::bind_to(mask, at);
    std::string cells;
    for (int q = 0; q < at.queries; ++q) {
      for (int k = 0; k < at.keys; ++k) cells += m.visible(q, k) ? '1' : '0';
      cells += ' ';
    }
    return cells;
  };
  constexpr fovea::place at{0, 0, 1, 1, 2, 4};
  EXPECT_EQ(seen(fovea::causal_top_left, at), "1000 1100 ");
  EXPECT_EQ(seen(fovea::causal_bottom_right, at), "1110 1111 ");
  EXPECT_EQ(seen(fovea::causal_offset{1}, at), "1100 1110 ");
  EXPECT_EQ(seen(fovea::causal_offset{-1}, at), "0000 1000 ");
  EXPECT_EQ(seen(fovea::sliding_window{}, at), "1111 1111 ");
  EXPECT_EQ(seen(fovea::sliding_window{.left = 1}, at), "1111 1111 ");
  EXPECT_EQ(seen(fovea::sliding_window{.left = 0, .right = 1}, at), "1100 0110 ");
  EXPECT_EQ(seen(fovea::sliding_window{.left = 1, .right = 0, .offset = 2}, at), "0110 0011 ");
  const std::vector<index_type> three = {3};
  EXPECT_EQ(seen(fovea::key_lengths{three}, at), "1110 1110 ");
  EXPECT_EQ(seen(fovea::left_padding{three}, at), "0001 0001 ");
  EXPECT_EQ(seen(fovea::prefix{three, 2}, at), "1110 1111 ");
  EXPECT_EQ(seen(fovea::prefix{three, 0}, at), "1110 1110 ");
}

TEST(mask, joining_is_intersection) {
  const Matrix x = Matrix::Random(33, 8);
  const fovea::attention<float, 2> attend;
  const auto window = fovea::sliding_window{.left = 5, .right = 2};
  const Matrix joined = attend(x, x, x, fovea::causal & window);
  EXPECT_EQ(joined, attend(x, x, x, fovea::causal, window));
  EXPECT_EQ(joined, attend(x, x, x, window, fovea::causal));
  EXPECT_EQ(joined, attend(x, x, x, fovea::sliding_window{.left = 5, .right = 0}));
}

/// In calls of every form, and with a cache: what the matrix of its cells shows.
TEST(mask, prefix_in_calls) {
  const std::vector<int> lengths = {9};
  for (const auto& [queries, keys] :
       {std::pair<index_type, index_type>{33, 33}, {1, 40}, {3, 150}, {70, 300}}) {
    const Matrix q = Matrix::Random(queries, 8), k = Matrix::Random(keys, 8), v = Matrix::Random(keys, 8);
    const fovea::attention<float, 2> attend;
    Eigen::Matrix<bool, -1, -1> keep(queries, keys);
    for (index_type i = 0; i < queries; ++i)
      for (index_type j = 0; j < keys; ++j) keep(i, j) = j < 9 || j <= i + keys - queries;
    const fovea::prefix mask{lengths, keys - queries};
    const auto got = attend.with_lse(q, k, v, mask),
               expected = attend.with_lse(q, k, v, fovea::boolean_mask(keep));
    EXPECT_TRUE(got.out.isApprox(expected.out, 1e-5f));
    EXPECT_TRUE(got.lse.isApprox(expected.lse, 1e-5f));
    const auto g = attend.backward(q, k, v, got.out, got.lse, q, mask),
               h = attend.backward(q, k, v, got.out, got.lse, q, fovea::boolean_mask(keep));
    EXPECT_TRUE(g.d_q.isApprox(h.d_q, 1e-4f) && g.d_k.isApprox(h.d_k, 1e-4f) && g.d_v.isApprox(h.d_v, 1e-4f));
    fovea::kv_cache<float, 2> cache{keys, 4};
    cache.append(k, v);
    EXPECT_EQ(attend(q, cache, fovea::prefix{lengths}), got.out);
  }
  const Matrix x = Matrix::Random(30, 8);
  fovea_test::expect_refused(
      [&] { fovea::attention<float, 2>{}(Matrix(x.topRows(4)), x, x, fovea::prefix{lengths}); },
      "prefix needs as many queries as keys, not 4 queries and 30 keys; say .offset = n (the first query "
      "stands "
      "at key n)");
  const std::vector<int> long_one = {31};
  fovea_test::expect_refused([&] { fovea::attention<float, 2>{}(x, x, x, fovea::prefix{long_one}); },
                             "prefix's entry 0 is 31, not within 0 and the 30 keys");
}

TEST(mask, booleans_in_any_matrix) {
  const Matrix x = Matrix::Random(19, 6);
  const fovea::attention<float, 1> attend;
  const Eigen::Matrix<bool, -1, -1> keep = (Matrix::Random(19, 19).array() > 0).matrix();
  const Eigen::Matrix<std::uint8_t, -1, -1, Eigen::RowMajor> bytes = keep.cast<std::uint8_t>() * 200;
  Matrix hide = Matrix::Zero(19, 19);
  for (index_type q = 0; q < 19; ++q)
    for (index_type k = 0; k < 19; ++k)
      if (!keep(q, k) || k > q) hide(q, k) = -std::numeric_limits<float>::infinity();
  const Matrix expected = attend(x, x, x, fovea::bias(hide));
  EXPECT_TRUE(attend(x, x, x, fovea::boolean_mask(keep), fovea::causal_top_left).isApprox(expected, 1e-5f));
  EXPECT_EQ(attend(x, x, x, fovea::boolean_mask(keep)), attend(x, x, x, fovea::boolean_mask(bytes)));
}

/// One row for all queries, one column for all keys, by rows and by columns: the same bits.
TEST(mask, booleans_that_are_repeated) {
  const Matrix x = Matrix::Random(41, 6);
  const fovea::attention<float, 1> attend;
  const Eigen::Matrix<bool, 1, -1> row = (Matrix::Random(1, 41).array() > 0).matrix();
  const Eigen::Matrix<bool, -1, 1> column = row.transpose();
  const auto same = [&](bool by_row, index_type row_stride, index_type col_stride) {
    Eigen::Matrix<bool, -1, -1> by_columns = column.replicate(1, 41);
    if (by_row) by_columns = row.replicate(41, 1);
    const Eigen::Matrix<bool, -1, -1, Eigen::RowMajor> by_rows = by_columns;
    const index_type rows = row_stride == 0 ? 1 : 41, cols = col_stride == 0 ? 1 : 41;
    const fovea::tensor_view<const bool> view{row.data(), 1, 1, rows, cols, 0, 0, row_stride, col_stride};
    const Matrix repeated = attend(x, x, x, fovea::boolean_mask(view));
    EXPECT_EQ(repeated, attend(x, x, x, fovea::boolean_mask(by_columns)));
    EXPECT_EQ(repeated, attend(x, x, x, fovea::boolean_mask(by_rows)));
  };
  same(true, 0, 1);
  same(false, 1, 0);
}

/// What is said of a block of elements of any integer is so, and all that can be said.
template <class E>
void expect_exact_cover(const std::vector<std::int64_t>& shown) {
  fovea_test::random_source random(2);
  for (int round = 0; round < 300; ++round) {
    const double density = round % 3 == 0 ? 0.0 : round % 3 == 1 ? 1.0 : 0.9;
    Eigen::Matrix<E, -1, -1, Eigen::RowMajor> m(5, 67);
    for (E& e : m.reshaped()) e = random.chance(density) ? E(random.pick(shown)) : E(0);
    if (round % 2) m(random.integer(0, 4), random.integer(0, 66)) = density == 1 ? E(0) : E(shown[0]);
    const bool turned = round % 5 == 0;  // read by columns
    const fovea::matrix_view<const E> keep{m.data(), 5, 67, turned ? 1 : 67, turned ? 5 : 1};
    const index_type first = random.integer(0, 66), last = random.integer(first + 1, 67);
    bool all = true, any = false;
    for (index_type q = 1; q < 4; ++q)
      for (index_type k = first; k < last; ++k) all = all && keep(q, k) != 0, any = any || keep(q, k) != 0;
    const auto covered = fovea::boolean_cells<fovea::matrix_view<const E>>{keep}.cover({1, 4}, {first, last});
    ASSERT_EQ(covered, all ? coverage::full : any ? coverage::partial : coverage::none) << round;
  }
}

TEST(mask, what_booleans_cover) {
  expect_exact_cover<bool>({1});
  expect_exact_cover<std::uint8_t>({1, 127, 128, 200, 255});
  expect_exact_cover<std::int16_t>({1, -1, 0x100, 0x80, std::numeric_limits<std::int16_t>::min()});
  expect_exact_cover<std::int32_t>({1, -1, 0x10000, 0x8000, std::numeric_limits<std::int32_t>::min()});
  expect_exact_cover<std::int64_t>({1, -1, index_type(1) << 32});
}

/// As short as a mask of one's own can be.
struct even_keys {
  auto visible(const auto&, const auto& k) const {
    using position = std::remove_cvref_t<decltype(k)>;
    return (k & position(1)) == position(0);
  }
};

TEST(mask, of_a_user) {
  const Matrix x = Matrix::Random(21, 4);
  Matrix chosen(11, 4);
  for (index_type i = 0; i < 11; ++i) chosen.row(i) = x.row(2 * i);
  const fovea::attention<float, 1> attend;
  const Matrix got = attend(x, x, x, even_keys{});
  EXPECT_TRUE(got.isApprox(attend(x, chosen, chosen), 1e-5f));
  EXPECT_EQ(
      got, attend(x, x, x, fovea::mask([](auto, auto k) { return (k & decltype(k)(1)) == decltype(k)(0); })));
}

}  // namespace
