// fovea/view/ragged.hpp - a batch of sequences of different length, packed one after another.
#pragma once

#include <fovea/view/sequences.hpp>

FOVEA_NAMESPACE_BEGIN

/// Sequence b is the tokens offsets[b] to offsets[b + 1] of `tokens`, any view of one sequence (an Eigen
/// matrix, a tensor_view of batch 1); offsets has an entry more than there are sequences and never falls.
/// Offsets are integers of any type in a vector, array, span or Eigen vector. Nothing is copied: both must
/// outlive the call, so temporaries are refused.
template <class M>
struct ragged {
  kept<M> tokens;
  list_view<index_type> offsets;

  template <class X, class Starts>
  FOVEA_INLINE ragged(X&& all_tokens, Starts&& starts) noexcept
      : tokens(all_tokens), offsets(std::forward<Starts>(starts)) {
    static_assert(outlives_call<X>,
                  "fovea: ragged is a view; give it a named matrix or a tensor_view, not a temporary");
  }
};

template <class X, class Starts>
ragged(X&&, Starts&&) -> ragged<std::remove_reference_t<X>>;

template <class M>
inline constexpr bool is_view<ragged<M>> = true;

template <class M>
struct view_traits<ragged<M>> {
  using element = typename view_traits<std::remove_cv_t<M>>::element;

  FOVEA_INLINE static auto view(const ragged<M>& x, index_type heads, const char* name) {
    auto packed = as_sequences(x.tokens, heads, name);
    const index_type total = packed.all.tokens, n = x.offsets.size();
    if (packed.all.batch != 1) reject(name, " packs sequences into a batch of ", packed.all.batch, ", not 1");
    if (n == 0) reject(name, " has 0 offsets; a batch of n sequences has n + 1");
    for (index_type b = 0; b < n; ++b) {
      const index_type least = b == 0 ? 0 : x.offsets[b - 1], offset = x.offsets[b];
      if (offset < least || offset > total)
        reject(name, "'s offset ", b, " is ", text_of(x.offsets, b), ", not within ", least, " and ", total);
    }
    packed.offsets = x.offsets;
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
