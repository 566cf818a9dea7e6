// fovea/view/ragged.hpp - a batch of sequences of different length, packed one after another.
#pragma once

#include <fovea/view/sequences.hpp>

FOVEA_NAMESPACE_BEGIN

/// Sequence b is the tokens offsets[b] to offsets[b + 1] of `tokens`, any view of one sequence (an Eigen
/// matrix, a tensor_view of batch 1); offsets has an entry more than there are sequences and never falls; {0}
/// are none. Offsets are integers of any type in a vector, array, span or Eigen vector. Nothing is copied:
/// both must outlive the call, so temporaries are refused.
///
/// Rows before the first offset and behind the last belong to no sequence, as padding at the end of a buffer:
/// they are not read, and what is written for them, in results that are returned or that were given, is that
/// of a row that sees no key: O and gradients 0, LSE -inf. (For a part of a batch give blocks of the rows.)
template <class M>
struct ragged {
  stored<M> tokens;
  list_view<index_type> offsets;

  template <class X, class Starts>
  ragged(X&& all_tokens, Starts&& starts) noexcept
      : tokens(all_tokens), offsets(std::forward<Starts>(starts)) {
    static_assert(outlives_call<X>,
                  "fovea: ragged is a view; give it a named matrix or a tensor_view, not a temporary");
  }
};

template <class X, class Starts>
ragged(X&&, Starts&&) -> ragged<std::remove_reference_t<X>>;

template <class M>
inline constexpr bool is_view<ragged<M>> = true;

/// Whether offsets name sequences of `total` tokens.
inline void check_offsets(const char* name, const list_view<index_type>& offsets, index_type total) {
  if (offsets.empty()) reject(name, " has 0 offsets; a batch of n sequences has n + 1");
  for (index_type b = 0, least = 0; b < offsets.size(); least = offsets[b++])
    if (const index_type offset = offsets[b]; offset < least || offset > total)
      reject(name, "'s offset ", b, " is ", text_of(offsets, b), ", not within ", least, " and ", total);
}

template <class M>
struct view_traits<ragged<M>> {
  using element = typename view_traits<std::remove_cv_t<M>>::element;
  static constexpr bool tells_heads = fovea::tells_heads<M>;

  static auto view(const ragged<M>& x, index_type heads, const char* name) {
    auto packed = as_sequences(x.tokens, heads, name);
    const index_type total = packed.all.tokens, n = x.offsets.size();
    if (packed.all.batch != 1) reject(name, " packs sequences into a batch of ", packed.all.batch, ", not 1");
    check_offsets(name, x.offsets, total);
    packed.offsets = &x.offsets;
    packed.count = n - 1;
    return packed;
  }

  template <class T>
  static auto make_like(const ragged<M>& x, index_type heads, index_type dim) {
    return fovea::make_like<T>(x.tokens, heads, dim);
  }
};

template <class M, class Y>
ragged<Y> shaped_like(const ragged<M>& x, Y& like) noexcept {
  return {like, x.offsets};
}

FOVEA_NAMESPACE_END
