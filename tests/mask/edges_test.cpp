// Edges that masks name: up to the next one rows see the same blocks and keys are seen alike; parts of rows
// that end there.
#include "../support/random.hpp"

#include <fovea/mask.hpp>

#include <gtest/gtest.h>

#include <vector>

namespace edges_test {

using fovea::index_type;
using fovea::range;

/// That from each row (and key) to its edge all are alike, and not those on both sides of it, if `differ`.
void expect_edges(const auto& mask, index_type queries, index_type keys, bool differ) {
  const auto cells_of = [&](bool row, index_type i) {
    std::vector<bool> cells;
    for (index_type j = 0; j < (row ? keys : queries); ++j)
      cells.push_back(mask.visible(row ? fovea::cell{i, j} : fovea::cell{j, i}));
    return cells;
  };
  for (const bool row : {true, false})
    for (index_type i = 0, edge = 0, count = row ? queries : keys; i < count; ++i) {
      if (i == edge) edge = row ? mask.row_edge(i) : mask.key_edge(i);
      ASSERT_EQ(edge, row ? mask.row_edge(i) : mask.key_edge(i)) << i;
      ASSERT_GT(edge, i);
      if (i + 1 == count) continue;
      const bool alike = cells_of(row, i) == cells_of(row, i + 1);
      ASSERT_TRUE(i + 1 < edge ? alike : !(differ && alike)) << i;
    }
}

TEST(edges, are_where_what_is_seen_changes) {
  const std::vector<int> ids{4, 4, 4, 9, 9, 1, 7, 7, 7, 7, 7, 7, 7, 7, 7,
                             7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 2};
  const index_type tokens = std::ssize(ids);
  const fovea::place at{0, 0, 1, 1, tokens, tokens};
  expect_edges(fovea::documents{ids}.bind(at), tokens, tokens, true);

  fovea_test::random_source random(3);
  std::vector<unsigned char> map(12);
  for (auto& block : map) block = random.chance(0.5);
  const auto blocks = fovea::block_map(fovea::bhsd(map.data(), 1, 1, 3, 4), {.queries = 17, .keys = 20})
                          .bind({0, 0, 1, 1, 50, 70});
  expect_edges(blocks, 50, 70, false);
  EXPECT_EQ(blocks.row_edge(16), 17);
  EXPECT_EQ(blocks.row_edge(17), 34);
  EXPECT_EQ(blocks.key_edge(39), 40);
}

TEST(edges, stand_where_queries_do) {
  const auto blocks = fovea::big_bird{.side = 16}.bind({0, 0, 1, 1, 40, 100, true});
  EXPECT_EQ(blocks.row_edge(0), 4);  // token 60, of 64
  EXPECT_EQ(blocks.row_edge(4), 20);
  expect_edges(blocks, 40, 100, false);
}

/// Of a kind that is known at run time.
struct told_at_run_time {
  using is_mask = void;
  bool edges;
  bool visible(index_type q, index_type k) const noexcept { return edges || k <= q; }
  index_type row_edge(index_type) const noexcept { return fovea::most_positions; }
  index_type key_edge(index_type) const noexcept { return fovea::most_positions; }
  bool has_edges() const noexcept { return edges; }
  bool has_gaps() const noexcept { return false; }
};

TEST(edges, of_a_mask_that_has_none_are_none_beside_others) {
  const fovea::place at{0, 0, 1, 1, 40, 40};
  for (const bool edges : {false, true}) {
    const told_at_run_time mask{edges};
    EXPECT_EQ(fovea::has_edges(bind_to(fovea::causal & mask, at)), edges);
    EXPECT_EQ(fovea::has_edges(bind_to(fovea::causal | mask, at)), edges);
    EXPECT_EQ(fovea::has_edges(bind_to(fovea::operator!(mask), at)), edges);
  }
  EXPECT_FALSE(fovea::has_gaps(bind_to(fovea::causal & told_at_run_time{true}, at)));
}

TEST(edges, of_masks_that_intersect_are_those_of_each) {
  const std::vector<int> ids{1, 1, 1, 2, 2, 2, 2, 2};
  const std::vector<unsigned char> all(1, 1);
  const fovea::place at{0, 0, 1, 1, 8, 8};
  const auto both = (fovea::causal & fovea::documents{ids} &
                     fovea::block_map(fovea::bhsd(all.data(), 1, 1, 1, 1), {.queries = 16, .keys = 16}))
                        .bind(at);
  EXPECT_EQ(both.row_edge(0), 3);
  EXPECT_EQ(both.key_edge(3), 8);
  static_assert(!fovea::tells_edges<decltype((fovea::causal & fovea::key_lengths{ids}).bind(at))>);
}

TEST(edges, end_parts_of_rows) {
  const auto every = [](index_type distance) {
    return [=](index_type row) { return (row / distance + 1) * distance; };
  };
  const auto ends = [](index_type count, index_type least, index_type most, index_type step,
                       const auto& edge) {
    std::vector<index_type> parts;
    for (range rest{0, count}; !rest.empty(); rest.first = parts.back())
      parts.push_back(fovea::end_of_part(rest, least, most, step, edge));
    return parts;
  };
  using list = std::vector<index_type>;
  EXPECT_EQ(ends(200, 32, 72, 8, every(64)), (list{64, 128, 192, 200}));
  EXPECT_EQ(ends(256, 48, 96, 16, every(128)), (list{64, 128, 192, 256}));  // halves
  EXPECT_EQ(ends(250, 48, 96, 16, every(250)), (list{96, 176, 250}));       // as many, then halves
  EXPECT_EQ(ends(100, 32, 72, 8, every(20)), (list{40, 80, 100}));          // edges too close do not count
  EXPECT_EQ(ends(100, 32, 72, 8, every(1000)), (list{56, 100}));            // the end is an edge
  EXPECT_EQ(ends(30, 48, 96, 16, every(16)), (list{30}));
  EXPECT_EQ(ends(100, 32, 72, 8, [](index_type) { return 0; }), (list{32, 64, 96, 100}));  // a wrong hint
}

}  // namespace edges_test
