// fovea/kernel/arch/geometry.hpp - geometry<Arch>: the sizes of tiles and blocks; an ISA file changes what
// differs.
#pragma once

#include <fovea/index.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// For 16 registers: 4 x 3 accumulators, 3 registers of queries, 1 for what is broadcast. (Panels a block: up
/// to 288 queries with AVX2 and AVX-512 alike; with 96 and 192 keys and values came more often from L3, which
/// cost 1 to 2 %, and up to 10 % where rows lie pages apart.)
struct sixteen_registers {
  static constexpr int tile_rows = 4;     // keys (or columns of V) of a tile, each broadcast
  static constexpr int tile_vectors = 3;  // registers of queries beside each other in a tile
  static constexpr int key_block = 64;    // keys between two looks at the maximum; a multiple of tile_rows
  static constexpr int tile_queries = 6, tile_columns = 2;  // queries x registers of columns of V of a tile
  static constexpr int short_block = 128;  // up to so many keys are one block; results are written at once
  static constexpr int short_block_of_tiles = 256;  // and up to so many where columns of V are whole tiles
  static constexpr int panels = 12;  // panels of tile_vectors registers of queries that share a block of keys
  static constexpr bool copies_far_columns = true;  // see operand::far_apart
  static constexpr int few_rows = 4;  // up to so many query rows a key/value head go with dim in lanes
  // Keys of a block there. (32: 6 % slower beyond caches, 64: 2 %. 256 and 512: .95 and .93 of the time from
  // L2 and L3, mostly as the softmax starts less often, but 1.1 and 1.2 from memory, where K and V are asked
  // for a block ahead, or, asked for closer, 1.0 with four rows and 1.2 to 1.4 with two and eight. A block is
  // the same wherever K lies, as results are. K of four blocks before their V: no gain from anywhere.)
  static constexpr int few_rows_block = 128;
};

/// For 32 registers: 8 x 3 accumulators.
struct thirty_two_registers : sixteen_registers {
  static constexpr int tile_rows = 8;
  static constexpr int tile_columns = 4;
  static constexpr int short_block = 256;
  static constexpr int key_block = 128;
  static constexpr int panels = 6;
  static constexpr bool copies_far_columns = false;
  static constexpr int few_rows = 8;
};

template <class Arch>
struct geometry : sixteen_registers {};

}  // namespace kernel
FOVEA_NAMESPACE_END
