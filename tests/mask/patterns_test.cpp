// Masks of sparse transformers: dilated, global_tokens, neighbourhood, big_bird, and what joins them, a | b.
#include "../support/max_abs.hpp"
#include "expect_mask.hpp"

#include <array>
#include <set>
#include <string>

namespace patterns_test {

using fovea::index_type;
using fovea_test::expect_refused;
using mask_test::expect_like_booleans, mask_test::expect_promises, mask_test::last_tokens, mask_test::Matrix;
using enum mask_test::cover_is;

void expect_promises_everywhere(const auto& mask, mask_test::cover_is how, const auto& sees) {
  expect_promises(mask, last_tokens(70, 70), how, sees),
      expect_promises(mask, last_tokens(37, 150), how, sees);
  expect_promises(mask, last_tokens(1, 90), how, sees);
}

TEST(dilated, sees_every_nth) {
  for (const index_type n : {1, 2, 7, 48, 100, 1000})
    expect_promises_everywhere(fovea::dilated{n}, exact,
                               [n](index_type q, index_type k) { return (q - k) % n == 0; });
  for (const index_type n : {3, 120})
    expect_like_booleans(fovea::dilated{n}, 260,
                         [n](index_type q, index_type k) { return (q - k) % n == 0; });
}

/// Offsets stand before what the call says, of any size, whatever else the call names.
TEST(dilated, stands_where_its_offset_says) {
  constexpr index_type most = std::numeric_limits<index_type>::max();
  const fovea::place at{.batch = 0, .head = 0, .batches = 1, .heads = 1, .queries = 40, .keys = 70};
  const std::vector<int> positions{9, 33};
  const auto global = [](index_type t) { return t == 9 || t == 33; };
  for (const index_type n : {index_type(0), index_type(30), index_type(-7), most, -most - 1}) {
    const auto every = fovea::dilated{.step = 5, .offset = n}.bind(at);
    const auto tokens = fovea::global_tokens{positions, n}.bind(at);
    for (index_type q = 0; q < at.queries; ++q)
      for (index_type k = 0; k < at.keys; ++k) {
        ASSERT_EQ(every.visible(fovea::cell{q, k}), (q + n % 5 - k) % 5 == 0) << n;
        const bool near = n > -100 && n < 100;
        ASSERT_EQ(tokens.visible(fovea::cell{q, k}), global(k) || (near && global(q + n))) << n;
      }
  }
  const Matrix q = Matrix::Random(3, 16), k = Matrix::Random(50, 16);
  const fovea::attention<float, 1> attend;
  EXPECT_EQ(Matrix(attend(q, k, k, fovea::dilated{.step = 5, .offset = 47})),
            Matrix(attend(q, k, k, fovea::causal_offset{50}, fovea::dilated{.step = 5, .offset = 47})));
  EXPECT_EQ(Matrix(attend(q, k, k, fovea::causal_bottom_right, fovea::global_tokens{positions})),
            Matrix(attend(q, k, k, fovea::causal_bottom_right, fovea::global_tokens{positions, 47})));
  fovea::kv_cache<float, 1> cache{50, 16};
  cache.append(k, k);
  EXPECT_EQ(Matrix(attend(q, cache, fovea::dilated{5})),
            Matrix(attend(q, k, k, fovea::dilated{.step = 5, .offset = 47})));
}

/// Quotients are exact up to the last number that is divided, next to multiples above all.
template <class T>
void expect_exact_quotients() {
  fovea_test::random_source random(2);
  for (int n = 0; n < 20000; ++n) {
    const index_type by = random.integer(1, random.chance(0.5) ? 100 : fovea::most_divided - 1);
    index_type x = random.integer(0, (fovea::most_divided - 1) / by) * by + random.integer(-1, 1);
    x = std::min(x, fovea::most_divided - 1) * (random.chance(0.3) ? -1 : 1);
    const index_type below = x / by - (x % by < 0);
    ASSERT_EQ(fovea::quotient(static_cast<T>(x), by), static_cast<T>(below)) << x << " / " << by;
    ASSERT_EQ(fovea::remainder_of(static_cast<T>(x), by), static_cast<T>(x - below * by)) << x << " / " << by;
  }
}
TEST(dilated, divides_exactly) { expect_exact_quotients<float>(), expect_exact_quotients<double>(); }

TEST(dilated, strided_is_a_window_and_columns) {
  for (const index_type l : {4, 100}) {
    const auto sees = [l](index_type q, index_type k) { return k <= q && (q - k <= l || (q - k) % l == 0); };
    const auto mask = fovea::causal & (fovea::sliding_window{.left = l} | fovea::dilated{l});
    expect_promises_everywhere(mask, a_promise, sees), expect_like_booleans(mask, 300, sees);
  }
}

TEST(global_tokens, see_and_are_seen) {
  for (const std::vector<int>& positions :
       {std::vector<int>{}, {0}, {0, 1, 2, 3}, {3, 17, 18, 66}, {5, 5, 69, 69}, {40, 41, 42, 43, 44, 45}}) {
    const auto global = [&](index_type t) {
      return std::find(positions.begin(), positions.end(), t) != positions.end();
    };
    expect_promises_everywhere(fovea::global_tokens{positions}, exact,
                               [&](index_type q, index_type k) { return global(q) || global(k); });
    const auto longformer = [&](index_type q, index_type k) {
      return global(q) || global(k) || std::abs(q - k) <= 6;
    };
    const auto mask = fovea::sliding_window{.left = 6, .right = 6} | fovea::global_tokens{positions};
    expect_promises_everywhere(mask, a_promise, longformer);
    if (positions.size() == 4) expect_like_booleans(mask, 300, longformer);
  }
}

TEST(global_tokens, of_each_sequence) {
  Eigen::Matrix<std::uint8_t, 2, 3, Eigen::RowMajor> positions;
  positions << 0, 4, 9, 7, 7, 7;
  const fovea::global_tokens mask{positions};
  fovea::place at{.batch = 0, .head = 0, .batches = 2, .heads = 1, .queries = 12, .keys = 12};
  EXPECT_TRUE(mask.bind(at).visible(fovea::cell{2, 9}));
  EXPECT_FALSE(mask.bind(at).visible(fovea::cell{2, 7}));
  at.batch = 1;
  EXPECT_FALSE(mask.bind(at).visible(fovea::cell{2, 9}));
  EXPECT_TRUE(mask.bind(at).visible(fovea::cell{7, 2}));
}

/// NATTEN's rule for one axis.
bool near(index_type q, index_type k, index_type size, index_type kernel, index_type dilation, bool causal) {
  if (q % dilation != k % dilation) return false;
  const index_type i = q / dilation, j = k / dilation, count = (size - 1 - q % dilation) / dilation + 1;
  if (causal) return j <= i && j > i - kernel;
  const index_type start = std::max<index_type>(0, std::min(i - kernel / 2, count - kernel));
  return j >= start && j < start + kernel;
}

template <int D>
auto neighbours(const fovea::neighbourhood<D>& m) {
  return [m](index_type q, index_type k) {
    bool all = true;
    for (std::size_t a = D; a-- > 0; q /= m.sizes[a], k /= m.sizes[a])
      all = all && near(q % m.sizes[a], k % m.sizes[a], m.sizes[a], m.kernel[a], m.dilation[a], m.causal[a]);
    return all;
  };
}

TEST(neighbourhood, is_that_of_natten) {
  const auto expect_all = [](const auto& mask) {
    index_type tokens = 1;
    for (const index_type n : mask.sizes) tokens *= n;
    expect_promises(mask, last_tokens(tokens, tokens), a_promise, neighbours(mask));
    expect_promises(mask, last_tokens(tokens / 3, tokens - 5), a_promise, neighbours(mask));
  };
  expect_all(fovea::neighbourhood<1>{.sizes = {90}, .kernel = {7}});
  expect_all(fovea::neighbourhood<1>{.sizes = {90}, .kernel = {90}});
  expect_all(fovea::neighbourhood<1>{.sizes = {90}, .kernel = {5}, .dilation = {7}, .causal = {true}});
  expect_all(fovea::neighbourhood<2>{.sizes = {9, 11}, .kernel = {3, 5}});
  expect_all(fovea::neighbourhood<2>{.sizes = {11, 9}, .kernel = {4, 2}, .dilation = {2, 3}});
  expect_all(fovea::neighbourhood<2>{.sizes = {12, 8}, .kernel = {3, 8}, .causal = {true, false}});
  expect_all(fovea::neighbourhood<2>{.sizes = {1, 70}, .kernel = {1, 33}});
  expect_all(fovea::neighbourhood<3>{.sizes = {4, 5, 6}, .kernel = {3, 3, 3}});
  expect_all(fovea::neighbourhood<3>{
      .sizes = {6, 4, 5}, .kernel = {2, 3, 2}, .dilation = {3, 1, 2}, .causal = {true, false, true}});
}

TEST(neighbourhood, shows_as_many_keys_at_borders) {
  const auto sees =
      neighbours(fovea::neighbourhood<2>{.sizes = {9, 11}, .kernel = {3, 4}, .dilation = {3, 2}});
  for (index_type q = 0; q < 99; ++q) {
    index_type seen = 0;
    for (index_type k = 0; k < 99; ++k) seen += sees(q, k);
    ASSERT_EQ(seen, 12);
  }
}

TEST(neighbourhood, in_calls) {
  const fovea::neighbourhood<2> plain{.sizes = {18, 20}, .kernel = {3, 5}},
      wide{.sizes = {9, 31}, .kernel = {4, 15}, .dilation = {2, 2}, .causal = {true, false}};
  expect_like_booleans(plain, 360, neighbours(plain)), expect_like_booleans(wide, 279, neighbours(wide));
  const fovea::neighbourhood<3> volume{.sizes = {5, 6, 7}, .kernel = {3, 3, 3}};
  const Eigen::MatrixXd q = Eigen::MatrixXd::Random(210, 16);
  const auto cells = mask_test::cells_of(210, 210, neighbours(volume));
  const fovea::attention<double, 1> attend;
  EXPECT_LT(fovea_test::max_abs(attend(q, q, q, volume) - attend(q, q, q, fovea::boolean_mask(cells))),
            1e-12);
}

/// What a block of queries sees, read off the cells.
std::set<index_type> blocks_seen(const fovea::big_bird& mask, index_type head, index_type tokens,
                                 index_type row) {
  const auto bound =
      mask.bind({.batch = 0, .head = head, .batches = 1, .heads = 2, .queries = tokens, .keys = tokens});
  std::set<index_type> seen;
  for (index_type k = 0; k < tokens; ++k)
    if (bound.visible(fovea::cell{row * mask.side, k})) seen.insert(k / mask.side);
  return seen;
}

TEST(big_bird, sees_neighbours_the_first_and_some) {
  for (const index_type random : {0, 1, 3, 100}) {
    const fovea::big_bird mask{.side = 16, .window = 3, .global = 2, .random = random, .seed = 5};
    const index_type tokens = 16 * 40 - 3;
    for (index_type i = 0; i < 40; ++i) {
      std::set<index_type> seen = blocks_seen(mask, 1, tokens, i), fixed{0, 1};
      for (index_type j = std::max<index_type>(i - 1, 0); j <= std::min<index_type>(i + 1, 39); ++j)
        fixed.insert(j);
      if (i < 2 || random == 100) {
        ASSERT_EQ(seen.size(), 40u);
        continue;
      }
      for (const index_type j : fixed) ASSERT_EQ(seen.count(j), 1u) << i << " " << j;
      ASSERT_EQ(seen.size(), fixed.size() + static_cast<std::size_t>(random)) << i;
    }
  }
}

TEST(big_bird, draws_evenly_and_anew_for_each_head_and_seed) {
  const index_type tokens = 16 * 40;
  std::array<int, 40> times{};
  int same_head = 0, same_seed = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed)
    for (index_type i = 20; i < 25; ++i) {
      const fovea::big_bird mask{.side = 16, .window = 1, .global = 0, .random = 2, .seed = seed},
          other{.side = 16, .window = 1, .global = 0, .random = 2, .seed = seed + 1000};
      const auto seen = blocks_seen(mask, 0, tokens, i);
      for (const index_type j : seen) ++times[static_cast<std::size_t>(j)];
      same_head += seen == blocks_seen(mask, 1, tokens, i),
          same_seed += seen == blocks_seen(other, 0, tokens, i);
      EXPECT_EQ(seen, blocks_seen(mask, 0, tokens, i));
    }
  for (std::size_t j = 0; j < 20; ++j) EXPECT_GT(times[j], 0) << j;  // 400 draws of 39, 10 each on average
  EXPECT_LT(*std::max_element(times.begin(), times.begin() + 20), 30);
  EXPECT_LT(same_head, 10);
  EXPECT_LT(same_seed, 10);
}

TEST(big_bird, in_calls) {
  const fovea::big_bird mask{.side = 17, .window = 3, .global = 1, .random = 2, .seed = 3, .tokens = 400};
  const auto bound = mask.bind(last_tokens(400, 400));
  const auto sees = [&](index_type q, index_type k) { return bound.visible(fovea::cell{q, k}); };
  expect_promises(mask, last_tokens(400, 400), exact, sees),
      expect_promises(mask, last_tokens(70, 350), exact, sees);
  // Heads draw for themselves: one head of the same numbers is a booleans' own.
  const Matrix q = Matrix::Random(400, 16), last = q.bottomRows(5);
  const auto cells = mask_test::cells_of(400, 400, sees);
  const fovea::attention<float, 1> attend;
  const auto got = attend.with_lse(q, q, q, mask),
             expected = attend.with_lse(q, q, q, fovea::boolean_mask(cells));
  EXPECT_LT(fovea_test::max_abs(got.out - expected.out), 1e-5f);
  const auto d = attend.backward(q, q, q, got.out, got.lse, q, mask),
             e = attend.backward(q, q, q, got.out, got.lse, q, fovea::boolean_mask(cells));
  EXPECT_LT(fovea_test::max_abs(d.d_q - e.d_q), 1e-5f);
  EXPECT_LT(fovea_test::max_abs(d.d_k - e.d_k), 1e-5f);
  fovea::kv_cache<float, 1> cache{400, 16};
  cache.append(q, q);
  EXPECT_LT(fovea_test::max_abs(attend(last, cache, mask) - got.out.bottomRows(5)), 1e-5f);
}

TEST(union_of_masks, shows_what_either_does) {
  const std::vector<int> lengths{9};
  const fovea::prefix prefix{lengths};
  const auto joined = fovea::causal | fovea::key_lengths{lengths};
  const auto sees = [](index_type q, index_type k) { return k <= q || k < 9; };
  expect_promises(joined, last_tokens(70, 70), a_promise, sees);
  expect_promises(prefix, last_tokens(70, 70), exact, sees);
  expect_like_booleans(joined, 200, sees);
  const Matrix q = Matrix::Random(200, 32);
  const fovea::attention<float, 2> attend;
  EXPECT_LT(fovea_test::max_abs(attend(q, q, q, joined) - attend(q, q, q, prefix)), 1e-6f);
}

/// A block that no part shows is not read, whatever lies around it: NaN there reaches nothing.
TEST(union_of_masks, hidden_keys_are_not_read) {
  const std::vector<int> first{0, 1};
  const auto mask = fovea::sliding_window{.left = 4, .right = 4} | fovea::global_tokens{first};
  const Matrix q = Matrix::Random(40, 16);
  Matrix k = Matrix::Random(2000, 16), v = k;
  const fovea::attention<float, 1> attend;
  fovea::kv_cache<float, 1> clean{2000, 16}, spoilt{2000, 16};
  clean.append(k, v);
  k.middleRows(2, 1950).setConstant(std::numeric_limits<float>::quiet_NaN());
  v.middleRows(2, 1950).setConstant(std::numeric_limits<float>::infinity());
  spoilt.append(k, v);
  EXPECT_EQ(Matrix(attend(q, clean, mask)), Matrix(attend(q, spoilt, mask)));
}

/// Numbers far beyond the tokens mean what they say. (Sanitizers find what overflows.)
TEST(patterns, take_numbers_of_any_size) {
  constexpr index_type most = std::numeric_limits<index_type>::max();
  const std::vector<int> positions{0, 4};
  const fovea::place at = last_tokens(40, 40);
  const auto one_block = fovea::big_bird{.side = most}.bind(at);
  EXPECT_EQ(one_block.cover({0, 40}, {0, 40}), fovea::coverage::full);
  EXPECT_EQ(fovea::big_bird{.tokens = fovea::most_positions}.bind(at).map.blocks, 33554432);
  for (const index_type n : {most, -most - 1}) {
    fovea::place named = at;
    named.name({"causal_offset", n});
    const auto far = (fovea::causal_offset{n} | fovea::global_tokens{positions}).bind(named);
    EXPECT_EQ(far.visible(fovea::cell{4, 7}), n > 0);
    EXPECT_TRUE(far.visible(fovea::cell{39, 4}));
  }
}

TEST(patterns, refuse_what_does_not_fit) {
  const Matrix q = Matrix::Random(7, 16), k = Matrix::Random(8, 16);
  const fovea::attention<float, 1> attend;
  const auto refused = [&](const Matrix& x, const auto& mask, const char* why) {
    expect_refused([&] { attend(x, k, k, mask); }, std::string(why));
  };
  const std::string joined =
      "; say .offset = n (the first query stands at key n), or join it to a causal mask that says so: "
      "causal_top_left, causal_bottom_right, causal_offset{n}";
  refused(q, fovea::dilated{2},
          ("dilated needs as many queries as keys, not 7 queries and 8 keys" + joined).c_str());
  refused(k, fovea::dilated{0}, "dilated's step is 0, not within 1 and 2097152");
  const std::vector<int> far{3, 8}, falling{3, 2}, negative{-1};
  refused(k, fovea::global_tokens{far},
          "global_tokens' position 1 is 8, not within 0 and the last of 8 keys");
  refused(k, fovea::global_tokens{negative},
          "global_tokens' position 0 is -1, not within 0 and the last of 8 keys");
  refused(k, fovea::global_tokens{falling}, "global_tokens' position 1 is 2, less than the one before, 3");
  using grid = fovea::neighbourhood<2>;
  refused(k, grid{.sizes = {2, 5}, .kernel = {1, 1}}, "neighbourhood's sizes hold 10 tokens, not 8 keys");
  refused(k, grid{.sizes = {2, 4}, .kernel = {3, 1}},
          "neighbourhood's kernel 0 is 3, dilated 1 times, not within 1 and the size of 2");
  refused(k, grid{.sizes = {2, 4}, .kernel = {1, 2}, .dilation = {1, 3}},
          "neighbourhood's kernel 1 is 2, dilated 3 times, not within 1 and the size of 4");
  refused(k, grid{.sizes = {0, 4}, .kernel = {1, 2}},
          "neighbourhood's size 0 is 0, not within 1 and 4194303");
  refused(q, grid{.sizes = {2, 4}, .kernel = {1, 1}},
          "neighbourhood needs as many queries as keys, not 7 queries and 8 keys");
  refused(k, fovea::big_bird{.side = 15}, "big_bird's side is 15, less than 16");
  refused(k, fovea::big_bird{.window = 2}, "big_bird's window is 2 blocks, not an odd number");
  refused(k, fovea::big_bird{.random = -1}, "big_bird's random blocks are -1, fewer than none");
  refused(k, fovea::big_bird{.tokens = index_type(1) << 62},
          "big_bird's tokens are 4611686018427387904, more than 2147483647");
  refused(k, fovea::big_bird{.tokens = 7}, "big_bird's tokens are 7, fewer than the 8 keys");
  refused(k, fovea::causal_top_left & fovea::causal_offset{1} & fovea::dilated{2},
          "dilated stands beside causal_top_left (k <= q + 0) and causal_offset (k <= q + 1), and could be "
          "relative to either; say .offset = n");
  refused(q, fovea::global_tokens{negative},
          ("global_tokens needs as many queries as keys, not 7 queries and 8 keys" + joined).c_str());
}

/// One rule for all masks that stand where the queries do: they are the last tokens of a cache, which has as
/// many at least.
TEST(patterns, refuse_more_queries_than_a_cache_holds) {
  const Matrix q = Matrix::Random(9, 16);
  fovea::kv_cache<float, 1> cache{8, 16};
  cache.append(Matrix(q.topRows(8)), Matrix(q.topRows(8)));
  const std::vector<int> one{1}, eight{0, 0, 0, 0, 1, 1, 1, 1};
  const fovea::attention<float, 1> attend;
  const auto refused = [&](const std::string& name, const auto& mask) {
    expect_refused([&] { attend(q, cache, mask); }, name + ": q has 9 tokens, more than the 8 in the cache");
  };
  refused("causal", fovea::causal), refused("chunked", fovea::chunked{3});
  refused("block_diffusion", fovea::block_diffusion{3}), refused("prefix", fovea::prefix{one});
  refused("dilated", fovea::dilated{2}), refused("global_tokens", fovea::global_tokens{one});
  refused("sliding_window", fovea::sliding_window{.left = 2}), refused("documents", fovea::documents{eight});
  refused("big_bird", fovea::big_bird{});
  refused("neighbourhood", fovea::neighbourhood<1>{.sizes = {9}, .kernel = {3}});
}

}  // namespace patterns_test
