// fovea/position/added.hpp - absolute positions: rows of a table, learned or sinusoidal, added to tokens.
//
//   Matrix table(512, width);                                       // learned
//   fovea::add_positions(x, table, {.first = 2});                   // in place; the first token takes row 2
//   fovea::add_positions_gradient(d_table, d_x, {.first = 2});      // d_x is the gradient by x as well
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/position/token_positions.hpp>

FOVEA_NAMESPACE_BEGIN

struct added_options {
  index_type first = 0;  // row of each sequence's first token, where no positions are given (OPT, BART: 2)
  // A row a token: of one sequence, which all then share, or of all sequences, one after another; integers of
  // any type.
  list_view<index_type> positions = {};
  double scale = 1;  // x is multiplied by it first (the paper: sqrt(width))
};

namespace position {

/// The table as a matrix, one row a position, of as many columns as the tokens of x have.
template <class XE, class Table>
auto table_rows(const sequences<XE>& x, Table& table, const char* name) {
  const auto rows = as_sequences(table, any_heads, name);
  if (rows.batches() != 1 || rows.all.heads != 1)
    reject(name, " has ", rows.batches(), " sequences of ", rows.all.heads, " heads, not one of one");
  if (rows.all.dim != x.all.heads * x.all.dim)
    reject(name, " has ", rows.all.dim, " columns but x has ", x.all.heads * x.all.dim);
  return rows;
}

}  // namespace position

/// out <- scale * x + table[position of the token].
///
/// x, out: Eigen matrices (tokens x width), tensors (head h takes the columns h * dim to (h + 1) * dim of the
/// table) or ragged batches of the same shape, any strides and elements: the same view, as in add_positions,
/// or sharing no memory. table: an Eigen matrix or a tensor of one head, positions x width. Sums in float, or
/// in double where an element is double. Throws std::invalid_argument, naming both values and before anything
/// is written, where shapes differ, `scale` is not finite, or a position is no row of the table. Cost: a read
/// of x and of the rows, a write of out; no memory.
///
/// Vaswani et al., arXiv:1706.03762, section 3.5; learned tables: Gehring et al., arXiv:1705.03122.
template <viewable Out, viewable X, viewable Table>
void add_positions_into(Out&& out, const X& x, const Table& table, const added_options& options = {}) {
  using T = common_compute_t<element_of<Out>, element_of<X>, element_of<Table>>;
  using OE = element_of<Out>;
  const auto from = as_sequences(x, any_heads, "x");
  const auto to = as_sequences(out, any_heads, "out");
  static_assert(!std::is_const_v<std::remove_pointer_t<decltype(to.all.data)>>,
                "fovea: the result is written to; it can not be const");
  if (!is_finite(options.scale)) reject("the scale is ", options.scale, ", not a finite number");
  const auto rows = position::table_rows(from, table, "the table");
  position::check_result(to, from);
  check_apart("out", to.all, "the table", rows);
  const auto values = rows.head(0, 0);
  const auto at = position::checked_positions(from, values.rows, options.first, options.positions);
  const T scale = static_cast<T>(options.scale);
  for (index_type b = 0, before = 0; b < from.batches(); before += from.tokens(b++))
    for (index_type h = 0; h < from.all.heads; ++h) {
      const auto source = from.head(b, h);
      const auto target = to.head(b, h);
      for (index_type t = 0; t < source.rows; ++t)
        for (index_type c = 0, p = at.of(before, t); c < source.cols; ++c)
          target(t, c) = store_element<OE>(scale * load_element<T>(source(t, c)) +
                                           load_element<T>(values(p, h * source.cols + c)));
    }
}

/// Adds to x in place; see add_positions_into.
template <viewable X, viewable Table>
void add_positions(X&& x, const Table& table, const added_options& options = {}) {
  add_positions_into(x, x, table, options);
}

/// d_table[p] += the sum of d_out over the tokens at position p, in their order: the gradient of a learned
/// table. (That by x is scale * d_out.)
///
/// d_out: what add_positions_into takes for x. d_table: positions x width, float or double, apart from d_out.
/// Throws as add_positions_into does, before anything is written.
template <viewable Table, viewable X>
void add_positions_gradient(Table&& d_table, const X& d_out, const added_options& options = {}) {
  using E = element_of<Table>;
  static_assert(std::is_floating_point_v<E>, "fovea: the gradient of a table is summed in float or double");
  const auto from = as_sequences(d_out, any_heads, "d_out");
  const auto rows = position::table_rows(from, d_table, "d_table");
  check_writable("d_table", rows.all);
  check_apart("d_table", rows.all, "d_out", from);
  const auto sums = rows.head(0, 0);
  const auto at = position::checked_positions(from, sums.rows, options.first, options.positions);
  for (index_type b = 0, before = 0; b < from.batches(); before += from.tokens(b++))
    for (index_type h = 0; h < from.all.heads; ++h) {
      const auto source = from.head(b, h);
      for (index_type t = 0; t < source.rows; ++t)
        for (index_type c = 0, p = at.of(before, t); c < source.cols; ++c)
          sums(p, h * source.cols + c) += load_element<E>(source(t, c));
    }
}

FOVEA_NAMESPACE_END
