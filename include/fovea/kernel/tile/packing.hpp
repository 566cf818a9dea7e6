// fovea/kernel/tile/packing.hpp - queries and results between rows in memory and registers of queries.
#pragma once

#include <fovea/kernel/tile/tile.hpp>
#include <fovea/view/matrix.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// A register of queries: dst[c * width + lane] = scale * q(rows.first + lane, c); lanes beyond the rows are
/// 0. Squares of lanes x lanes elements are transposed in registers, the last one overlapping the one before.
template <class Arch, class T, class E>
FOVEA_NOINLINE void pack(const matrix_view<const E>& q, range rows, T scale, T* dst,
                         index_type width) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  alignas(64) T row[std::size_t{n}] = {};
  if (q.row_stride == 1) {  // a column of queries lies as a register of them
    for (index_type c = 0; c < q.cols; ++c) {
      const E* from = q.at(rows.first, c);
      if (rows.size() < n) load_elements(from, index_type(1), rows.size(), row);
      const V x = rows.size() < n ? V::load_aligned(row) : load_lanes<Arch, T>(from);
      (x * V(scale)).store_aligned(dst + c * width);
    }
    return;
  }
  // Unrolled, so that squares stay in registers: 70 to 90 cycles for 16 x 16 with AVX-512, 12 for 8 x 8 with
  // AVX2; in loops over an array, which lies in memory, 220 and 70.
  if (q.col_stride == 1 && q.cols >= n) {
    const E none[std::size_t{n}] = {};
    for (index_type part = 0; part * n < q.cols; ++part) {
      const index_type c = start_of<Arch, T>(part, q.cols);
      V v[std::size_t{n}];
      FOVEA_UNROLL_ALL
      for (index_type i = 0; i < n; ++i)
        v[i] = load_lanes<Arch, T>(i < rows.size() ? q.at(rows.first + i, c) : none) * V(scale);
      isa<Arch>::transpose(v);
      FOVEA_UNROLL_ALL
      for (index_type e = 0; e < n; ++e) v[e].store_aligned(dst + (c + e) * width);
    }
    return;
  }
  for (index_type c = 0; c < q.cols; c += n) {
    const index_type columns = std::min(n, q.cols - c);
    V v[std::size_t{n}];
    for (index_type i = 0; i < n; ++i) {
      if (i < rows.size()) load_elements(q.at(rows.first + i, c), q.col_stride, columns, row);
      v[i] = i < rows.size() ? V::load_aligned(row) * V(scale) : V(T(0));
    }
    isa<Arch>::transpose(v);
    for (index_type e = 0; e < columns; ++e) v[e].store_aligned(dst + (c + e) * width);
  }
}

/// A register of queries of bf16, without a scale: dst[c / 2 * width + lane] = the pair of q(rows.first +
/// lane, c) and of (.., c + 1), which is 0 beyond the last channel; lanes beyond the rows are 0.
template <class Arch, class T, bf16_element E>
FOVEA_NOINLINE void pack_pairs(const matrix_view<const E>& q, range rows, T* dst, index_type width) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  const auto bits = [](const E& x) { return std::uint32_t{std::bit_cast<std::uint16_t>(x)}; };
  const auto pair = [&](index_type row, index_type c) {
    return bits(q(row, c)) | (c + 1 < q.cols ? bits(q(row, c + 1)) << 16 : 0u);
  };
  const index_type pairs = ceil_div(q.cols, index_type(2));
  for (index_type first = 0; first < pairs; first += n) {
    const bool whole = q.col_stride == 1 && 2 * (first + n) <= q.cols;
    V v[std::size_t{n}];
    FOVEA_UNROLL_ALL
    for (index_type i = 0; i < n; ++i) {
      alignas(64) std::uint32_t row[std::size_t{n}] = {};
      if (i < rows.size() && whole)
        std::memcpy(row, q.at(rows.first + i, 2 * first), sizeof row);
      else if (i < rows.size())
        for (index_type c = 0; c < n && first + c < pairs; ++c)
          row[c] = pair(rows.first + i, 2 * (first + c));
      v[i] = bits_as<T, Arch>(positions<Arch, T>::load_aligned(reinterpret_cast<const std::int32_t*>(row)));
    }
    isa<Arch>::transpose(v);
    for (index_type c = 0; c < n && first + c < pairs; ++c) v[c].store_aligned(dst + (first + c) * width);
  }
}

/// The reverse: out(rows.first + lane, c) = factor * src[c * width + lane].
template <class Arch, class T, class E>
FOVEA_NOINLINE void unpack(const T* src, index_type width, const vec<Arch, T>& factor,
                           const matrix_view<E>& out, range rows) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  alignas(64) T row[std::size_t{n}];
  if (out.row_stride == 1) {
    for (index_type c = 0; c < out.cols; ++c) {
      const V x = V::load_aligned(src + c * width) * factor;
      if (rows.size() == n) {
        store_register<Arch, T>(x, out.at(rows.first, c));
      } else {
        x.store_aligned(row);
        store_elements(row, rows.size(), out.at(rows.first, c), index_type(1));
      }
    }
    return;
  }
  if (out.col_stride == 1 && out.cols >= n) {
    for (index_type part = 0; part * n < out.cols; ++part) {
      const index_type c = start_of<Arch, T>(part, out.cols);
      V v[std::size_t{n}];
      FOVEA_UNROLL_ALL
      for (index_type e = 0; e < n; ++e) v[e] = V::load_aligned(src + (c + e) * width) * factor;
      isa<Arch>::transpose(v);
      FOVEA_UNROLL_ALL
      for (index_type i = 0; i < n; ++i)
        if (i < rows.size()) store_register<Arch, T>(v[i], out.at(rows.first + i, c));
    }
    return;
  }
  for (index_type c = 0; c < out.cols; c += n) {
    const index_type columns = std::min(n, out.cols - c);
    V v[std::size_t{n}];
    for (index_type e = 0; e < n; ++e)
      v[e] = e < columns ? V::load_aligned(src + (c + e) * width) * factor : V(T(0));
    isa<Arch>::transpose(v);
    for (index_type i = 0; i < rows.size(); ++i) {
      v[i].store_aligned(row);
      store_elements(row, columns, out.at(rows.first + i, c), out.col_stride);
    }
  }
}

}  // namespace kernel
FOVEA_NAMESPACE_END
