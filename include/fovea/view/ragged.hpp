// fovea/view/ragged.hpp - a batch of sequences of different length, packed one after another.
#pragma once

#include <fovea/view/sequences.hpp>

FOVEA_NAMESPACE_BEGIN

/// Sequence b is the tokens offsets[b] to offsets[b + 1] of `tokens`, any view of one sequence (an Eigen
/// matrix, a tensor_view of batch 1); offsets has an entry more than there are sequences and never falls; {0}
/// are none. Or, with a length for each offset, the lengths[b] tokens from offsets[b] on, as many offsets as
/// lengths: sequences follow each other, and there may be rows between them. Both are integers of any type in
/// a vector, array, span or Eigen vector. Nothing is copied: all must outlive the call, so temporaries are
/// refused.
///
/// Rows before the first sequence, between two and behind the last belong to none, as padding in a buffer
/// does: they are not read, and what is written for them, in results that are returned or that were given, is
/// that of a row that sees no key: O and gradients 0, LSE -inf. (For a part of a batch give blocks of the
/// rows.)
template <class M>
struct ragged {
  stored<M> tokens;
  list_view<index_type> offsets, lengths = {};

  template <class X, class Starts>
  ragged(X&& all_tokens, Starts&& starts) noexcept
      : tokens(all_tokens), offsets(std::forward<Starts>(starts)) {
    static_assert(outlives_call<X>,
                  "fovea: ragged is a view; give it a named matrix or a tensor_view, not a temporary");
  }
  template <class X, class Starts, class Counts>
  ragged(X&& all_tokens, Starts&& starts, Counts&& counts) noexcept
      : ragged(std::forward<X>(all_tokens), std::forward<Starts>(starts)) {
    lengths = list_view<index_type>(std::forward<Counts>(counts));
  }
};

template <class X, class Starts>
ragged(X&&, Starts&&) -> ragged<std::remove_reference_t<X>>;
template <class X, class Starts, class Counts>
ragged(X&&, Starts&&, Counts&&) -> ragged<std::remove_reference_t<X>>;

template <class M>
inline constexpr bool is_view<ragged<M>> = true;

/// Whether offsets, and lengths where there are any, name sequences of `total` tokens.
inline void check_offsets(const char* name, const list_view<index_type>& offsets,
                          const list_view<index_type>& lengths, index_type total) {
  if (!lengths && offsets.empty()) reject(name, " has 0 offsets; a batch of n sequences has n + 1");
  if (lengths && offsets.size() != lengths.size())
    reject(name, " has ", offsets.size(), " offsets but ", lengths.size(),
           " lengths; a batch of n sequences has n of both");
  index_type least = 0;
  for (index_type b = 0; b < offsets.size(); ++b) {
    const index_type offset = offsets[b];
    if (lengths && offset >= 0 && offset < least)
      reject(name, "'s offset ", b, " is ", offset, ", but sequence ", b - 1, " ends at ", least,
             ": sequences follow each other and do not overlap");
    if (offset < least || offset > total)
      reject(name, "'s offset ", b, " is ", text_of(offsets, b), ", not within ", lengths ? 0 : least,
             " and ", total);
    least = offset;
    if (!lengths) continue;
    const index_type length = lengths[b];
    if (length < 0 || length > total - offset)
      reject(name, "'s length ", b, " is ", text_of(lengths, b), ", not within 0 and the ", total - offset,
             " tokens from offset ", offset, " on");
    least += length;
  }
}

template <class M>
struct view_traits<ragged<M>> {
  using element = typename view_traits<std::remove_cv_t<M>>::element;
  static constexpr bool tells_heads = fovea::tells_heads<M>;

  static auto view(const ragged<M>& x, index_type heads, const char* name) {
    auto packed = as_sequences(x.tokens, heads, name);
    const index_type total = packed.all.tokens, n = x.offsets.size();
    if (packed.all.batch != 1) reject(name, " packs sequences into a batch of ", packed.all.batch, ", not 1");
    check_offsets(name, x.offsets, x.lengths, total);
    packed.offsets = &x.offsets;
    packed.count = x.lengths ? n : n - 1;
    if (x.lengths) packed.lengths = &x.lengths;
    return packed;
  }

  template <class T>
  static auto make_like(const ragged<M>& x, index_type heads, index_type dim) {
    return fovea::make_like<T>(x.tokens, heads, dim);
  }
};

template <class M, class Y>
ragged<Y> shaped_like(const ragged<M>& x, Y& like) noexcept {
  return {like, x.offsets, x.lengths};
}

FOVEA_NAMESPACE_END
