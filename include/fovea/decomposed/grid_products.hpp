// fovea/decomposed/grid_products.hpp - products of queries with the vectors of distances in a grid.
#pragma once

#include <fovea/kernel/tile/packing.hpp>
#include <fovea/score/grid_terms.hpp>

#include <vector>

FOVEA_NAMESPACE_BEGIN

/// Of a register of queries, which are in lanes: products with rows of a table, [row][query], and from there
/// to each query's numbers. A query meets 2 width - 1 vectors along its row and needs width of them.
/// (Products of a line of the grid with what it needs alone, by Eigen, are too small to be quick: attention
/// in windows of 14 x 14 took 1.7 to 1.8 times as long as without these terms, not 1.34 to 1.46.)
template <class Arch, class T>
class grid_products {
  using V = kernel::vec<Arch, T>;
  static constexpr index_type n = kernel::lanes<Arch, T>, at_once = 8;  // rows of a table

 public:
  /// Tables: (2 height - 1) x dim and (2 width - 1) x dim, one row after another.
  grid_products(const grid_places& places, index_type dim, const T* r_h, const T* r_w)
      : places_(places), dim_(dim), r_h_(r_h), r_w_(r_w) {
    const index_type rows = 2 * (places.height() + places.width()) + 2 * at_once;
    all_.resize(static_cast<std::size_t>((dim + rows) * n) + 64 / sizeof(T));
    const auto over = reinterpret_cast<std::uintptr_t>(all_.data()) % 64;
    queries_ = all_.data() + (over == 0 ? 0 : (64 - over) / sizeof(T));
    products_ = queries_ + dim * n;
  }

  /// Of the queries [first, first + n) of a head that are there, first being a multiple of n.
  template <class Head>
  void write(const Head& q, index_type first, const grid_layout& layout, T* numbers) noexcept {
    const index_type height = places_.height(), width = places_.width(), count = std::min(n, q.rows - first);
    kernel::pack<Arch>(matrix_view<const typename Head::element>(q), {first, first + count}, T(1), queries_,
                       n);
    const index_type low = places_[first].row, high = places_[first + count - 1].row;
    multiply(r_h_ + low * dim_, height + high - low);
    T* const to = numbers + layout.at(first);
    for (index_type i = 0; i < count; ++i)  // key row y: table row y_i - y + height - 1
      put(products_ + (places_[first + i].row - low + height - 1) * n + i, height,
          to + i * layout.query_stride, layout.column_stride);
    multiply(r_w_, 2 * width - 1);
    for (index_type i = 0; i < count; ++i)
      put(products_ + (places_[first + i].column + width - 1) * n + i, width,
          to + i * layout.query_stride + height * layout.column_stride, layout.column_stride);
  }

 private:
  /// products(r, query) = rows(r) . query, of `count` rows.
  FOVEA_NOINLINE void multiply(const T* rows, index_type count) const noexcept {
    for (index_type r = 0; r < count; r += at_once) {
      const T* of_row[std::size_t{at_once}];
      for (index_type e = 0; e < at_once; ++e) of_row[e] = rows + std::min(r + e, count - 1) * dim_;
      V sum[std::size_t{at_once}];
      for (V& s : sum) s = V(T(0));
      for (index_type c = 0; c < dim_; ++c) {
        const V x = V::load_aligned(queries_ + c * n);
        FOVEA_UNROLL_ALL
        for (index_type e = 0; e < at_once; ++e) sum[e] = fma(V(of_row[e][c]), x, sum[e]);
      }
      for (index_type e = 0; e < at_once; ++e) sum[e].store_aligned(products_ + (r + e) * n);
    }
  }
  static void put(const T* from, index_type count, T* to, index_type apart) noexcept {
    for (index_type c = 0; c < count; ++c) to[c * apart] = from[-c * n];
  }

  const grid_places& places_;
  index_type dim_;
  const T *r_h_, *r_w_;
  std::vector<T> all_;
  T *queries_, *products_;
};

FOVEA_NAMESPACE_END
