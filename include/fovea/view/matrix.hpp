// fovea/view/matrix.hpp - one head of one sequence: tokens x dim elements in memory, any strides. What
// kernels see.
#pragma once

#include <fovea/index.hpp>

#include <type_traits>

FOVEA_NAMESPACE_BEGIN

template <class E>
struct matrix_view;

/// Tokens of one head that lie in one piece, and what their numbers are worth: element (i, c) stands for
/// tokens(i, c) * channel_scales[c] * token_scales[i]; a null pointer stands for ones.
template <class E>
struct piece {
  using element = E;
  matrix_view<const E> tokens;
  const float* channel_scales = nullptr;
  const float* token_scales = nullptr;
};

/// Element (r, c) lies at data[r * row_stride + c * col_stride]. Strides count elements and may be 0 or
/// negative.
template <class E>
struct matrix_view {
  using element = std::remove_const_t<E>;
  E* data = nullptr;
  index_type rows = 0, cols = 0;
  index_type row_stride = 0, col_stride = 1;

  FOVEA_INLINE E* at(index_type r, index_type c = 0) const noexcept {
    return data + r * row_stride + c * col_stride;
  }
  FOVEA_INLINE E& operator()(index_type r, index_type c) const noexcept { return *at(r, c); }
  FOVEA_INLINE operator matrix_view<const E>() const noexcept
    requires(!std::is_const_v<E>)
  {
    return {data, rows, cols, row_stride, col_stride};
  }

  /// The rows `some` alone.
  FOVEA_INLINE matrix_view only(range some) const noexcept {
    return {at(some.first), some.size(), cols, row_stride, col_stride};
  }

  /// A head of tokens, as kernels read it, has rows, cols, col_stride and each_piece(range, f), which calls
  /// f(piece) for the pieces that these tokens lie in, in order. A matrix lies in one.
  template <class F>
  FOVEA_INLINE void each_piece(range some, F&& f) const noexcept {
    if (!some.empty()) f(piece<element>{only(some)});
  }
};

FOVEA_NAMESPACE_END
