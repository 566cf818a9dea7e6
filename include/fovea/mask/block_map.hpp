// fovea/mask/block_map.hpp - a byte a block of queries x keys says whether it is visible.
#pragma once

#include <fovea/mask/concept.hpp>

FOVEA_NAMESPACE_BEGIN

/// The sides of the blocks of a map, in queries and in keys.
struct block_sides {
  index_type queries = 64, keys = 64;
};

/// One head's map: cell (q, k) is visible where the element at ((q + first_query) / sides.queries, k /
/// sides.keys) is not zero.
template <class Matrix>
struct mapped_cells {
  using reads_cells = void;
  Matrix map;
  block_sides sides;
  index_type keys, first_query = 0;

  auto visible(const auto& cells) const noexcept {
    return cells.ask([this](index_type q, index_type k) {
      return shows((q + first_query) / sides.queries, k / sides.keys);
    });
  }
  /// Reads an element a block: it says all that can be said.
  coverage cover(range rows, range block) const noexcept {
    if (rows.empty() || block.empty()) return coverage::none;
    const range down = rows_of_blocks(rows), across = blocks_of(block, sides.keys);
    bool all = true, any = false;
    for (index_type i = down.first; i < down.last; ++i)
      for (index_type j = across.first; j < across.last; ++j) {
        const bool now = shows(i, j);
        all = all && now, any = any || now;
        if (any && !all) return coverage::partial;
      }
    return all ? coverage::full : coverage::none;
  }
  index_type next(range rows, index_type key) const noexcept {
    const range down = rows_of_blocks(rows);
    while (key < keys && !seen(down, key / sides.keys)) key = (key / sides.keys + 1) * sides.keys;
    return std::min(key, keys);
  }
  index_type row_edge(index_type row) const noexcept {
    return ((row + first_query) / sides.queries + 1) * sides.queries - first_query;
  }
  index_type key_edge(index_type key) const noexcept { return (key / sides.keys + 1) * sides.keys; }
  range shown(range rows, range block) const noexcept {
    const range down = rows_of_blocks(rows);
    range part{std::min(next(rows, block.first), block.last), block.last};
    while (!part.empty() && !seen(down, (part.last - 1) / sides.keys))
      part.last = (part.last - 1) / sides.keys * sides.keys;
    return part;
  }

 private:
  range rows_of_blocks(range rows) const noexcept {
    return blocks_of({rows.first + first_query, rows.last + first_query}, sides.queries);
  }
  static range blocks_of(range cells, index_type side) noexcept {
    return cells.empty() ? range{} : range{cells.first / side, (cells.last - 1) / side + 1};
  }
  bool shows(index_type i, index_type j) const noexcept { return map(i, j) != 0; }
  bool seen(range down, index_type j) const noexcept {
    for (index_type i = down.first; i < down.last; ++i)
      if (shows(i, j)) return true;
    return false;
  }
};

/// A map of blocks. It is read, never copied. Made by block_map(...).
template <class Table>
struct block_map_mask {
  using is_mask = void;
  Table map;
  block_sides sides;

  void check(const place& at) const {
    const auto& m = map.table;
    if (sides.queries < 16 || sides.keys < 16)
      reject("block_map's blocks are ", sides.queries, " x ", sides.keys, ", smaller than 16 x 16");
    check_one_or_all(m.batch, at.batches, "block_map", "batch entries");
    check_one_or_all(m.heads, at.heads, "block_map", "heads");
    covers(m.tokens, at.queries, sides.queries, "rows", "queries");
    covers(m.dim, at.keys, sides.keys, "columns", "keys");
  }
  void each_operand(const auto& f) const { f("block_map", map.table); }
  auto bind(const place& at) const noexcept {
    return mapped_cells<decltype(map.bind(at))>{
        map.bind(at),
        {std::min(sides.queries, most_positions), std::min(sides.keys, most_positions)},
        at.keys};
  }

 private:
  static void covers(index_type has, index_type tokens, index_type side, const char* what, const char* of) {
    const index_type blocks = tokens == 0 ? 0 : (tokens - 1) / side + 1;
    if (has != 1 && has < blocks)
      reject("block_map has ", has, " ", what, ", neither 1 nor at least the ", blocks, " blocks of ", side,
             " that hold ", tokens, " ", of);
  }
};

FOVEA_NAMESPACE_END
