// fovea/kernel/operand/prefetch.hpp - cache lines that will be needed, asked for a few at a time while
// tiles are computed.
#pragma once

#include <fovea/kernel/arch/registers.hpp>
#include <fovea/view/matrix.hpp>

#include <array>

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

/// Where rows begin, whatever their elements: row i at first + i * stride, in bytes.
struct byte_rows {
  const char* first;
  index_type stride;
  FOVEA_INLINE byte_rows() noexcept = default;
  FOVEA_INLINE byte_rows(const char* at, index_type step) noexcept : first(at), stride(step) {}
  FOVEA_INLINE byte_rows from(index_type row) const noexcept { return {first + row * stride, stride}; }
  /// Its first row, again and again, for where nothing is to be asked for: that is in L1. (The rows being
  /// read themselves are on their way, and asking again costs L2 as much as reading them: one query and 128
  /// keys of 8 heads took 6 % more, 4 queries of 1,024 keys 2 %; Zen 5.)
  FOVEA_INLINE byte_rows first_row() const noexcept { return {first, 0}; }
  template <class E>
  FOVEA_INLINE explicit byte_rows(const matrix_view<E>& rows) noexcept
      : first(reinterpret_cast<const char*>(rows.data)),
        stride(rows.row_stride * static_cast<index_type>(sizeof(E))) {}
};

/// Lines to ask for as rows are read: those of other rows that come next, and again, as a processor drops
/// what is asked for when too much is under way already, those that come a little after the rows themselves.
/// No state, so that it costs a tile nothing but the instruction.
///
/// Measured on a Zen 4, 32 query and 8 key/value heads, 32,768 keys, of the stream: both, the second 8 KB
/// ahead, 0.84 (1 KB 0.71, 2 KB 0.76, 4 KB 0.80, 16 KB 0.81); the next rows alone 0.55; the rows' own 2 to
/// 8 KB ahead alone 0.65 to 0.75; either into L1, which then is full of what is on its way, 0.3; a list of
/// lines with a counter, asked for in shares, 0.71, and from cache twice the time.
class row_prefetch {
 public:
  FOVEA_INLINE row_prefetch() noexcept = default;
  FOVEA_INLINE row_prefetch(const byte_rows& next, const byte_rows& further) noexcept
      : next_(next), further_(further) {}
  /// Nothing that is not there already.
  FOVEA_INLINE explicit row_prefetch(const byte_rows& now) noexcept
      : next_(now.first_row()), further_(now.first_row()) {}

  /// Those of the rows from `row` on.
  FOVEA_INLINE row_prefetch from(index_type row) const noexcept {
    return {next_.from(row), further_.from(row)};
  }
  /// The lines at `offset` bytes of the first Rows rows.
  template <int Rows>
  FOVEA_INLINE void fetch(index_type offset) const noexcept {
    unroll<Rows>([&](auto row) FOVEA_INLINE_LAMBDA {
      FOVEA_PREFETCH(next_.first + offset + row * next_.stride, 0, 2);
      FOVEA_PREFETCH(further_.first + offset + row * further_.stride, 0, 2);
    });
  }
  static constexpr index_type line = 64;

 private:
  byte_rows next_, further_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
