// fovea/kernel/operand/references.hpp - a head's queries, keys, values or results, of whatever element and
// layout, as walks see them: through pointers, once a block or less, so that walks and products compile once
// an element type and ISA.
#pragma once

#include <fovea/kernel/operand/gated.hpp>
#include <fovea/kernel/operand/operand.hpp>
#include <fovea/kernel/operand/prefetch.hpp>
#include <fovea/kernel/tile/packing.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Rows of a head's queries, of whatever element: to be packed.
template <class Arch, class T>
class query_ref {
 public:
  template <class E>
  explicit query_ref(const matrix_view<const E>& head) noexcept
      : lines(head),
        head_(&head),
        pack_([](const void* q, range rows, T scale, T* to, index_type width) noexcept {
          kernel::pack<Arch>(*static_cast<const matrix_view<const E>*>(q), rows, scale, to, width);
        }) {}

  /// Queries of bf16 for products of pairs: to[c / 2 * width + lane] is the pair of channels c and c + 1, as
  /// they are.
  template <class E>
  query_ref(const matrix_view<const E>& head, as_bf16_pairs) noexcept
      : lines(head), head_(&head), pack_([](const void* q, range rows, T, T* to, index_type width) noexcept {
          pack_pairs<Arch>(*static_cast<const matrix_view<const E>*>(q), rows, to, width);
        }) {}

  /// Rows that lie otherwise: pack_rows(q, rows, scale, to, width) does what is said below.
  query_ref(const void* q, void (*pack_rows)(const void*, range, T, T*, index_type) noexcept) noexcept
      : head_(q), pack_(pack_rows) {}

  /// A register of queries: to[c * width + lane] = scale * q(rows.first + lane, c); lanes beyond `rows` are
  /// 0.
  void pack(range rows, T scale, T* to, index_type width) const noexcept {
    pack_(head_, rows, scale, to, width);
  }

  byte_view lines;

 private:
  const void* head_;
  void (*pack_)(const void*, range, T, T*, index_type) noexcept;
};

/// Rows of a head's result, of whatever element: to be written.
template <class Arch, class T>
class result_ref {
 public:
  template <class E>
  explicit result_ref(const matrix_view<E>& head) noexcept
      : lines(head), head_(&head), of_(&functions_of<E>) {
    if constexpr (std::is_same_v<E, T>)
      if (head.col_stride == 1) rows_ = {head.data, head.row_stride, head.cols};
  }
  template <class E, class G>
  explicit result_ref(const gated_rows<E, G>& head) noexcept
      : lines(head.all), head_(&head), of_(&functions_of_gated<E, G>) {}
  /// Rows that lie otherwise: Rows has write and write_rows as they are below, and says whether its rows lie
  /// side by side.
  template <class Rows>
    requires requires { typename Rows::is_rows; }
  explicit result_ref(const Rows& rows) noexcept : head_(&rows), of_(&functions_of_rows<Rows>) {
    lines.col_stride = rows.col_stride() * index_type(sizeof(typename Rows::element));
    lines.element = sizeof(typename Rows::element);
  }

  /// A register of rows: out(rows.first + lane, c) = factor * from[c * width + lane].
  void write(const T* from, index_type width, const vec<Arch, T>& factor, range rows) const noexcept {
    of_->write(head_, from, width, factor, rows);
  }
  /// The rows from elements side by side.
  void write_rows(const T* from, range rows) const noexcept { of_->write_rows(head_, from, rows); }

  /// Where rows of T lie side by side, if they do.
  bool in_place() const noexcept { return rows_.data != nullptr; }
  T* row(index_type i) const noexcept { return const_cast<T*>(rows_.data) + i * rows_.stride; }
  index_type stride() const noexcept { return rows_.stride; }
  bool side_by_side() const noexcept { return lines.col_stride == lines.element; }

  byte_view lines;

 private:
  struct functions {
    void (*write)(const void*, const T*, index_type, const vec<Arch, T>&, range) noexcept;
    void (*write_rows)(const void*, const T*, range) noexcept;
  };
  template <class E>
  static constexpr functions functions_of{
      [](const void* out, const T* from, index_type width, const vec<Arch, T>& factor, range rows) noexcept {
        unpack<Arch>(from, width, factor, *static_cast<const matrix_view<E>*>(out), rows);
      },
      [](const void* out, const T* from, range rows) noexcept {
        const auto& to = *static_cast<const matrix_view<E>*>(out);
        for (index_type i = rows.first; i < rows.last; ++i, from += to.cols)
          store_row<Arch>(from, to.cols, to.at(i, 0), to.col_stride);
      }};

  static constexpr index_type most_columns = 32;  // that are turned at a time: 2 KB of stack
  template <class E, class G>
  static constexpr functions functions_of_gated{
      [](const void* out, const T* from, index_type width, const vec<Arch, T>& factor, range rows) noexcept {
        const auto& to = *static_cast<const gated_rows<E, G>*>(out);
        alignas(64) T turned[std::size_t{lanes<Arch, T> * most_columns}];
        for (range columns{0, 0}; columns.first < to.all.cols; columns.first = columns.last) {
          columns.last = std::min(columns.first + most_columns, to.all.cols);
          const matrix_view<T> part{turned, rows.size(), columns.size(), most_columns, 1};
          unpack<Arch>(from + columns.first * width, width, factor, part, {0, rows.size()});
          for (index_type i = 0; i < rows.size(); ++i)
            to.template write<Arch>(rows.first + i, columns, static_cast<const T*>(part.at(i, 0)));
        }
      },
      [](const void* out, const T* from, range rows) noexcept {
        const auto& to = *static_cast<const gated_rows<E, G>*>(out);
        for (index_type i = rows.first; i < rows.last; ++i, from += to.all.cols)
          to.template write<Arch>(i, {0, to.all.cols}, from);
      }};

  template <class Rows>
  static constexpr functions functions_of_rows{
      [](const void* out, const T* from, index_type width, const vec<Arch, T>& factor, range rows) noexcept {
        static_cast<const Rows*>(out)->template write<Arch>(from, width, factor, rows);
      },
      [](const void* out, const T* from, range rows) noexcept {
        static_cast<const Rows*>(out)->template write_rows<Arch>(from, rows);
      }};

  const void* head_;
  const functions* of_;
  rows_of<T> rows_{nullptr, 0, 0};
};

/// Keys or values of a head, in whatever pieces, elements and scales: blocks of them as rows of T, or of
/// pairs of bf16.
template <class T>
class block_ref {
 public:
  template <class Operand>
  explicit block_ref(const Operand& operand) noexcept
      : tokens(operand.all.rows),
        tokens_a_row_of_columns(Operand::tokens_a_row_of_columns),
        operand_(&operand),
        of_(&functions_of<Operand>) {
    if constexpr (requires { byte_view(operand.all); }) lines = byte_view(operand.all);
  }

  rows_of<T> read(range keys) const noexcept { return of_->read(operand_, keys); }
  /// The same for values, of which a tile takes a few columns at a time.
  rows_of<T> read_columns(range keys) const noexcept { return of_->read_columns(operand_, keys); }
  /// Whether none of so many tokens that read_columns gave is NaN or infinite.
  bool columns_finite(const rows_of<T>& rows, index_type count) const noexcept {
    return of_->columns_finite(rows, count);
  }

  /// The lines that some of them are read from, where they lie somewhere.
  void add_lines(range keys, prefetch& to) const noexcept { of_->add_lines(operand_, keys, to); }

  index_type tokens, tokens_a_row_of_columns;
  byte_view lines;  // where it is one matrix

 private:
  struct functions {
    rows_of<T> (*read)(const void*, range) noexcept;
    rows_of<T> (*read_columns)(const void*, range) noexcept;
    bool (*columns_finite)(const rows_of<T>&, index_type) noexcept;
    void (*add_lines)(const void*, range, prefetch&) noexcept;
  };
  template <class Operand>
  static constexpr functions functions_of{
      [](const void* x, range keys) noexcept { return static_cast<const Operand*>(x)->read(keys); },
      [](const void* x, range keys) noexcept { return static_cast<const Operand*>(x)->read_columns(keys); },
      &Operand::columns_finite,
      [](const void* x, range keys, prefetch& to) noexcept {
        kernel::add_lines(static_cast<const Operand*>(x)->all, keys, to);
      }};

  const void* operand_;
  const functions* of_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
