// Each size on its own at 0, 1, and around registers, tiles, blocks and jobs, with few and with many queries.
#include "run.hpp"

#include <set>

namespace fovea_test {
namespace {

std::set<index_type> around(std::initializer_list<index_type> sizes) {
  std::set<index_type> all = {0, 1, 2, 3};
  for (const index_type n : sizes)
    for (const index_type near : {n - 1, n, n + 1}) all.insert(near);
  return all;
}

void every_query_count(const subject& s, layout l) {
  const geometry& g = geometry_of(s);
  for (const index_type queries : around({4, 8, g.lanes, 2 * g.lanes, g.tile_queries, g.job}))
    expect_reference(s, l, random_problem(s, l, {1, 2, 1, queries, 21, 3, 4}, 51));
  // A group of heads shares the rows of a job where queries are few.
  for (const index_type queries : {1, 2, 3, 5, 8})
    expect_reference(s, l, random_problem(s, l, {2, 14, 2, queries, 21, 3, 4}, 52));
}

void every_key_count(const subject& s, layout l) {
  const geometry& g = geometry_of(s);
  for (const index_type queries : {index_type(1), g.lanes + 2})
    for (const index_type keys :
         around({g.tile_rows, g.lanes, 2 * g.lanes, g.few_key_block, g.key_block, 2 * g.key_block}))
      expect_reference(s, l, random_problem(s, l, {1, 2, 1, queries, keys, 4, 3}, 53));
}

void every_dimension(const subject& s, layout l) {
  const geometry& g = geometry_of(s);
  for (const index_type queries : {index_type(2), g.lanes + 2})
    for (const index_type dim : around({g.tile_rows, g.lanes, 2 * g.lanes, g.tile_queries}))
      expect_reference(s, l, random_problem(s, l, {1, 2, 1, queries, 13, dim, 5}, 54, 1));
}

void every_value_dimension(const subject& s, layout l) {
  const geometry& g = geometry_of(s);
  for (const index_type queries : {index_type(2), g.lanes + 2})
    for (const index_type dim : around({g.tile_rows, g.lanes, 2 * g.lanes, 4 * g.lanes, g.tile_queries}))
      expect_reference(s, l, random_problem(s, l, {1, 2, 1, queries, 13, 5, dim}, 55));
}

// Rows of values 2048 bytes apart or a multiple of it, which share few sets of a cache: some are copied
// first.
void rows_pages_apart(const subject& s, layout l) {
  const geometry& g = geometry_of(s);
  for (const index_type keys : {index_type(9), g.key_block + 1, 2 * g.key_block + 3})
    expect_reference(s, l, random_problem(s, l, {1, 2, 2, g.lanes + 2, keys, 4, 256}, 59, 1));
}

void empty_batches(const subject& s, layout l) {
  expect_reference(s, l, random_problem(s, l, {0, 2, 1, 5, 7, 3, 4}, 56));
  expect_reference(s, l, random_problem(s, l, {2, 2, 1, 0, 0, 3, 4}, 57));
  expect_reference(s, l, random_problem(s, l, {2, 2, 1, 5, 0, 0, 0}, 58));
}

}  // namespace

void add_sizes(std::vector<property>& to) {
  to.push_back({"every_query_count", every_query_count});
  to.push_back({"every_key_count", every_key_count});
  to.push_back({"every_dimension", every_dimension});
  to.push_back({"every_value_dimension", every_value_dimension,
                [](const subject&, layout l) { return l != layout::packed_qkv; }});
  to.push_back({"rows_pages_apart", rows_pages_apart,
                [](const subject&, layout l) { return l == layout::bshd || l == layout::eigen_row; }});
  to.push_back({"empty_batches", empty_batches});
}

}  // namespace fovea_test
