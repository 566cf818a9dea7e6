// Windows and diagonals: numbers of any size mean what they say, and where a window stands is never guessed.
#include "../support/max_abs.hpp"
#include "../support/refusal.hpp"

#include <fovea/reference.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace windows_test {

using fovea::corner;
using fovea::index_type;
using fovea_test::expect_refused;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
__extension__ using wide = __int128;

constexpr index_type least = std::numeric_limits<index_type>::min(),
                     most = std::numeric_limits<index_type>::max();
constexpr index_type two31 = index_type(1) << 31, two32 = two31 * 2;
constexpr index_type sizes[] = {0,         5,     two31 - 1, two31,    two31 + 3,
                                two32 - 1, two32, two32 + 3, most - 1, most};

/// A causal diagonal and a window around another one.
struct numbers {
  index_type n, left, right, offset;

  bool shows(index_type q, index_type k) const {
    const wide at = wide(q) + offset;
    return wide(k) <= wide(q) + n && (left < 0 || k >= at - left) && (right < 0 || k <= at + right);
  }
  auto mask() const {
    return fovea::causal_offset{n} & fovea::sliding_window{.left = left, .right = right, .offset = offset};
  }
};

/// Each number large on either side of zero, alone and beside the others.
std::vector<numbers> large_numbers() {
  std::vector<numbers> all;
  for (const index_type x : sizes) {
    for (const index_type n : {x, -x}) all.push_back({n, -1, -1, 0});
    all.push_back({most, x, -1, 0}), all.push_back({most, -1, x, 0});
    all.push_back({most, x, 0, 0}), all.push_back({most, 0, x, 0}), all.push_back({0, x, x, 0});
    for (const index_type offset : {x, -x, least})
      for (const index_type side : {index_type(0), index_type(7), x})
        all.push_back({most, side, 0, offset}), all.push_back({most, 0, side, offset}),
            all.push_back({most, side, side, offset});
  }
  all.push_back({least, -1, -1, 0}), all.push_back({most, most, most, most}),
      all.push_back({most, most, 9, most - 2});
  return all;
}

TEST(windows, numbers_of_any_size_in_cells_and_blocks) {
  for (const fovea::place& at : {fovea::place{0, 0, 1, 1, 40, 40}, {0, 0, 1, 1, 3, 50}, {0, 0, 1, 1, 50, 3}})
    for (const numbers& x : large_numbers()) {
      const auto mask = x.mask().bind(at);
      for (index_type q = 0; q < at.queries; ++q) {
        const auto reach = fovea::reach_of(mask, {q, q + 1}, at.keys);
        for (index_type k = 0; k < at.keys; ++k) {
          const bool shown = x.shows(q, k);
          ASSERT_EQ(fovea::visible_at(mask, fovea::cell{q, k}), shown)
              << x.n << " " << x.left << " " << x.right << " " << x.offset << " at " << q << " " << k;
          const auto covered = fovea::cover_of(mask, {q, q + 1}, {k, k + 1});
          ASSERT_EQ(covered, shown ? fovea::coverage::full : fovea::coverage::none);
          ASSERT_TRUE(!shown || (k >= reach.first && k < reach.last));
        }
      }
    }
}

/// Weights, results, statistics and dV, queries in lanes and few rows, of keys that all score the same: 1
/// / n each.
TEST(windows, numbers_of_any_size_in_calls) {
  const fovea::attention<float, 1> attend;
  for (const index_type queries : {3, 40}) {
    const index_type keys = 150;
    const Matrix q = Matrix::Zero(queries, 8), k = Matrix::Random(keys, 8), v = Matrix::Random(keys, 5);
    for (const numbers& x : large_numbers()) {
      Matrix p = Matrix::Zero(queries, keys);
      for (index_type i = 0; i < queries; ++i) {
        index_type n = 0;
        for (index_type j = 0; j < keys; ++j) n += x.shows(i, j);
        for (index_type j = 0; j < keys; ++j) p(i, j) = x.shows(i, j) ? 1 / static_cast<float>(n) : 0;
      }
      const auto mask = x.mask();
      const auto [out, lse] = attend.with_lse(q, k, v, mask);
      const auto statistics = attend.statistics(q, k, mask);
      const Matrix weights = attend.weights_of(0, q, k, mask);
      const auto d_v = attend.backward(q, k, v, out, lse, out, mask).d_v;
      const auto near = [](const Matrix& a, const Matrix& b) { return fovea_test::max_abs(a - b) < 1e-5f; };
      ASSERT_TRUE(near(weights, p) && near(out, p * v) && near(d_v, p.transpose() * (p * v)))
          << x.n << " " << x.left << " " << x.right << " " << x.offset;
      for (index_type i = 0; i < queries; ++i)
        ASSERT_EQ(statistics.visible(0, 0, i, 0), (p.row(i).array() > 0).count());
    }
  }
}

/// As long as positions of 32 bits can count, and one token longer. Strides of 0: no memory.
TEST(windows, of_the_longest_sequence) {
  const float zeros[8] = {};
  const auto rows = [&](index_type tokens) {
    return fovea::tensor_view<const float>{zeros, 1, 1, tokens, 1, 0, 0, 0, 1};
  };
  const fovea::attention<float> attend;
  const auto window = fovea::causal_bottom_right & fovea::sliding_window{.left = 255};
  const index_type longest = two31 - 1;
  const auto [out, lse] = attend.with_lse(rows(40), rows(longest), rows(longest), window);
  for (index_type i = 0; i < 40; ++i) EXPECT_NEAR(lse(0, 0, i, 0), std::log(256.0f), 1e-5f);
  fovea::tensor<float> o(1, 1, 40, 1);
  expect_refused([&] { attend.into(o, rows(40), rows(two31), rows(two31), window); },
                 {"k has 2147483648 tokens in a sequence, more than the 2147483647"});
  expect_refused([&] { attend.plan_for(rows(two31), rows(40), rows(40), window); },
                 {"q has 2147483648 tokens in a sequence, more than the 2147483647"});
}

/// What a mask shows of 2 queries and 4 keys.
template <class... Masks>
std::string seen(bool in_cache, const Masks&... masks) {
  const auto all = fovea::rules_of<fovea::mask_intersection>(masks...);
  const fovea::place at{0, 0, 1, 1, 2, 4, in_cache};
  all.check(at);
  const auto bound = all.bind(at);
  std::string cells;
  for (index_type q = 0; q < at.queries; ++q, cells += ' ')
    for (index_type k = 0; k < at.keys; ++k)
      cells += fovea::visible_at(bound.mask, fovea::cell{q, k}) ? '1' : '0';
  return cells;
}

TEST(windows, say_where_they_stand) {
  using window = fovea::sliding_window;
  for (const bool in_cache : {false, true}) {
    EXPECT_EQ(seen(in_cache, window{.left = 0, .right = 0, .offset = 1}), "0100 0010 ");
    EXPECT_EQ(seen(in_cache, window{.left = 0, .right = 0, .from = corner::top_left}), "1000 0100 ");
    EXPECT_EQ(seen(in_cache, window{.left = 0, .right = 0, .from = corner::bottom_right}), "0010 0001 ");
  }
  EXPECT_EQ(seen(true, window{.left = 1, .right = 0}), "0110 0011 ");
  EXPECT_EQ(seen(false, window{}), "1111 1111 ");
}

TEST(windows, follow_the_causal_mask_of_their_call) {
  const fovea::sliding_window window{.left = 1};
  const auto all = fovea::mask([](auto q, auto k) { return (k <= q) | (k == k); });
  for (const bool in_cache : {false, true}) {
    EXPECT_EQ(seen(in_cache, fovea::causal_top_left & window), "1000 1100 ");
    EXPECT_EQ(seen(in_cache, fovea::causal_bottom_right & window), "0110 0011 ");
    EXPECT_EQ(seen(in_cache, window & fovea::causal_bottom_right), "0110 0011 ");
    EXPECT_EQ(seen(in_cache, window, fovea::causal_bottom_right), "0110 0011 ");
    EXPECT_EQ(seen(in_cache, window & all, fovea::causal_bottom_right & all), "0110 0011 ");
    EXPECT_EQ(seen(in_cache, (all & (fovea::causal_offset{1} & all)) & (all & window)), "1100 0110 ");
    EXPECT_EQ(seen(in_cache, fovea::causal_bottom_right, fovea::causal_bottom_right & window), "0110 0011 ");
    // the complement of a mask stands where the mask does
    EXPECT_EQ(seen(in_cache, (!fovea::causal_bottom_right) & fovea::sliding_window{.right = 1}),
              "0001 0000 ");
    EXPECT_EQ(seen(in_cache, !(fovea::causal_bottom_right & window)), "1001 1100 ");
  }
  EXPECT_EQ(seen(true, fovea::causal & window), "0110 0011 ");
}

TEST(windows, that_could_stand_anywhere_are_refused) {
  const Matrix q = Matrix::Random(2, 4), k = Matrix::Random(4, 4);
  const fovea::attention<float, 1> attend;
  const auto refused = [&](const char* sentence, const auto&... masks) {
    expect_refused([&] { attend.plan_for(q, k, k, masks...); }, {sentence});
    expect_refused([&] { fovea::reference(q, k, k, {}, masks...); }, {sentence});
  };
  const fovea::sliding_window window{.left = 1};
  const char* const choices =
      "sliding_window needs as many queries as keys, not 2 queries and 4 keys; say .from = "
      "fovea::corner::top_left "
      "(the first query stands at the first key), .from = fovea::corner::bottom_right (the last at the last) "
      "or "
      ".offset = n (the first query stands at key n), or join it to a causal mask that says so: "
      "causal_top_left, "
      "causal_bottom_right, causal_offset{n}";
  refused(choices, window);
  refused(choices, fovea::sliding_window{.right = 0});
  refused(choices, !window);
  const auto two = fovea::causal_top_left & fovea::causal_offset{1};
  const char* const either =
      "sliding_window stands beside causal_top_left (k <= q + 0) and causal_offset (k <= q + 1), and could "
      "be relative "
      "to either; say .from = ";
  refused(either, two & window);
  refused(either, window, two);
  refused(
      "sliding_window has both an offset, 3, and a corner to start from, bottom_right; one of them is enough",
      fovea::sliding_window{.left = 1, .offset = 3, .from = corner::bottom_right});
  EXPECT_NO_THROW(attend.plan_for(q, k, k, two, fovea::sliding_window{.left = 1, .from = corner::top_left}));
  EXPECT_NO_THROW(attend.plan_for(q, q, q, window));
}

}  // namespace windows_test
