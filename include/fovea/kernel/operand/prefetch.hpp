// fovea/kernel/operand/prefetch.hpp - cache lines that will be needed, asked for a few at a time while
// tiles are computed.
#pragma once

#include <fovea/kernel/tile/tile.hpp>
#include <fovea/view/matrix.hpp>

#include <array>
#include <type_traits>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// What for, and how near: into L1, or into L2 (where rows lie pages apart, they share too few sets of L1).
enum class line_use { read, read_l2, write };

/// Where the elements of a matrix lie, whatever they are: strides and sizes in bytes. No data: nowhere.
struct byte_view {
  const char* data = nullptr;
  index_type rows = 0, cols = 0, row_stride = 0, col_stride = 0, element = 0;

  byte_view() noexcept = default;
  template <class E>
  explicit byte_view(const matrix_view<E>& m) noexcept
      : data(reinterpret_cast<const char*>(m.data)),
        rows(m.rows),
        cols(m.cols),
        row_stride(m.row_stride * index_type(sizeof(E))),
        col_stride(m.col_stride * index_type(sizeof(E))),
        element(sizeof(E)) {}
};

/// Cache lines that will be needed soon, in patterns that hardware does not foresee, asked for in equal
/// shares with each of a number of tiles. (Queries are packed and results unpacked once a job, 16 rows at a
/// time.)
class prefetch {
 public:
  prefetch() noexcept : count_(0) {}

  /// The lines of some rows of a matrix. What is more than `most` matrices is not asked for.
  void add(line_use use, const byte_view& m, range rows) noexcept {
    if (m.data == nullptr || rows.empty() || m.cols == 0 || count_ == most) return;
    const auto runs = [&](index_type stride, index_type count, index_type along, index_type elements) {
      line_runs& x = all_[count_++];
      x = {m.data + rows.first * m.row_stride,
           stride,
           along == 0 ? m.element : elements * m.element,
           stride == 0 ? 1 : count,
           0,
           0,
           use};
      if (x.stride == x.bytes) x.bytes *= x.count, x.count = 1;  // one long row
    };
    if (m.col_stride == m.element || m.col_stride == 0)
      runs(m.row_stride, rows.size(), m.col_stride, m.cols);
    else if (m.row_stride == m.element || m.row_stride == 0)
      runs(m.col_stride, m.cols, m.row_stride, rows.size());
  }
  /// The lines of some cells of a matrix.
  template <class E>
  void add(line_use use, const matrix_view<E>& m, range rows, range columns) noexcept {
    add(use,
        byte_view(matrix_view<E>{m.at(0, columns.first), m.rows, columns.size(), m.row_stride, m.col_stride}),
        rows);
  }

  /// They are due with the next `tiles` calls of fetch().
  void deal(index_type tiles) noexcept {
    for (int i = 0; i < count_; ++i) {
      line_runs& x = all_[i];
      x.share = ceil_div(x.count * ceil_div(x.bytes, line), std::max<index_type>(tiles, 1));
    }
  }
  /// A share of each. It is a call: inlined, its counters took the registers that hold a tile's addresses,
  /// and 1.5 % of the whole time.
  FOVEA_INLINE void fetch() noexcept {
    if (count_ > 0) fetch_shares();
  }

 private:
  static constexpr index_type line = 64;
  static constexpr int most = 6;

  /// `count` runs of `bytes`, a stride apart; of the first of them `done` bytes were asked for.
  struct line_runs {
    const char* first;
    index_type stride, bytes, count, done, share;
    line_use use;

    void fetch() noexcept {
      for (index_type due = share; due > 0 && count > 0;) {
        const index_type end = std::min(bytes, done + due * line);
        if (use == line_use::read)
          for (index_type i = done; i < end; i += line) FOVEA_PREFETCH(first + i, 0, 3);
        else if (use == line_use::read_l2)
          for (index_type i = done; i < end; i += line) FOVEA_PREFETCH(first + i, 0, 2);
        else
          for (index_type i = done; i < end; i += line) FOVEA_PREFETCH(first + i, 1, 3);
        due -= ceil_div(end - done, line);
        done = end;
        if (done >= bytes) done = 0, first += stride, --count;
      }
    }
  };

  FOVEA_NOINLINE void fetch_shares() noexcept {
    for (int i = 0; i < count_; ++i) all_[i].fetch();
  }

  int count_;
  line_runs all_[most];  // of which count_ are written
};

/// Adds the lines, to be in L2, that some of a head's tokens are read from: none of a head that decodes.
template <class Head>
void add_lines(const Head& head, range tokens, prefetch& lines) noexcept {
  if constexpr (!decoding_head<Head>)
    if (!tokens.empty())
      head.each_piece(tokens, [&](const auto& part) {
        lines.add(line_use::read_l2, byte_view(part.tokens), {0, part.tokens.rows});
      });
}

/// Where rows begin, whatever their elements: row i at first + i * stride, in bytes.
struct byte_rows {
  const char* first = nullptr;
  index_type stride = 0;
  byte_rows() noexcept = default;
  byte_rows(const char* at, index_type step) noexcept : first(at), stride(step) {}
  FOVEA_INLINE byte_rows from(index_type row) const noexcept { return {first + row * stride, stride}; }
  template <class E>
  explicit byte_rows(const matrix_view<E>& rows) noexcept
      : first(reinterpret_cast<const char*>(rows.data)),
        stride(rows.row_stride * static_cast<index_type>(sizeof(E))) {}
};

/// Other rows, of as many bytes as those that are read, which come next. None at first.
class next_rows {
 public:
  next_rows() noexcept = default;
  next_rows(const byte_rows& rows, index_type row_bytes) noexcept
      : rows_(rows), joined_(rows.stride == row_bytes) {}

  bool any() const noexcept { return rows_.first != nullptr; }
  const byte_rows& rows() const noexcept { return rows_; }
  /// Whether they lie without gaps.
  bool joined() const noexcept { return joined_; }

 private:
  byte_rows rows_;
  bool joined_ = false;
};

/// Whether so many query rows ask for what they read next, not for another block: see tokens_ahead.
template <class E>
constexpr bool asks_near(index_type query_rows) noexcept {
  return query_rows == 4 && sizeof(E) >= 4;
}

/// How many tokens of K or V lie between those that are read and those that are asked for, of a block of so
/// many: all, so that V of a block is asked for while its K is read, K of the next meanwhile V is; for four
/// query rows of wide elements those that hold 8 KB, a multiple of what pages hold: what is asked for is
/// still in L1 when it is read, and V is summed in parts of so many, in the order in which it lies.
///
/// Not tuned to a machine's latency: 8 KB are a quarter of the smallest L1, and what 40 GB/s bring in 200 ns.
/// Four rows have enough to do with each line that what is asked for arrives; fewer wait. Measured on a
/// Zen 5, 8 key/value heads, 16,384 keys of 128, time of 8 KB over that of a block: 4 rows of float 0.92 to
/// 0.96, pages of 16 tokens 0.93; 1 row 1.02 to 1.05, 2 rows 1.08, 3 and 8 rows 1.10 to 1.13, 1 to 4 of
/// bfloat16 0.95 to 1.10. Rejected there: blocks of 256 or 512 keys, in case the change from K to V costs
/// much (float, 1 to 3 rows 0.95 to 1.08, 4 rows 1.02 to 1.15, pages 1.0 to 1.4); no two prefetches one after
/// another, and functions that begin at a line of cache (within 3 %, either way).
template <class E>
index_type tokens_ahead(index_type query_rows, index_type dim, index_type block) noexcept {
  constexpr index_type bytes = 8192, grain = 16;
  const index_type row_bytes = std::max<index_type>(dim, 1) * static_cast<index_type>(sizeof(E));
  return asks_near<E>(query_rows) ? std::min(round_up(ceil_div(bytes, row_bytes), grain), block) : block;
}

/// Lines of these to ask for as rows are read: once each, and in rising addresses where the rows lie
/// without gaps, in whatever order a tile reads: hardware follows that on any machine, and takes over where
/// what is asked for is dropped. Which rows they are, tokens_ahead says. No state, so that it costs a tile
/// nothing but the instruction.
///
/// Measured on a Zen 5, 8 key/value heads, 32,768 keys of 128, groups of 1, 2, 3, 4 and 8, ms (a read of the
/// same memory takes 6.5): 9.1, 11.0, 11.2, 11.2, 10.5; two a line, of these and of rows 8 KB ahead, in the
/// order of a tile's columns, 10.9, 10.8, 13.1, 13.1, 13.6; none 10.0, 14.5, 19.5, 19.9, 26.4; into L2 in
/// place of L1 7.9, 11.1, 11.8, 14.6, 13.3. Within noise of these: the rows' own 8 or 32 KB ahead in place of
/// other rows, and blocks of 32 or 64 keys.
class lines_of_next {
 public:
  static constexpr bool any = true, in_order = false;  // see lines_in_order
  explicit lines_of_next(const next_rows& next) noexcept
      : first_(next.rows().first), stride_(next.rows().stride), joined_(next.joined()) {}

  /// f(offset in bytes): with Rows rows from `row` on, the lines that come with a line of each.
  template <int Rows>
  FOVEA_INLINE auto beside_rows(index_type row) const noexcept {
    const index_type apart = joined_ ? line : stride_, step = joined_ ? Rows : 1;
    return [from = first_ + row * stride_, apart, step](index_type offset) FOVEA_INLINE_LAMBDA {
      unroll<Rows>([&](auto i)
                       FOVEA_INLINE_LAMBDA { FOVEA_PREFETCH(from + offset * step + i * apart, 0, 3); });
    };
  }
  /// f(row): those that come with Bytes of a row, from byte `column` on, of `rows` rows one after another.
  template <index_type Bytes>
  FOVEA_INLINE auto beside_columns(index_type rows, index_type column) const noexcept {
    const char* const from = first_ + (joined_ ? rows * column : column);
    return [from, apart = joined_ ? Bytes : stride_](index_type row) FOVEA_INLINE_LAMBDA {
      for (index_type at = 0; at < Bytes; at += line) FOVEA_PREFETCH(from + row * apart + at, 0, 3);
    };
  }

 private:
  static constexpr index_type line = 64;
  const char* first_;
  index_type stride_;
  bool joined_;
};

/// The same for tiles that themselves read in rising addresses: see attend_heads.hpp.
class lines_in_order : public lines_of_next {
 public:
  static constexpr bool in_order = true;
  using lines_of_next::lines_of_next;
};

/// Of none.
struct lines_of_none {
  static constexpr bool any = false, in_order = true;
  explicit lines_of_none(const next_rows&) noexcept {}
  template <int>
  no_prefetch beside_rows(index_type) const noexcept {
    return {};
  }
  template <index_type>
  no_prefetch beside_columns(index_type, index_type) const noexcept {
    return {};
  }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
