// fovea/plan/jobs.hpp - how a call is cut into jobs.
#pragma once

#include <fovea/kernel/arch/geometry.hpp>
#include <fovea/kernel/forward/attend_rows.hpp>
#include <fovea/kernel/forward/lane_softmax.hpp>

#include <bit>
#include <cstddef>

FOVEA_NAMESPACE_BEGIN

/// A job: query rows of one query head, queries in lanes, or of a whole group of them, which is then the head
/// (kernel/operand/group_rows.hpp says which row is which); or, dim in lanes, rows of a key/value head, where
/// row r is query queries.first + r % queries.size() of the group's head r / queries.size().
struct job {
  bool dim_in_lanes;
  index_type head;  // query head, or key/value head
  range queries, rows;
  index_type block = 0;      // which of the head's blocks of rows these are
  index_type key_split = 0;  // which split of the keys: where there are several, others have the same rows
};

/// What it takes to read keys as numbers that are multiplied: nothing; an instruction or two; more, as of 8
/// bits that are no integer. Each few_rows rows with dim in lanes do it anew, whole panels of queries once.
enum class widening { none, quick, slow };
template <class T, class E>
inline constexpr widening widening_of = sizeof(E) >= sizeof(T)                   ? widening::none
                                        : sizeof(E) > 1 || std::is_integral_v<E> ? widening::quick
                                                                                 : widening::slow;

/// How the query rows of one sequence become jobs. It depends on this sequence alone, and its tokens in the
/// views, so that it gets the same bits whether it comes alone or in a batch, and whoever runs the jobs.
template <class Arch, class T>
struct job_list {
  using shape = kernel::geometry<Arch>;
  static constexpr index_type n = kernel::lanes<Arch, T>;
  static constexpr index_type panel_bytes =
      384 * 1024;  // aim: what a job keeps, with a block of K and V, stays in L2

  index_type queries, keys, group, heads, kv_heads, dim, value_dim;
  widening of_keys;
  bool may_group = false;

  /// Whether the rows of a group go in lanes together: few queries of many heads.
  bool grouped = may_group && group_fills_lanes();

  /// Queries from here on go with dim in lanes. (Here and below kept, as a job asks for them several times:
  /// found anew at each use, divisions took a fifth of a call of 8 heads and one query.)
  index_type queries_in_lanes = grouped ? queries * group : first_in_rows();

  /// Query rows of a job of each kind, and how many such jobs a head has.
  index_type lanes_a_job = queries_in_lanes == 0 ? 0 : most_lanes();
  index_type lane_blocks = jobs_of(queries_in_lanes, lanes_a_job);
  index_type rows = grouped ? 0 : queries_in_rows().size() * group;
  index_type rows_a_job = std::min(rows, 8 * index_type(shape::few_rows));
  index_type row_blocks_a_head = jobs_of(rows, rows_a_job);

  /// With few rows, and where a group's go in lanes, long inputs are split by keys as well, so that there
  /// is work for many threads; their results are merged. (Splits of 512 to 8,192 keys take the same time on
  /// one thread.)
  static constexpr index_type keys_a_split = 2048;
  index_type key_splits = std::max<index_type>(1, keys / keys_a_split);

  range queries_in_rows() const noexcept { return {queries_in_lanes, queries}; }
  index_type lane_jobs() const noexcept {
    return grouped ? split_blocks() * key_splits : heads * lane_blocks;
  }
  index_type row_jobs() const noexcept { return grouped ? 0 : split_blocks() * key_splits; }
  /// Blocks of rows whose keys may be split.
  index_type split_blocks() const noexcept { return kv_heads * (grouped ? lane_blocks : row_blocks_a_head); }
  /// Jobs of dim in lanes of one key/value head, which follow each other.
  index_type row_jobs_a_head() const noexcept { return row_blocks_a_head * key_splits; }
  index_type count() const noexcept { return lane_jobs() + row_jobs(); }

  range key_split(index_type i) const noexcept {
    if (key_splits == 1) return {0, keys};
    const index_type each = round_up(ceil_div(keys, key_splits), index_type(shape::few_rows_block));
    return {std::min(i * each, keys), std::min((i + 1) * each, keys)};
  }

  /// Late blocks of rows come first: under a causal mask they are the longest.
  job at(index_type i) const noexcept {
    const bool in_rows = i >= lane_jobs();
    const index_type all = in_rows ? rows : queries_in_lanes, a_job = in_rows ? rows_a_job : lanes_a_job;
    const index_type j = in_rows ? i - lane_jobs() : i, blocks = in_rows ? row_blocks_a_head : lane_blocks;
    const auto [of_splits, key_split] = (in_rows || grouped) && key_splits > 1
                                            ? std::pair{j / key_splits, j % key_splits}
                                            : std::pair{j, index_type(0)};
    const auto [head, from_last] =
        blocks > 1 ? std::pair{of_splits / blocks, of_splits % blocks} : std::pair{of_splits, index_type(0)};
    const index_type block = blocks - 1 - from_last;
    return {in_rows, head,     queries_in_rows(), {block * a_job, std::min((block + 1) * a_job, all)},
            block,   key_split};
  }
  /// Bytes that the state of a block of rows takes, and where that of a key split lies among all of them.
  index_type state_a_job() const noexcept {
    if (grouped)
      return kernel::bytes_of<T>(lanes_a_job * (value_dim + kernel::lane_softmax<Arch, T>::columns));
    return kernel::row_panel<Arch, T>::state_bytes(rows_a_job, kernel::attending_rows<Arch, T>(value_dim));
  }
  index_type state_of(const job& j) const noexcept {
    const index_type blocks = grouped ? lane_blocks : row_blocks_a_head;
    return ((j.head * blocks + j.block) * key_splits + j.key_split) * state_a_job();
  }
  index_type all_states() const noexcept {
    return key_splits == 1 ? 0 : split_blocks() * key_splits * state_a_job();
  }

  /// The job of the first key split for a block of rows.
  job split_block(index_type i) const noexcept { return at((grouped ? 0 : lane_jobs()) + i * key_splits); }

 private:
  // 32 registers, and as many lanes as two tiles have rows.
  static constexpr bool two_tiles_of_rows = shape::few_rows == 8 && n == 2 * shape::few_rows;

  // Whether few queries of many heads fill two registers, or one where rows are so long that fetching them
  // is no matter. (Of the peak, 8,192 keys, with dim in lanes and queries: 32 heads x 128 0.71 and 0.83,
  // 128 heads x 576 0.79 and 0.95, 16 heads x 576 beyond caches 0.59 and 0.80, but 16 heads x 128 0.62 and
  // 0.53; groups of 12 and 24, which fill three quarters of the lanes, took 10 to 30 % more time. Asking
  // for the next block of keys gained nothing. Zen 5)
  bool group_fills_lanes() const noexcept {
    const index_type all = queries * group, filled = round_up(all, n);
    return group > 1 && queries <= 8 && 8 * all >= 7 * filled && (all > n || dim + value_dim >= 1024);
  }

  // Up to so many queries go with dim in lanes; it depends on how much each of them reads, as lanes that are
  // mostly empty waste what a key takes, dim in lanes what a row takes. Where no head shares its keys both
  // took the same time, within 10 % or so, for 2, 3, 4, 5 and 8 queries at (keys + 4) * dim = 400, 800, 1500,
  // 3000 and 5000 (2 to 512 keys, dim 16 to 256, AVX-512 and AVX2 alike).
  // With 32 registers more of them where much is read, as one register of queries makes tiles of a third of
  // the accumulators: time with dim in lanes over that with queries in lanes (Zen 5, float, 8 heads, groups
  // of 1 / 4, without a mask; with one alike):
  //   keys x dim    77 x 64    77 x 128  256 x 64   256 x 128  1,024 x 64  1,024 x 128  4,096 x 64
  //   9 queries     1.06       .89/.80   .95/.81    .83/.72    .72/.66     .67/.57      .70/.63
  //   12 queries    1.24       1.03      1.12       .97        .86/.88     .77/.75      .81/.84
  //   14 queries    1.21                  1.12/1.08  1.0         .97        .93/.88      1.0
  //   16 queries    1.30       1.16/1.13  1.22       1.1         1.1        1.02         1.15
  // Of 4,096 x 128 14 queries take .97/.87, 16 1.02/.95. Elements that an instruction widens, which panels
  // of queries copy: 14 queries 1.0/.94, .80/.78, 1.0/.94 and .80/.76 of 1,024 x 64, x 128, 4,096 x 64, x 128
  // in bf16 (fp16 .77 to .88, int8 .85 to 1.02), 16 1.08, .88, 1.07, .87 (fp16 .82 to 1.0, int8 .95 to 1.12).
  // fp8, which takes more, 1.19 to 1.35 and 1.3 to 1.5.
  index_type few_queries() const noexcept {
    constexpr index_type most = shape::few_rows;
    const auto read = static_cast<std::size_t>((keys + 4) * (dim + value_dim) * 2 / 3);
    const index_type few = static_cast<index_type>(std::bit_width(read)) - 8;
    if (two_tiles_of_rows && few > 5) {
      const bool wide = dim + value_dim >= 256;
      if (of_keys == widening::slow) return 10;
      if (of_keys == widening::quick && few > 7) return wide ? 16 : few > 8 ? 14 : 12;
      return few > 9 ? (wide ? 14 : 13) : few > 7 ? 12 : 10;
    }
    return group > 1 || few > 5 ? most : std::clamp<index_type>(few, 1, most);
  }

  // All, where they are few; else the last ones, where they would fill at most a quarter of a register (33
  // queries of dim 128 or 256 take 7 to 12 % less time with that). Where much is read, all up to a register
  // and a half: over the better of the others, 17 queries take .98 to 1.01 of the time from caches and .81 to
  // .87 of 4,096 x 128 from memory, which is read once, 22 .81 to .94, 24 .86 to 1.0 (float, 8 heads, 256 x
  // 128 and more; bf16 .86 to 1.0, .80 to .97, .85 to 1.0; 20 of 4,096 x 64 1.0 to 1.07).
  index_type first_in_rows() const noexcept {
    if (queries <= 1) return 0;
    const index_type few = few_queries(), rest = queries % n;
    const bool wastes_half_a_register = two_tiles_of_rows && few >= 12 && queries > n && 2 * queries <= 3 * n;
    if (queries <= few || wastes_half_a_register) return 0;
    return queries > n && rest <= std::min(few - 1, n / 4) ? queries - rest : queries;
  }

  index_type most_lanes() const noexcept {
    const index_type a_register = n * (dim + value_dim + 2) * static_cast<index_type>(sizeof(T));
    const index_type most = std::clamp<index_type>(panel_bytes / a_register, shape::tile_vectors,
                                                   shape::panels * shape::tile_vectors);
    const index_type registers = ceil_div(queries_in_lanes, n);
    const index_type blocks = std::max<index_type>(1, (registers + most / 2) / most);
    return blocks == 1 ? n * registers
                       : n * round_up(ceil_div(registers, blocks), index_type(shape::tile_vectors));
  }

  static index_type jobs_of(index_type all, index_type a_job) noexcept {
    return all <= a_job ? (all > 0) : ceil_div(all, a_job);
  }
};

template <class Arch, class Inputs>
auto job_list_of(const Inputs& p, index_type b, bool may_group = false) noexcept {
  using T = typename Inputs::compute;
  using element = typename std::remove_cvref_t<decltype(p.k.head(0, 0))>::element;
  return job_list<Arch, T>{p.q.tokens(b), p.k.tokens(b),           p.group(), p.heads(), p.k.heads(), p.dim(),
                           p.value_dim(), widening_of<T, element>, may_group};
}

FOVEA_NAMESPACE_END
