// fovea/kv_cache/keep.hpp - some tokens of a store in place of all.
#pragma once

#include <fovea/kv_cache/store.hpp>
#include <fovea/list_view.hpp>

FOVEA_NAMESPACE_BEGIN
namespace caching {

/// Throws std::invalid_argument unless `kept` are among `tokens` tokens, each above the one before.
inline void check_kept(const list_view<index_type>& tokens_kept, index_type tokens) {
  for (index_type i = 0; i < tokens_kept.size(); ++i) {
    if (tokens_kept[i] < 0 || tokens_kept[i] >= tokens)
      reject("keep: token ", text_of(tokens_kept, i), " is not one of ", tokens);
    if (i > 0 && tokens_kept[i] <= tokens_kept[i - 1])
      reject("keep: token ", tokens_kept[i], " comes after ", tokens_kept[i - 1],
             ", but tokens are named in ascending order");
  }
}

/// Tokens `kept` of page 0 move to its front. Tokens before the first that moves stay as they are; int8 keys
/// behind it are quantised anew, with the tokens that share their scales now. Changes nothing where there is
/// no memory.
template <class KE, class VE, class Arch>
void keep_tokens(store<KE, VE, Arch>& all, const list_view<index_type>& tokens_kept, open_block& open) {
  using Store = store<KE, VE, Arch>;
  const index_type count = tokens_kept.size(), heads = all.sizes().heads;
  index_type first = 0;
  while (first < count && tokens_kept[first] == first) ++first;
  if (first == count) return;

  // A block of keys is written when its last token is known: all that is read later lies behind it.
  open_block reopened = open;
  std::vector<typename Store::compute> key(Store::int8_keys ? static_cast<std::size_t>(all.sizes().dim)
                                                            : std::size_t{0});
  all.make_room(reopened);
  for (index_type to = first; to < count; ++to) {
    const index_type from = tokens_kept[to];
    all.move_token(0, from, to);
    if constexpr (Store::int8_keys) {
      all.begin(to, reopened);
      for (index_type h = 0; h < heads; ++h) {
        all.read_key(from, h, open, key.data());
        all.put_key(to, h, key.data(), reopened);
      }
      all.end(to, reopened);
    }
  }
  std::swap(open, reopened);
}

}  // namespace caching
FOVEA_NAMESPACE_END
