// fovea/kernel/packing.hpp - queries and results between rows in memory and registers of queries.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/kernel/tile.hpp>
#include <fovea/view/matrix.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// A register of queries: dst[c * Width + lane] = scale * q(rows.first + lane, c); lanes beyond the rows are
/// 0. Squares of lanes x lanes elements are transposed in registers, the last one overlapping the one before.
template <class Arch, index Width, class T, class E>
FOVEA_INLINE void pack(const matrix_view<const E>& q, range rows, T scale, T* dst) noexcept {
  using V = vec<Arch, T>;
  constexpr index n = lanes<Arch, T>;
  alignas(64) T row[n] = {};
  if (q.row_stride == 1) {  // a column of queries lies as a register of them
    for (index c = 0; c < q.cols; ++c) {
      load_elements(q.at(rows.first, c), index(1), rows.size(), row);
      (V::load_aligned(row) * V(scale)).store_aligned(dst + c * Width);
    }
    return;
  }
  const index columns = std::min(n, q.cols);
  for (index part = 0; part * n < q.cols; ++part) {
    const index c = start_of<Arch, T>(part, std::max(n, q.cols));
    V v[n];
    for (index i = 0; i < n; ++i) {
      v[i] = V(T(0));
      if (i >= rows.size()) continue;
      const E* from = q.at(rows.first + i, c);
      if constexpr (std::is_same_v<T, E>)
        if (q.col_stride == 1 && columns == n) {
          v[i] = V::load_unaligned(from) * V(scale);
          continue;
        }
      load_elements(from, q.col_stride, columns, row);
      v[i] = V::load_aligned(row) * V(scale);
    }
    isa<Arch>::transpose(v);
    for (index e = 0; e < columns; ++e) v[e].store_aligned(dst + (c + e) * Width);
  }
}

/// A register to contiguous elements.
template <class Arch, class T, class E>
FOVEA_INLINE void store_register(const vec<Arch, T>& x, E* to) noexcept {
  if constexpr (std::is_same_v<T, E>) {
    x.store_unaligned(to);
  } else {
    alignas(64) T part[lanes<Arch, T>];
    x.store_aligned(part);
    store_elements(part, index(lanes<Arch, T>), to, index(1));
  }
}

/// The reverse: out(rows.first + lane, c) = factor * src[c * Width + lane].
template <class Arch, index Width, class T, class E>
FOVEA_INLINE void unpack(const T* src, const vec<Arch, T>& factor, const matrix_view<E>& out,
                         range rows) noexcept {
  using V = vec<Arch, T>;
  constexpr index n = lanes<Arch, T>;
  alignas(64) T row[n];
  if (out.row_stride == 1) {
    for (index c = 0; c < out.cols; ++c) {
      (V::load_aligned(src + c * Width) * factor).store_aligned(row);
      store_elements(row, rows.size(), out.at(rows.first, c), index(1));
    }
    return;
  }
  const index columns = std::min(n, out.cols);
  for (index part = 0; part * n < out.cols; ++part) {
    const index c = start_of<Arch, T>(part, std::max(n, out.cols));
    V v[n];
    for (index e = 0; e < n; ++e)
      v[e] = e < columns ? V::load_aligned(src + (c + e) * Width) * factor : V(T(0));
    isa<Arch>::transpose(v);
    for (index i = 0; i < rows.size(); ++i) {
      E* to = out.at(rows.first + i, c);
      if constexpr (std::is_same_v<T, E>)
        if (out.col_stride == 1 && columns == n) {
          v[i].store_unaligned(to);
          continue;
        }
      v[i].store_aligned(row);
      store_elements(row, columns, to, out.col_stride);
    }
  }
}

}  // namespace kernel
FOVEA_NAMESPACE_END
