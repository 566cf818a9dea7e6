// fovea/mask/row_intervals.hpp - masks of which a query sees one interval of keys, that moves on with the
// queries: blocks and chunks.
#pragma once

#include <fovea/mask/concept.hpp>

FOVEA_NAMESPACE_BEGIN

/// Query q sees the keys keys_of(q), an interval whose ends never fall from one query to the next; intervals
/// that follow each other leave no key between them.
template <class Bounds>
struct row_intervals {
  using reads_cells = void;
  Bounds keys_of;

  auto visible(const auto& cells) const noexcept {
    return cells.ask([this](index_type q, index_type k) {
      const range seen = keys_of(q);
      return k >= seen.first && k < seen.last;
    });
  }
  coverage cover(range rows, range keys) const noexcept {
    if (rows.empty() || keys.empty()) return coverage::none;
    const range top = keys_of(rows.first), bottom = keys_of(rows.last - 1);
    if (intersect(keys, {top.first, bottom.last}).empty()) return coverage::none;
    return bottom.first <= keys.first && keys.last <= top.last ? coverage::full : coverage::partial;
  }
  range reach(range rows) const noexcept {
    return rows.empty() ? range{} : range{keys_of(rows.first).first, keys_of(rows.last - 1).last};
  }
};

inline void check_chunk_size(const char* name, index_type size) {
  if (size < 1 || size > most_positions)
    reject(name, "'s size is ", size, ", not within 1 and ", most_positions);
}

/// The chunk of a query, and those before it where they are seen as well. (In 32 bits, which divide faster.)
struct chunk_of_query {
  int size, first_query;
  bool earlier;
  range operator()(index_type q) const noexcept {
    const index_type first = index_type((static_cast<int>(q) + first_query) / size) * size;
    return {earlier ? 0 : first, first + size};
  }
};

/// Block diffusion: key k is visible to query q where floor(q / size) >= floor(k / size): blocks of tokens
/// are made one after another, within one all tokens see each other. (Arriola et al. 2025, arXiv:2503.09573.)
/// With a cache the queries are its last tokens; else there are as many queries as keys. Hidden blocks are
/// skipped. Throws std::invalid_argument, with both numbers, otherwise and for a size below 1.
struct block_diffusion {
  using is_mask = void;
  index_type size;

  void check(const place& at) const {
    at.check_first_query("block_diffusion"), check_chunk_size("block_diffusion", size);
  }
  row_intervals<chunk_of_query> bind(const place& at) const noexcept {
    return {{static_cast<int>(size), static_cast<int>(at.first_query()), true}};
  }
};

/// Chunked attention: key k is visible to query q where floor(q / size) == floor(k / size); causal &
/// chunked{8192} is that of the local layers of Llama 4. Where the queries stand, and errors: as above.
struct chunked {
  using is_mask = void;
  index_type size;

  void check(const place& at) const { at.check_first_query("chunked"), check_chunk_size("chunked", size); }
  row_intervals<chunk_of_query> bind(const place& at) const noexcept {
    return {{static_cast<int>(size), static_cast<int>(at.first_query()), false}};
  }
};

FOVEA_NAMESPACE_END
