// fovea/kernel/operand/read_piece.hpp - stored elements and their scales as numbers.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/view/matrix.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Row j of a piece as `cols` numbers of T: what its scales mean, wherever no register converts it.
template <class T, class Piece>
void read_piece_row(const Piece& part, index_type j, index_type cols, T* to) noexcept {
  load_elements(part.tokens.at(j), part.tokens.col_stride, cols, to);
  if (part.channel_scales != nullptr)
    for (index_type c = 0; c < cols; ++c) to[c] *= static_cast<T>(part.channel_scales[c]);
  if (part.token_scales != nullptr)
    for (index_type c = 0; c < cols; ++c) to[c] *= static_cast<T>(part.token_scales[j]);
}

}  // namespace kernel
FOVEA_NAMESPACE_END
