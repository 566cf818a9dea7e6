// fovea/kernel/operand/group_rows.hpp - the query heads of a key/value head as rows of one matrix: row r is
// query r / heads of the group's head r % heads.
//
// A register of such rows is of one query where the heads fill it, and lies a stride apart.
#pragma once

#include <fovea/kernel/arch.hpp>
#include <fovea/kernel/operand/references.hpp>
#include <fovea/kernel/tile/packing.hpp>
#include <fovea/view/sequences.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Elements of all rows of a group: queries, or results.
template <class E>
struct group_rows {
  using is_rows = void;
  using element = E;
  matrix_view<E> first_head;  // of one sequence: its queries
  index_type heads = 1, head_stride = 0;

  group_rows() noexcept = default;
  group_rows(const sequences<E>& all, index_type b, index_type kv_head, index_type group) noexcept
      : first_head(all.head(b, kv_head * group)), heads(group), head_stride(all.all.head_stride) {}

  index_type query(index_type r) const noexcept { return r / heads; }
  index_type head(index_type r) const noexcept { return r % heads; }
  E* at(index_type r) const noexcept { return first_head.at(query(r)) + head(r) * head_stride; }

  index_type col_stride() const noexcept { return first_head.col_stride; }

  /// f(matrix, done) for runs of rows a stride apart, `done` rows after the first.
  template <class F>
  void each_run(range rows, F&& f) const noexcept {
    const bool even = first_head.row_stride == heads * head_stride;  // from one query to the next as well
    for (index_type r = rows.first, end; r < rows.last; r = end) {
      end = even ? rows.last : std::min(rows.last, (query(r) + 1) * heads);
      f(matrix_view<E>{at(r), end - r, first_head.cols, head_stride, first_head.col_stride}, r - rows.first);
    }
  }

  /// A register of rows, as result_ref writes it.
  template <class Arch, class T>
  void write(const T* from, index_type width, const vec<Arch, T>& factor, range rows) const noexcept {
    using V = vec<Arch, T>;
    each_run(rows, [&](const matrix_view<E>& run, index_type lane) {
      if (lane == 0) return unpack<Arch>(from, width, factor, run, {0, run.rows});
      alignas(64) T row[std::size_t{lanes<Arch, T>}];  // a register that another query shares
      for (index_type c = 0; c < run.cols; ++c) {
        (V::load_aligned(from + c * width) * factor).store_aligned(row);
        store_elements(row + lane, run.rows, run.at(0, c), run.row_stride);
      }
    });
  }
  /// Rows from elements side by side.
  template <class Arch, class T>
  void write_rows(const T* from, range rows) const noexcept {
    for (index_type r = rows.first; r < rows.last; ++r, from += first_head.cols)
      store_row<Arch>(from, first_head.cols, at(r), first_head.col_stride);
  }
};

/// Queries of a group, as rows of T or of pairs of bf16: a register at a time.
template <class Arch, class T, class E, class Pack>
FOVEA_NOINLINE void pack_group(const group_rows<const E>& q, range rows, T* to, index_type width,
                               index_type columns, const Pack& pack_rows) noexcept {
  constexpr index_type n = lanes<Arch, T>;
  q.each_run(rows, [&](const matrix_view<const E>& run, index_type lane) {
    if (lane == 0) return pack_rows(run, to, width);
    // A register that another query shares: packed apart, and its lanes moved.
    for (index_type i = 0; i < run.rows; ++i) {
      for (index_type c = 0; c < columns; c += n) {
        alignas(64) T turned[std::size_t{n * n}];
        const index_type some = std::min(n, columns - c);
        const index_type step = ceil_div(run.cols, columns);
        const matrix_view<const E> part{run.at(i, c * step), 1, std::min(some * step, run.cols - c * step),
                                        run.row_stride, run.col_stride};
        pack_rows(part, turned, n);
        for (index_type e = 0; e < some; ++e) to[(c + e) * width + lane + i] = turned[e * n];
      }
    }
  });
}

/// To be packed as query_ref packs: of whatever elements.
template <class Arch, class T>
query_ref<Arch, T> group_query_ref(const auto& q) noexcept {
  using rows_type = std::remove_cvref_t<decltype(q)>;
  return query_ref<Arch, T>(&q, [](const void* all, range rows, T scale, T* to, index_type width) noexcept {
    const auto& group = *static_cast<const rows_type*>(all);
    pack_group<Arch>(group, rows, to, width, group.first_head.cols,
                     [&](const auto& run, T* dst, index_type step) {
                       kernel::pack<Arch>(run, range{0, run.rows}, scale, dst, step);
                     });
  });
}
template <class Arch, class T>
query_ref<Arch, T> group_query_ref(const auto& q, as_bf16_pairs) noexcept {
  using rows_type = std::remove_cvref_t<decltype(q)>;
  return query_ref<Arch, T>(&q, [](const void* all, range rows, T, T* to, index_type width) noexcept {
    const auto& group = *static_cast<const rows_type*>(all);
    pack_group<Arch>(group, rows, to, width, ceil_div(group.first_head.cols, index_type(2)),
                     [&](const auto& run, T* dst, index_type step) {
                       pack_pairs<Arch>(run, range{0, run.rows}, dst, step);
                     });
  });
}

}  // namespace kernel
FOVEA_NAMESPACE_END
