// fovea/view/strided.hpp - sizes and strides as sequences: what views of other libraries become.
#pragma once

#include <fovea/view/tensor.hpp>

#include <array>

FOVEA_NAMESPACE_BEGIN

/// Rank 2 is one sequence, tokens x (heads * dim); rank 4 is batch x heads x tokens x dim.
template <std::size_t Rank>
concept rank_of_view = Rank == 2 || Rank == 4;

/// Strides count elements. Throws as view_traits of a tensor_view, and where heads do not divide the columns.
template <class E, std::size_t Rank>
  requires rank_of_view<Rank>
sequences<E> strided_sequences(E* data, const std::array<index_type, Rank>& sizes,
                               const std::array<index_type, Rank>& strides, index_type heads,
                               const char* name) {
  using tensors = view_traits<tensor_view<E>>;
  if constexpr (Rank == 4) {
    return tensors::view(
        {data, sizes[0], sizes[1], sizes[2], sizes[3], strides[0], strides[1], strides[2], strides[3]}, heads,
        name);
  } else {
    if (heads == any_heads) heads = 1;
    if (heads <= 0 || sizes[1] % heads != 0)
      reject(name, " has ", sizes[1], " columns, which ", heads, " heads do not divide");
    const index_type dim = sizes[1] / heads;
    return tensors::view({data, 1, heads, sizes[0], dim, 0, dim * strides[1], strides[0], strides[1]}, heads,
                         name);
  }
}

FOVEA_NAMESPACE_END
