// fovea/kernel/operand.hpp - keys and values as a kernel reads them: rows of T with a stride, dim contiguous.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/kernel/arch.hpp>
#include <fovea/view/matrix.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Rows of a block of keys.
template <class T>
struct rows_of {
  const T* data;
  index stride, dim;
  FOVEA_INLINE rows_of from(index row) const noexcept { return {data + row * stride, stride, dim}; }
};

/// Reads a block at a time: where the elements lie as kernels want them, as it is; else through a buffer of
/// block x width elements, converted and padded with zeros.
template <class Arch, class T, class E>
struct operand {
  matrix_view<const E> all;
  index width;  // of a row as the kernel reads it: all.cols, or that rounded up to whole registers
  T* buffer;    // block x width

  FOVEA_INLINE bool direct() const noexcept {
    return std::is_same_v<T, E> && all.col_stride == 1 && width == all.cols;
  }

  FOVEA_INLINE rows_of<T> read(range keys) const noexcept {
    if constexpr (std::is_same_v<T, E>)
      if (direct()) return {all.at(keys.first), all.row_stride, width};
    return copy(keys);
  }

 private:
  FOVEA_NOINLINE rows_of<T> copy(range keys) const noexcept {
    if (all.row_stride == 1 && all.col_stride != 1)
      copy_columns(keys);
    else
      for (index j = 0; j < keys.size(); ++j)
        load_elements(all.at(keys.first + j), all.col_stride, all.cols, buffer + j * width);
    for (index j = 0; j < keys.size(); ++j)
      for (index c = all.cols; c < width; ++c) buffer[j * width + c] = T(0);
    return {buffer, width, width};
  }

  // Column-major: n tokens of n columns are loaded along the columns and transposed in registers.
  FOVEA_INLINE void copy_columns(range keys) const noexcept {
    constexpr index n = lanes<Arch, T>;
    using V = vec<Arch, T>;
    alignas(64) T row[n] = {};
    for (index j = 0; j < keys.size(); j += n)
      for (index c = 0; c < all.cols; c += n) {
        const index tokens = std::min(n, keys.size() - j), columns = std::min(n, all.cols - c);
        V v[n];
        for (index e = 0; e < n; ++e) {
          if (e < columns) load_elements(all.at(keys.first + j, c + e), index(1), tokens, row);
          v[e] = V::load_aligned(row);
        }
        isa<Arch>::transpose(v);
        for (index i = 0; i < tokens; ++i) {
          T* to = buffer + (j + i) * width + c;
          if (columns == n) {
            v[i].store_unaligned(to);
          } else {
            v[i].store_aligned(row);
            for (index e = 0; e < columns; ++e) to[e] = row[e];
          }
        }
      }
  }
};

/// The operand for a view, with rows of `width` and room for a block of them.
template <class Arch, class T, class E>
FOVEA_INLINE operand<Arch, T, E> operand_of(const matrix_view<const E>& all, index width,
                                            T* buffer) noexcept {
  return {all, width, buffer};
}

/// Whether no element of a block of rows is NaN or infinite.
template <class Arch, class T>
FOVEA_NOINLINE bool all_finite(rows_of<T> rows, index count) noexcept {
  using V = vec<Arch, T>;
  constexpr index n = static_cast<index>(V::size);
  V nothing(T(0));  // 0 * x is 0, or NaN
  T rest = T(0);
  for (index j = 0; j < count; ++j) {
    const T* row = rows.data + j * rows.stride;
    index c = 0;
    for (; c + n <= rows.dim; c += n) nothing = nothing + V::load_unaligned(row + c) * V(T(0));
    for (; c < rows.dim; ++c) rest += row[c] * T(0);
  }
  return xsimd::all(nothing == nothing) && rest == rest;
}

}  // namespace kernel
FOVEA_NAMESPACE_END
