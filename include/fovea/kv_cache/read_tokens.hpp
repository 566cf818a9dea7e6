// fovea/kv_cache/read_tokens.hpp - tokens of a head as numbers, however they are stored.
#pragma once

#include <fovea/kernel/operand/read_piece.hpp>

FOVEA_NAMESPACE_BEGIN
namespace caching {

/// Writes the numbers of some tokens of a head, rows `stride` apart.
template <class Head, class T>
void read_tokens(const Head& head, range tokens, T* to, index_type stride) noexcept {
  if constexpr (decoding_head<Head>) {
    head.read(tokens, to, stride);
  } else {
    head.each_piece(tokens, [&](const auto& part) {
      for (index_type i = 0; i < part.tokens.rows; ++i, to += stride)
        kernel::read_piece_row(part, i, head.cols, to);
    });
  }
}

}  // namespace caching
FOVEA_NAMESPACE_END
