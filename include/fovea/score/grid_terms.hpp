// fovea/score/grid_terms.hpp - numbers a query for each row and each column of a grid of keys.
#pragma once

#include <fovea/score/concept.hpp>

#include <vector>

FOVEA_NAMESPACE_BEGIN

/// The tokens of a grid, row by row: where each stands, and how many are left from there to its row's end.
class grid_places {
 public:
  struct token {
    index_type row, column, left;
  };
  grid_places(index_type height, index_type width) : height_(height), width_(width) {
    for (index_type y = 0; y < height; ++y)
      for (index_type x = 0; x < width; ++x) all_.push_back({y, x, width - x});
  }
  const token& operator[](index_type t) const noexcept { return all_[static_cast<std::size_t>(t)]; }
  index_type height() const noexcept { return height_; }
  index_type width() const noexcept { return width_; }

 private:
  index_type height_, width_;
  std::vector<token> all_;
};

/// Where a head's number (i, c) lies: in tiles of queries, so that those of a register of queries are one
/// load, or rows one after another, which are read a register of keys at a time.
struct grid_layout {
  static constexpr index_type tile = 16;  // queries
  index_type tile_stride, column_stride, query_stride;

  static constexpr grid_layout tiles(index_type columns) noexcept { return {columns * tile, tile, 1}; }
  static constexpr grid_layout rows(index_type columns) noexcept { return {columns * tile, 1, columns}; }
  /// Of number (query, 0).
  index_type at(index_type query) const noexcept {
    return query / tile * tile_stride + query % tile * query_stride;
  }
};

template <class T>
struct grid_cells;

/// The same for a register of queries and a few keys.
template <class T>
struct staged_grid : added_number {
  const grid_cells<T>& all;
  const T *rows, *columns;  // of the first query, where all queries lie in its tile; or null

  template <class V>
  V apply(const V& s, const auto& cells) const noexcept {
    if (rows == nullptr) return all.apply(s, cells);
    const auto& key = (*all.places)[cells.key];
    return s + (cells.load_run(rows + key.row * grid_layout::tile) +
                cells.load_run(columns + key.column * grid_layout::tile));
  }
};

/// One head's: s_ij -> s_ij + number(i, y_j) + number(i, height + x_j). Room for a row of the grid and a
/// register lies before and behind the numbers.
template <class T>
struct grid_cells : added_number {
  static constexpr int matrices = 1;  // a block of cells has numbers in one place
  const T* first;
  grid_layout layout;
  const grid_places* places;

  staged_grid<T> staged(const auto& block) const noexcept {
    const bool in_tile =
        layout.query_stride == 1 && block.query % grid_layout::tile + block.n <= grid_layout::tile;
    const T* const rows = in_tile ? first + layout.at(block.query) : nullptr;
    return {{}, *this, rows, in_tile ? rows + places->height() * grid_layout::tile : nullptr};
  }
  void each_matrix(const auto&) const noexcept {}

  template <class V>
  V apply(const V& s, const auto& cells) const noexcept {
    if constexpr (requires { cells.width; })
      return s + of_register(cells);
    else
      return s + static_cast<double>(at(cells.query, cells.key));
  }

  /// Adds dS of a register of keys to the numbers of its query, `row`.
  template <class Cells>
  void add_to_row(const Cells& cells, const typename Cells::number& ds, T* row) const noexcept {
    const auto [y, x, left] = (*places)[cells.key];
    const index_type count = std::min<index_type>(cells.count, Cells::width);
    T* const columns = row + places->height();
    if (count == Cells::width && left >= count) {
      row[y] += Cells::sum(ds);
      Cells::add_run(columns + x, ds);
      return;
    }
    alignas(64) T of_key[std::size_t{Cells::width}];
    ds.store_aligned(of_key);
    for (index_type i = 0; i < count; ++i) {
      const auto& token = (*places)[cells.key + i];
      row[token.row] += of_key[i], columns[token.column] += of_key[i];
    }
  }

 private:
  T at(index_type q, index_type k) const noexcept {
    const auto& [y, x, left] = (*places)[k];
    const T* const row = first + layout.at(q);
    return row[y * layout.column_stride] + row[(places->height() + x) * layout.column_stride];
  }
  template <class Cells>
  auto of_register(const Cells& cells) const noexcept {
    using number = typename Cells::number;
    const auto [y, x, left] = (*places)[cells.key];
    const index_type height = places->height(), width = places->width(), apart = layout.column_stride;
    const T* const row = first + layout.at(cells.query);
    if constexpr (!Cells::queries)
      if (apart == 1) {
        const T* const columns = row + height + x;
        const number here = number(row[y]) + cells.load_run(columns);
        if (left >= Cells::width) return here;
        if (left + width >= Cells::width)
          return select(cells.lanes_below(left), here, number(row[y + 1]) + cells.load_run(columns - width));
      }
    return cells.number_of_each([this](index_type q, index_type k) { return at(q, k); });
  }
};

/// The same for batch x heads x queries x (height + width) numbers, and where a backward call writes the
/// gradient of each, rows one after another (no data: it is not wanted).
template <class T, class Sums>
struct grid_score {
  static constexpr score_stage stage = score_stage::bias;
  const T* first;
  index_type head_stride;  // of all heads of all sequences, one after another
  grid_layout layout;
  const grid_places* places;
  Sums sums;

  const Sums& row_sums() const noexcept { return sums; }
  void check(const place& at) const {
    const index_type height = places->height(), width = places->width(), tokens = height * width;
    if (at.queries != tokens || at.keys != tokens)
      reject("a grid of ", height, " x ", width, " has ", tokens, " tokens, not the ", at.queries,
             " of q and ", at.keys, " of k");
  }
  grid_cells<T> bind(const place& at) const noexcept {
    return {{}, first + (at.batch * at.heads + at.head) * head_stride, layout, places};
  }
};

FOVEA_NAMESPACE_END
