// fovea/transformer_xl/relative_terms.hpp - logits of a query and a vector that belongs to the distance of
// two tokens: s_ij -> s_ij + x_i . r(i - j).
#pragma once

#include <fovea/score/concept.hpp>
#include <fovea/view/matrix.hpp>

#include <vector>

FOVEA_NAMESPACE_BEGIN

/// Numbers [channel][position] of one head, rows a whole odd number of cache lines apart, with room for a
/// register on each side.
struct channel_rows {
  static constexpr index_type room = 16;

  static constexpr index_type pitch(index_type positions) noexcept {
    return (ceil_div(positions + 2 * room, room) | 1) * room;
  }
};

/// One head's vectors: x of queries, r by i - j + middle, r in falling order too; where the gradient by r is
/// summed, rows of `width` numbers, and x and r in such rows (null: no gradient is wanted). Of a few queries
/// not these, but their products with r, [query][key].
template <class T>
struct relative_vectors {
  index_type dim, middle, last;   // last: of r's positions
  index_type x_pitch, r_pitch;    // of channels
  const T *x, *rising, *falling;  // of channel 0 and position 0
  index_type width = 0;           // of rows
  const T *x_rows = nullptr, *r_rows = nullptr;
  T* d_r = nullptr;
  matrix_view<const T> products = {};

  /// Position of r at a cell.
  index_type at(index_type query, index_type key) const noexcept { return query - key + middle; }
};

/// The same for a register of queries and a few keys: computed a block at a time, so that each number of x
/// that is loaded meets all keys. (A product with all distances of the block, shifted afterwards, would
/// compute twice as much.)
template <class Staged>
struct staged_relative : added_number {
  Staged numbers;

  template <class V>
  V apply(const V& s, const auto& cells) const noexcept {
    return s + cells.load(numbers);
  }
};

template <class T>
struct relative_cells : added_number {
  static constexpr int matrices = 1;  // a block of cells has numbers in one place
  relative_vectors<T> of;

  /// Queries in lanes: neighbours are of neighbouring distances, which lie side by side.
  template <class Block>
  auto staged(Block& block) const noexcept {
    using number = typename Block::number;
    constexpr index_type n = Block::n;
    if (of.products.data != nullptr) {
      const auto copied = block.copy(of.products);
      return staged_relative<std::remove_const_t<decltype(copied)>>{{}, copied};
    }
    const auto [to, staged] = block.make();
    const T* x = of.x + block.query;
    const T* r = of.rising + of.at(block.query, block.key);
    number sum[std::size_t{n}];
    for (number& s : sum) s = number(T(0));
    for (index_type c = 0; c < of.dim; ++c, x += of.x_pitch, r += of.r_pitch) {
      const number of_queries = number::load_unaligned(x);
      FOVEA_UNROLL_ALL
      for (index_type e = 0; e < n; ++e) sum[e] = fma(of_queries, number::load_unaligned(r - e), sum[e]);
    }
    for (index_type e = 0; e < n; ++e) sum[e].store_aligned(to + e * n);
    return staged_relative<std::remove_const_t<decltype(staged)>>{{}, staged};
  }
  void each_matrix(const auto&) const noexcept {}

  template <class V>
  V apply(const V& s, const auto& cells) const noexcept {
    if constexpr (requires { cells.width; }) {
      if constexpr (!std::remove_cvref_t<decltype(cells)>::queries)
        return s + (of.products.data != nullptr ? V(cells.load(of.products)) : of_keys<V>(cells));
      else
        return s + cells.number_of_each([this](index_type q, index_type k) { return dot(q, k); });
    } else {
      return s + static_cast<double>(dot(cells.query, cells.key));
    }
  }

  /// dx_i += dS_ij r(i - j), dr(i - j) += dS_ij x_i of a register of keys; `row`: of dx.
  template <class Cells>
  void add_to_row(const Cells& cells, const typename Cells::number& ds, T* row) const noexcept {
    using number = typename Cells::number;
    alignas(64) T of_key[std::size_t{Cells::width}];
    ds.store_aligned(of_key);
    const index_type count = std::min<index_type>(cells.count, Cells::width), width = of.width;
    const index_type first = of.at(cells.query, cells.key) * width;
    const T* const x = of.x_rows + cells.query * width;
    for (index_type c = 0; c < width; c += Cells::width) {
      const number of_query = number::load_unaligned(x + c);
      const T* r = of.r_rows + first + c;
      T* d_r = of.d_r + first + c;
      number sum = number::load_unaligned(row + c), other(T(0));
      for (index_type i = 0; i < count; ++i, r -= width, d_r -= width) {
        if (of_key[i] == T(0)) continue;  // what is hidden passes nothing on, not even a NaN
        const number d(of_key[i]);
        number& part = i % 2 == 0 ? sum : other;
        part = fma(d, number::load_unaligned(r), part);
        fma(d, of_query, number::load_unaligned(d_r)).store_unaligned(d_r);
      }
      (sum + other).store_unaligned(row + c);
    }
  }

 private:
  /// Keys in lanes.
  template <class V>
  V of_keys(const auto& cells) const noexcept {
    const T* x = of.x + cells.query;
    const T* r = of.falling + (of.last - of.at(cells.query, cells.key));
    V sum[4] = {V(T(0)), V(T(0)), V(T(0)), V(T(0))};
    const auto add = [&](V& to) {
      to = fma(V(*x), V::load_unaligned(r), to);
      x += of.x_pitch, r += of.r_pitch;
    };
    index_type c = 0;
    for (; c + 4 <= of.dim; c += 4) add(sum[0]), add(sum[1]), add(sum[2]), add(sum[3]);
    for (; c < of.dim; ++c) add(sum[0]);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }
  T dot(index_type query, index_type key) const noexcept {
    if (of.products.data != nullptr) return of.products(query, key);
    T sum = 0;
    for (index_type c = 0; c < of.dim; ++c)
      sum += of.x[query + c * of.x_pitch] * of.rising[of.at(query, key) + c * of.r_pitch];
    return sum;
  }
};

/// The vectors of all heads and sequences, and where a backward call writes the gradient of each x, rows one
/// after another (no data: it is not wanted).
template <class T, class Sums>
struct relative_score {
  static constexpr score_stage stage = score_stage::bias;
  static constexpr bool sums_heads = true;  // dr of a head is summed over its rows and sequences
  /// So many queries of a sequence are few.
  static constexpr index_type few = 16;
  const char* name;        // for errors
  relative_vectors<T> of;  // of the first head; middle: of r's distance 0, less the offset
  index_type x_stride, r_stride, x_rows_stride, r_rows_stride;  // of heads: of x those of all sequences
  index_type offset, reach;                                     // reach: r's longest distance
  Sums sums;
  matrix_view<const T> products = {};  // room for those of a few queries of the first head; no data: for none

  const Sums& row_sums() const noexcept { return sums; }
  void check(const place& at) const {
    if (at.queries == 0 || at.keys == 0) return;
    const index_type first = saturated_sum(offset, at.first_query()),
                     before = saturated_sum(first, at.queries - 1), after = saturated_sum(first, 1 - at.keys);
    if (before > reach || after < -reach)
      reject(name, "'s r has distances up to ", reach, " but a sequence has ", after, " to ", before);
  }
  relative_cells<T> bind(const place& at) const noexcept {
    relative_cells<T> bound{{}, of};
    auto& own = bound.of;
    const index_type head = at.batch * at.heads + at.head;
    if (products.data != nullptr && at.queries <= few) {
      own.products = {products.at(head * products.rows), at.queries, at.keys, products.row_stride, 1};
      return bound;
    }
    if (own.x == nullptr) return bound;  // there are no queries
    own.middle += offset + at.first_query();
    own.x += head * x_stride, own.rising += at.head * r_stride, own.falling += at.head * r_stride;
    if (own.width > 0) {
      own.x_rows += head * x_rows_stride, own.r_rows += at.head * r_rows_stride;
      own.d_r += at.head * r_rows_stride;
    }
    return bound;
  }
};

FOVEA_NAMESPACE_END
