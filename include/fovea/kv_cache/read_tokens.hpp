// fovea/kv_cache/read_tokens.hpp - tokens of a head as numbers, however they are stored.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/view/matrix.hpp>

FOVEA_NAMESPACE_BEGIN
namespace caching {

/// Writes the numbers of some tokens of a head, rows `stride` apart.
template <class Head, class T>
void read_tokens(const Head& head, range tokens, T* to, index_type stride) noexcept {
  if constexpr (decoding_head<Head>) {
    head.read(tokens, to, stride);
  } else {
    head.each_piece(tokens, [&](const auto& part) {
      for (index_type i = 0; i < part.tokens.rows; ++i, to += stride) {
        load_elements(part.tokens.at(i), part.tokens.col_stride, head.cols, to);
        for (index_type c = 0; part.channel_scales != nullptr && c < head.cols; ++c)
          to[c] *= static_cast<T>(part.channel_scales[c]);
        for (index_type c = 0; part.token_scales != nullptr && c < head.cols; ++c)
          to[c] *= static_cast<T>(part.token_scales[i]);
      }
    });
  }
}

}  // namespace caching
FOVEA_NAMESPACE_END
