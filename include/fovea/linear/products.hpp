// fovea/linear/products.hpp - the products of a chunk: small matrices, lower triangles and a state.
//
// What depends on later tokens in place of earlier ones (gradients) is the same product with all rows in the
// opposite order.
#pragma once

#include <fovea/kernel/operand/prefetch.hpp>
#include <fovea/linear/tokens.hpp>

FOVEA_NAMESPACE_BEGIN
namespace linear {

/// Cache lines that a later chunk needs, asked for in equal shares beside the tiles of this one.
struct chunk_prefetch {
  kernel::prefetch of_rows, of_rest;  // rows of its tokens, read or written; all else: six matrices each

  void deal(index_type tiles) noexcept { of_rows.deal(tiles), of_rest.deal(tiles); }
  void fetch() noexcept { of_rows.fetch(), of_rest.fetch(); }
};

/// Weights of row t and column s <= t, at first + t * Row + s * Step.
template <class T, index_type Row, index_type Step>
struct triangle {
  const T* first = nullptr;
  std::integral_constant<index_type, Row> row = {};
  std::integral_constant<index_type, Step> step = {};
  const T* at(index_type t, index_type s) const noexcept { return first + t * Row + s * Step; }
};
template <class T>
using forward_triangle = triangle<T, chunk_tokens, 1>;
template <class T>
using backward_triangle = triangle<T, -1, -chunk_tokens>;

/// Weights w(t, s), chunk_tokens apart from row to row, of t >= s seen from s, last first.
template <class T>
backward_triangle<T> reversed(const T* weights, index_type count) noexcept {
  return {weights + (count - 1) * (chunk_tokens + 1)};
}

///   to_t = after_t (add_t + before_t (left_t M) + sum_{s <= t} weight_ts right_s)
/// or, solved for, with to in place of right and s < t; then `unscaled`, where it is given, gets to_t /
/// after_t.
template <class T, class Weights>
struct row_sums {
  Weights weight;
  row_list<const T> left = {};
  index_type depth = 0;  // of left and M
  row_list<const T> right = {}, add = {}, before = {}, after = {};
  row_list<T> to = {}, unscaled = {};
};

template <class Arch, class T>
class chunk_products {
  using R = vec<Arch, T>;
  using isa = kernel::isa<Arch>;
  template <int Rows, int Columns>
  using tile = kernel::tile<Arch, T, Rows, Columns>;
  static constexpr index_type n = lanes<Arch, T>, pitch = chunk_tokens;
  static constexpr int rows_of_tile = kernel::geometry<Arch>::tile_queries,
                       columns_of_tile = kernel::geometry<Arch>::tile_columns,
                       rows_of_scores = columns_of_tile > 2 ? 8 : 4;  // as triangles have narrow rows
  static_assert(pitch % n == 0 && strip_registers % columns_of_tile == 0);

 public:
  /// to(t, s) = left_t . right_s, for s <= t, and further where a tile goes on. `columns`: the right rows,
  /// transposed.
  FOVEA_NOINLINE FOVEA_FLATTEN static void scores(index_type count, row_list<const T> left, const T* columns,
                                                  index_type depth, T* to) noexcept {
    kernel::in_tiles<rows_of_scores>(count, [&](auto rows, index_type r) {
      kernel::in_tiles<2>(ceil_div(r + rows, n), [&](auto of_tile, index_type c) {
        auto sum = kernel::outer_sum<Arch, rows, of_tile>(left.row(r), left.step, kernel::unit{},
                                                          columns + c * n, pitch, depth);
        sum.each([&](int i, int j, R& s) { s.store_aligned(to + (r + i) * pitch + (c + j) * n); });
      });
    });
  }

  /// The rows of x in the columns of strip j of M.
  template <bool Solves, class Weights>
  FOVEA_NOINLINE static void rows(index_type count, const row_sums<T, Weights>& x,
                                  const state_strips<Arch, T>& m, index_type j,
                                  chunk_prefetch& soon) noexcept {
    in_row_tiles(count, [&](auto rows, index_type r, index_type tiles) {
      for (index_type i = 0; i < tiles; ++i) {
        if (i % 2 == 0) soon.fetch();
        kernel::in_tiles<columns_of_tile>(m.width_of(j) / n, [&](auto columns, index_type c) {
          row_tile<Solves, rows, columns>(x, r + i * rows, m.strip(j) + c * n, m.width_of(j),
                                          m.column(j) + c * n);
        });
      }
    });
  }

  /// to = after (before M + sum_s left_s right_s^T) in strip j; `before` and `after` are of a row of M, or,
  /// with step 0, of all. `to`: M itself, or as large.
  FOVEA_NOINLINE static void update(index_type count, row_list<const T> before, row_list<const T> left,
                                    row_list<const T> right, row_list<const T> after,
                                    const state_strips<Arch, T>& m, const state_strips<Arch, T>& to,
                                    index_type j, chunk_prefetch& soon) noexcept {
    const state_sum x{count, m.width_of(j), before, left, right.from_column(m.column(j)), after};
    in_row_tiles(m.dim, [&](auto rows, index_type r, index_type tiles) {
      kernel::in_tiles<columns_of_tile>(m.width_of(j) / n, [&](auto columns, index_type c) {
        const index_type at = r * m.width_of(j) + c * n;
        state_tiles<rows, columns>(x, r, c * n, tiles, m.strip(j) + at, to.strip(j) + at, soon);
      });
    });
  }

  /// Tiles of rows in `rows` of so many tokens and in `update` of so many rows of M: each asks for its share
  /// of what is needed soon.
  static index_type tiles(index_type count) noexcept { return ceil_div(count, index_type(2 * rows_of_tile)); }

  /// to_t = factor_t from_t, `width` numbers a row.
  FOVEA_NOINLINE FOVEA_FLATTEN static void scale_rows(index_type count, row_list<const T> from,
                                                      row_list<const T> factor, row_list<T> to,
                                                      index_type width) noexcept {
    for (index_type t = 0; t < count; ++t)
      for (index_type c = 0; c < width; c += n)
        (R::load_unaligned(from.row(t) + c) * R(*factor.row(t))).store_unaligned(to.row(t) + c);
  }

 private:
  /// f(constant rows, first, tiles) for tiles of rows; 8 at the end are 4 and 4, as 2 leave registers idle.
  template <class F>
  static void in_row_tiles(index_type count, const F& f) noexcept {
    const index_type whole = count / rows_of_tile - (count % rows_of_tile == 2 && count > 2 ? 1 : 0);
    if (whole > 0) f(std::integral_constant<int, rows_of_tile>{}, 0, whole);
    index_type i = whole * rows_of_tile;
    if (const index_type fours = (count - i) / 4; fours > 0)
      f(std::integral_constant<int, 4>{}, i, fours), i += 4 * fours;
    if (count - i >= 2) f(std::integral_constant<int, 2>{}, i, 1), i += 2;
    if (count - i >= 1) f(std::integral_constant<int, 1>{}, i, 1);
  }

  template <bool Solves, int Rows, int Columns, class Weights>
  FOVEA_NOINLINE FOVEA_FLATTEN static void row_tile(const row_sums<T, Weights>& x, index_type r, const T* m,
                                                    index_type m_row, index_type column) noexcept {
    tile<Rows, Columns> sum =
        kernel::outer_sum<Arch, Rows, Columns>(x.left.row(r), x.left.step, kernel::unit{}, m, m_row, x.depth);
    if (x.before) sum.each([&](int i, int, R& s) { s = s * R(*x.before.row(r + i)); });
    if (x.add)
      sum.each([&](int i, int c, R& s) { s = s + R::load_unaligned(x.add.row(r + i) + column + c * n); });
    const row_list<const T> right = Solves ? row_list<const T>(x.to) : x.right;
    kernel::add_outer(sum, x.weight.at(r, 0), x.weight.row, x.weight.step, right.first + column, right.step,
                      r, kernel::no_prefetch{});
    FOVEA_UNROLL_ALL
    for (int i = 0; i < Rows; ++i) {
      R of_right[std::size_t{Columns}];
      if constexpr (Solves) finish<Columns>(x, r + i, column, sum.at[i], of_right);
      FOVEA_UNROLL_ALL
      for (int c = 0; !Solves && c < Columns; ++c)
        of_right[c] = R::load_unaligned(right.row(r + i) + column + c * n);
      FOVEA_UNROLL_ALL
      for (int below = i + (Solves ? 1 : 0); below < Rows; ++below) {
        const R factor(*x.weight.at(r + below, r + i));
        FOVEA_UNROLL_ALL
        for (int c = 0; c < Columns; ++c) sum.at[below][c] = isa::fma(factor, of_right[c], sum.at[below][c]);
      }
    }
    if constexpr (!Solves) {
      R written[std::size_t{Columns}];
      FOVEA_UNROLL_ALL
      for (int i = 0; i < Rows; ++i) finish<Columns>(x, r + i, column, sum.at[i], written);
    }
  }

  /// A row is summed: written = after_t times it.
  template <int Columns, class X>
  static void finish(const X& x, index_type t, index_type column, const R* sum, R* written) noexcept {
    const R factor(x.after ? *x.after.row(t) : T(1));
    FOVEA_UNROLL_ALL
    for (int c = 0; c < Columns; ++c) {
      if (x.unscaled) sum[c].store_unaligned(x.unscaled.row(t) + column + c * n);
      written[c] = sum[c] * factor;
      written[c].store_unaligned(x.to.row(t) + column + c * n);
    }
  }

  struct state_sum {
    index_type count, width;  // tokens; numbers of a row of M
    row_list<const T> before, left, right, after;
  };

  /// `tiles` of them below each other, the first with row r of M and `column` of right: one call, as its
  /// arguments took 2 % of the time when each tile was one.
  template <int Rows, int Columns>
  FOVEA_NOINLINE FOVEA_FLATTEN static void state_tiles(const state_sum& x, index_type r, index_type column,
                                                       index_type tiles, const T* m, T* to,
                                                       chunk_prefetch& soon) noexcept {
    const T* const right = x.right.first + column;
    for (index_type i = 0; i < tiles; ++i, r += Rows, m += Rows * x.width, to += Rows * x.width) {
      if (column == 0 && i % 2 == 0) soon.fetch();  // tiles() counts those of one column
      tile<Rows, Columns> sum;
      sum.each([&](int row, int c, R& s) { s = R::load_unaligned(m + row * x.width + c * n); });
      if (x.before) sum.each([&](int row, int, R& s) { s = s * R(*x.before.row(r + row)); });
      kernel::add_outer(sum, x.left.first + r, kernel::unit{}, x.left.step, right, x.right.step, x.count,
                        kernel::no_prefetch{});
      if (x.after) sum.each([&](int row, int, R& s) { s = s * R(*x.after.row(r + row)); });
      sum.each([&](int row, int c, R& s) { s.store_unaligned(to + row * x.width + c * n); });
    }
  }
};

}  // namespace linear
FOVEA_NAMESPACE_END
