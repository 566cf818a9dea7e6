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

/// The lines of a block of a matrix, to be read or written soon: patterns that hardware does not foresee.
/// (Queries are packed and results unpacked once a job, 16 rows at a time.)
class lines_ahead {
 public:
  FOVEA_INLINE lines_ahead() noexcept = default;
  template <class E>
  FOVEA_INLINE lines_ahead(line_use use, const matrix_view<E>& m, range rows) noexcept
      : lines_ahead(use, m, rows, range{0, m.cols}) {}
  template <class E>
  FOVEA_INLINE lines_ahead(line_use use, const matrix_view<E>& m, range rows, range columns) noexcept
      : use_(use) {
    if (m.col_stride == 1 || m.col_stride == 0)
      along(m.at(rows.first, columns.first), m.row_stride, rows.size(), m.col_stride, columns.size());
    else if (m.row_stride == 1 || m.row_stride == 0)
      along(m.at(rows.first, columns.first), m.col_stride, columns.size(), m.row_stride, rows.size());
  }

  /// How many of them are due with each of `times` calls.
  FOVEA_INLINE index_type share(index_type times) const noexcept {
    return rows_ == 0 ? 0 : ceil_div(rows_ * ceil_div(bytes_, line), std::max<index_type>(times, 1));
  }

  FOVEA_INLINE void fetch(index_type count) noexcept {
    while (count > 0 && rows_ > 0) {
      const index_type end = std::min(bytes_, offset_ + count * line);
      if (use_ == line_use::read)
        for (index_type i = offset_; i < end; i += line) FOVEA_PREFETCH(row_ + i, 0, 3);
      else if (use_ == line_use::read_l2)
        for (index_type i = offset_; i < end; i += line) FOVEA_PREFETCH(row_ + i, 0, 2);
      else
        for (index_type i = offset_; i < end; i += line) FOVEA_PREFETCH(row_ + i, 1, 3);
      count -= ceil_div(end - offset_, line);
      offset_ = end;
      if (offset_ >= bytes_) offset_ = 0, row_ += stride_, --rows_;
    }
  }

 private:
  template <class E>
  FOVEA_INLINE void along(const E* first, index_type stride, index_type rows, index_type element_stride,
                          index_type elements) noexcept {
    constexpr index_type size = static_cast<index_type>(sizeof(E));
    if (elements == 0) return;
    row_ = reinterpret_cast<const char*>(first);
    stride_ = stride * size;
    bytes_ = element_stride == 0 ? size : elements * size;
    rows_ = stride == 0 ? std::min<index_type>(rows, 1) : rows;
    if (stride_ == bytes_) bytes_ *= rows_, rows_ = std::min<index_type>(rows_, 1);  // one long row
  }

  static constexpr index_type line = 64;
  const char* row_ = nullptr;
  index_type stride_ = 0, bytes_ = 0, rows_ = 0, offset_ = 0;
  line_use use_ = line_use::read;
};

/// What is asked for beside a product: lines of this job, and of the next one.
using lines_soon = std::array<lines_ahead, 2>;

/// Lines to ask for as rows are read: those of other rows that come next, and again, as a processor drops
/// what is asked for when too much is under way already, those that come a little after the rows themselves.
/// No state, so that it costs a tile nothing but the instruction.
///
/// Measured on a Zen 4, 32 query and 8 key/value heads, 32,768 keys, of the stream: both, the second 8 KB
/// ahead, 0.84 (1 KB 0.71, 2 KB 0.76, 4 KB 0.80, 16 KB 0.81); the next rows alone 0.55; the rows' own 2 to
/// 8 KB ahead alone 0.65 to 0.75; either into L1, which then is full of what is on its way, 0.3; a list of
/// lines with a counter, asked for in shares, 0.71, and from cache twice the time.
class rows_ahead {
 public:
  /// A row's lines are at first + row * stride, in bytes.
  struct place {
    const char* first;
    index_type stride;
    FOVEA_INLINE place() noexcept = default;
    FOVEA_INLINE place(const char* at, index_type apart) noexcept : first(at), stride(apart) {}
    FOVEA_INLINE place from(index_type row) const noexcept { return {first + row * stride, stride}; }
    template <class E>
    FOVEA_INLINE explicit place(const matrix_view<E>& rows) noexcept
        : first(reinterpret_cast<const char*>(rows.data)),
          stride(rows.row_stride * static_cast<index_type>(sizeof(E))) {}
  };

  FOVEA_INLINE rows_ahead() noexcept = default;
  FOVEA_INLINE rows_ahead(const place& next, const place& further) noexcept
      : next_(next), further_(further) {}
  /// Nothing that is not there already.
  FOVEA_INLINE explicit rows_ahead(const place& now) noexcept : next_(now), further_(now) {}

  /// Those of the rows from `row` on.
  FOVEA_INLINE rows_ahead from(index_type row) const noexcept {
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
  place next_, further_;
};

/// Several lines_ahead, asked for in equal shares with each of a number of tiles. That is a call: inlined,
/// its counters took the registers that hold the tile's addresses, and 1.5 % of the whole time. (Arch: no two
/// instruction sets share it.)
template <class Arch, std::size_t N>
class tile_shares {
 public:
  FOVEA_INLINE tile_shares(const std::array<lines_ahead, N>& all, index_type tiles) noexcept : all_(all) {
    for (std::size_t i = 0; i < N; ++i) share_[i] = all_[i].share(tiles), any_ = any_ || share_[i] > 0;
  }
  FOVEA_INLINE void fetch() noexcept {
    if (any_) fetch_share();
  }

 private:
  FOVEA_NOINLINE void fetch_share() noexcept {
    for (std::size_t i = 0; i < N; ++i) all_[i].fetch(share_[i]);
  }

  std::array<lines_ahead, N> all_;
  std::array<index_type, N> share_;
  bool any_ = false;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
