// fovea/view/matrix.hpp - one head of one sequence: tokens x dim elements in memory, any strides. What
// kernels see.
#pragma once

#include <fovea/index.hpp>

#include <type_traits>

FOVEA_NAMESPACE_BEGIN

/// Element (r, c) lies at data[r * row_stride + c * col_stride]. Strides count elements and may be 0 or
/// negative.
template <class E>
struct matrix_view {
  E* data = nullptr;
  index rows = 0, cols = 0;
  index row_stride = 0, col_stride = 1;

  FOVEA_INLINE E* at(index r, index c = 0) const noexcept { return data + r * row_stride + c * col_stride; }
  FOVEA_INLINE E& operator()(index r, index c) const noexcept { return *at(r, c); }
  FOVEA_INLINE operator matrix_view<const E>() const noexcept
    requires(!std::is_const_v<E>)
  {
    return {data, rows, cols, row_stride, col_stride};
  }
};

FOVEA_NAMESPACE_END
