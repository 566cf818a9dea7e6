// fovea/mask/big_bird.hpp - blocks of tokens see their neighbours, the first ones, and a few at random.
#pragma once

#include <fovea/mask/block_map.hpp>

#include <cstdint>

FOVEA_NAMESPACE_BEGIN

/// One head's choice, asked like a matrix of blocks x blocks.
struct big_bird_blocks {
  index_type blocks, beside, global, random;  // beside: neighbours on each side
  std::uint64_t seed;

  bool operator()(index_type i, index_type j) const noexcept {
    const range near{std::max(i - beside, global), std::min(i + beside + 1, blocks)};
    if (i < global || j < global || (j >= near.first && j < near.last)) return true;
    const index_type others =
        blocks - global - near.size();  // neither global nor near: counted without these
    if (others <= random) return true;
    if (random == 0) return false;
    const index_type other = j - global - (j >= near.last ? near.size() : 0);
    return other == drawn(i, ((other + 1) * random - 1) / others, others);
  }

 private:
  /// Of `random` equal parts of the others, the one of a part that row i draws (splitmix64 of its number).
  index_type drawn(index_type i, index_type part, index_type others) const noexcept {
    const index_type first = part * others / random, size = (part + 1) * others / random - first;
    std::uint64_t x = seed + static_cast<std::uint64_t>(i * random + part + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u, x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return first + static_cast<index_type>((x ^ (x >> 31)) % static_cast<std::uint64_t>(size));
  }
};

/// BigBird (Zaheer et al., arXiv:2007.14062, its blocked form): tokens in blocks of `side`; a block sees the
/// first `global` blocks, which see all, the `window` blocks around itself (an odd number, its own among
/// them), and `random` of the others: one of each of so many equal parts, drawn anew for each block and head
/// from the seed alone, so that every call gets the same, prefill, decode and gradient, in each sequence.
///
/// The draw depends on the sequence's length: `tokens`, or as many as there are keys. A sequence that grows
/// in a cache says what it may grow to. There are as many queries as keys, or a cache whose last tokens they
/// are. Throws std::invalid_argument, with the numbers, for a side below 16, an even window, numbers below 0,
/// more keys than tokens, and more than 2^31 - 1 tokens. Blocks that are not seen are not computed.
struct big_bird {
  using is_mask = void;
  index_type side = 64, window = 3, global = 2, random = 3;
  std::uint64_t seed = 0;
  index_type tokens = -1;

  void check(const place& at) const {
    at.check_first_query("big_bird");
    if (side < 16) reject("big_bird's side is ", side, ", less than 16");
    if (window < 1 || window % 2 == 0) reject("big_bird's window is ", window, " blocks, not an odd number");
    check_blocks("global", global), check_blocks("random", random);
    if (tokens != -1 && tokens < at.keys)
      reject("big_bird's tokens are ", tokens, ", fewer than the ", at.keys, " keys");
    if (tokens > most_positions) reject("big_bird's tokens are ", tokens, ", more than ", most_positions);
  }
  mapped_cells<big_bird_blocks> bind(const place& at) const noexcept {
    const index_type of_block = std::min(side, most_positions),
                     blocks = ceil_div(tokens < 0 ? at.keys : tokens, of_block);
    const std::uint64_t of_head =
        seed * 0xd1342543de82ef95u + static_cast<std::uint64_t>(at.head) * 0xaef17502108ef2d9u;
    return {{blocks, window / 2, std::min(global, blocks), std::min(random, blocks), of_head},
            {of_block, of_block},
            at.keys,
            at.first_query()};
  }

 private:
  static void check_blocks(const char* which, index_type n) {
    if (n < 0) reject("big_bird's ", which, " blocks are ", n, ", fewer than none");
  }
};

FOVEA_NAMESPACE_END
