// fovea/view/ragged.hpp - a batch of sequences of different length, packed one after another.
#pragma once

#include <fovea/view/sequences.hpp>

#include <span>

FOVEA_NAMESPACE_BEGIN

/// Sequence b is the tokens offsets[b] to offsets[b + 1] of `tokens`, any view of one sequence (an Eigen
/// matrix, a tensor_view of batch 1); offsets has an entry more than there are sequences and never falls.
/// Nothing is copied: both must outlive the call.
template <class M>
struct ragged {
  M& tokens;
  std::span<const index_type> offsets;

  FOVEA_INLINE ragged(M& all_tokens, std::span<const index_type> starts) noexcept
      : tokens(all_tokens), offsets(starts) {}
};

template <class M>
struct view_traits<ragged<M>> {
  using element = typename view_traits<std::remove_cv_t<M>>::element;

  FOVEA_INLINE static auto view(const ragged<M>& x, index_type heads, const char* name) {
    auto packed = as_sequences(x.tokens, heads, name);
    const index_type total = packed.all.tokens, n = static_cast<index_type>(x.offsets.size());
    if (packed.all.batch != 1) reject(name, " packs sequences into a batch of ", packed.all.batch, ", not 1");
    if (n == 0) reject(name, " has 0 offsets; a batch of n sequences has n + 1");
    for (index_type b = 0; b < n; ++b) {
      const index_type least = b == 0 ? 0 : x.offsets[static_cast<std::size_t>(b - 1)];
      const index_type offset = x.offsets[static_cast<std::size_t>(b)];
      if (offset < least || offset > total)
        reject(name, "'s offset ", b, " is ", offset, ", not within ", least, " and ", total);
    }
    packed.offsets = x.offsets.data();
    packed.count = n - 1;
    return packed;
  }

  template <class T>
  FOVEA_INLINE static auto make_like(const ragged<M>& x, index_type heads, index_type dim) {
    return fovea::make_like<T>(x.tokens, heads, dim);
  }
};

template <class M, class Y>
FOVEA_INLINE ragged<Y> cut_like(const ragged<M>& x, Y& made) noexcept {
  return {made, x.offsets};
}

FOVEA_NAMESPACE_END
