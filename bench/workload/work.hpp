// bench/workload/work.hpp - what a workload has to do: cells, operations, bytes.
#pragma once

#include "check.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <vector>

namespace bench {

/// The keys that query i sees: [first, last), empty where a query stands before the first key. Of masks that
/// show an interval.
inline std::pair<index_type, index_type> visible_keys(const workload& w, index_type i) {
  if (w.mask == mask::none) return {0, w.keys};
  const index_type at = i + w.keys - w.queries, last = std::clamp<index_type>(at + 1, 0, w.keys);
  if (w.mask == mask::documents) {
    const index_type first = at / w.mask_size * w.mask_size;
    return {first, std::min(first + w.mask_size, w.keys)};
  }
  if (w.mask == mask::prefix) return {0, std::max(last, w.mask_size)};
  return {w.mask == mask::causal ? 0 : std::max<index_type>(last - 1 - w.mask_size, 0), last};
}

/// How many keys query i sees.
inline index_type keys_seen(const workload& w, index_type i) {
  const index_type at = i + w.keys - w.queries, tree = w.keys - w.mask_size, n = w.mask_size;
  if (w.mask == mask::tree && at >= tree)
    return tree + static_cast<index_type>(std::bit_width(static_cast<std::size_t>(at - tree + 1)));
  if (w.mask == mask::tree) return at + 1;
  if (w.mask == mask::dilated) return at / n + (w.keys - 1 - at) / n + 1;
  if (w.mask == mask::longformer && at < global_tokens) return w.keys;
  if (w.mask == mask::longformer) {
    const index_type first = std::max<index_type>(at - n, 0), last = std::min(at + n, w.keys - 1) + 1;
    return last - first + std::min(first, global_tokens);
  }
  if (w.mask == mask::neighbourhood) return n * n;
  const auto [first, last] = visible_keys(w, i);
  return last - first;
}

/// How many blocks of keys a row of blocks shows, of blocks and topk.
inline index_type blocks_a_row(const workload& w) {
  const index_type columns = (w.keys + w.mask_size - 1) / w.mask_size;
  return std::max<index_type>(std::llround(w.share * double(columns)), 1);
}

/// For mask=blocks: whether the block of keys j is visible to that of queries i, at [i * columns + j]. A row
/// sees a share of its blocks, at least one, chosen at random from a fixed seed.
inline std::vector<char> visible_blocks(const workload& w) {
  const index_type rows = (w.queries + w.mask_size - 1) / w.mask_size,
                   columns = (w.keys + w.mask_size - 1) / w.mask_size, shown = blocks_a_row(w);
  std::vector<char> map;
  std::mt19937 bits(1);
  for (index_type i = 0; i < rows; ++i) {
    for (index_type j = 0; j < columns; ++j) map.push_back(j < shown);
    std::shuffle(map.end() - columns, map.end(), bits);
  }
  return map;
}

/// Cells (query, key) that count as useful work in one head. Causal counts half of the square, as the field
/// does: the diagonal's own half is left out.
inline double useful_cells(const workload& w) {
  const double queries = double(w.queries), keys = double(w.keys);
  if (w.mask == mask::none) return queries * keys;
  if (w.mask == mask::causal) return keys >= queries ? queries * (keys - queries / 2) : keys * keys / 2;
  if (w.mask == mask::topk) return queries * double(blocks_a_row(w) * w.mask_size);
  double cells = 0;
  if (w.mask == mask::blocks) {
    const std::vector<char> map = visible_blocks(w);
    const index_type side = w.mask_size, columns = (w.keys + side - 1) / side;
    for (index_type n = 0; n < static_cast<index_type>(map.size()); ++n)
      if (map[static_cast<std::size_t>(n)] != 0)
        cells += double(std::min(side, w.queries - n / columns * side)) *
                 double(std::min(side, w.keys - n % columns * side));
    return cells;
  }
  for (index_type i = 0; i < w.queries; ++i) cells += double(keys_seen(w, i));
  return cells;
}

/// Useful floating-point operations: 2 (d + dv) a cell and head, which is 4 Lq Lk d where dv = d and nothing
/// is masked; backward 6 d + 4 dv, which is 10 Lq Lk d. Of others, a cell and head: op=hard 2 d; op=additive
/// 2 hidden + 2 dv, a tanh counted as one; op=differential 2 d + 4 dv; op=transformer_xl 4 d + 2 dv;
/// op=talking_heads 2 (d + dv) + 4 Hq; op=dsa 2 (d + dv) of the chosen cells and 256 of every cell and head
/// of the index. A token and head: op=linear 4 d dv; op=linear_backward 10 d dv, as states are made again,
/// which scores are too; op=feature 4 d dv.
inline double useful_flops(const workload& w) {
  if (!w.lengths.empty()) {
    double sum = 0;
    for (workload one = w; const index_type n : w.lengths) {
      one.lengths.clear(), one.batch = 1, one.keys = n;
      sum += useful_flops(one);
    }
    return sum;
  }
  if (w.op == operation::feature)
    return 4.0 * double(w.dim * w.value_dim) * double(w.queries) * double(w.batch * w.heads);
  if (w.op == operation::dsa)
    return double(w.queries) *
           (2.0 * double(w.heads * (w.dim + w.value_dim)) * double(std::min(w.top, w.keys)) +
            2.0 * double(w.index_heads * index_dim) * double(w.keys));
  if (is_linear(w.op))
    return (w.op == operation::linear ? 4.0 : 10.0) * double(w.dim * w.value_dim) * double(w.queries) *
           double(w.batch * w.heads);
  const double a_cell = w.op == operation::differential     ? 2.0 * double(w.dim + 2 * w.value_dim)
                        : w.op == operation::transformer_xl ? 2.0 * double(2 * w.dim + w.value_dim)
                        : w.op == operation::talking_heads  ? 2.0 * double(w.dim + w.value_dim + 2 * w.heads)
                        : w.op == operation::forward || w.op >= operation::decomposed
                            ? 2.0 * double(w.dim + w.value_dim)
                        : w.op == operation::backward ? 6.0 * double(w.dim) + 4.0 * double(w.value_dim)
                        : w.op == operation::additive ? 2.0 * double(w.hidden + w.value_dim)
                                                      : 2.0 * double(w.dim);
  return a_cell * useful_cells(w) * double(w.batch * w.heads);
}

inline index_type bytes_of(element e) {
  return e == element::f64 ? 8 : e == element::f32 ? 4 : e == element::i8 || e == element::f8 ? 1 : 2;
}

/// Bytes of K and V, each read once: the least a decode step can move. int8 has scales beside: of keys a
/// channel and 32 tokens, of values a token; 4 bits too, and of values a share of it each 32 channels.
/// op=linear: of states, read and written once; op=dsa: of the index's keys, and of the rows that one query
/// chooses.
inline double kv_bytes(const workload& w) {
  if (is_linear(w.op))
    return 2.0 * double(w.batch * w.kv_heads) * double(w.dim * w.value_dim) * double(bytes_of(w.dtype));
  double tokens = double(w.batch * w.keys);
  if (!w.lengths.empty()) tokens = 0;
  for (const index_type n : w.lengths) tokens += double(n);
  if (w.op == operation::dsa)
    return double(w.keys * index_dim * bytes_of(w.index)) + double(std::min(w.top, w.keys) * w.dim) * 4;
  if (w.cache == cache::latent)
    return tokens * double(w.kv_heads) * double(w.dim) *
           (double(bytes_of(w.kv)) + (w.kv == element::i8 ? 4.0 / 32 : 0));
  if (w.kv == element::q4)
    return tokens * double(w.kv_heads) *
           (double(w.dim) * (0.5 + 4.0 / 32) + double(w.value_dim) * (0.5 + 1.0 / 32) + 4);
  const double scales = w.kv == element::i8 ? 4.0 * double(w.dim) / 32 + 4 : 0;
  return tokens * double(w.kv_heads) * (double(w.dim + w.value_dim) * double(bytes_of(w.kv)) + scales);
}

}  // namespace bench
