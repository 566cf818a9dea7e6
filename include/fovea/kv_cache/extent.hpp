// fovea/kv_cache/extent.hpp - the sizes of a cache's memory.
#pragma once

#include <fovea/index.hpp>

FOVEA_NAMESPACE_BEGIN
namespace caching {

/// Sizes of a store. `sinks`: the first tokens of a page that no other token ever replaces.
struct extent {
  index_type pages = 1, page_tokens = 0, heads = 0, dim = 0, value_dim = 0, sinks = 0;
};

/// That of a cache that was moved from, which has no memory.
inline constexpr extent no_extent{0, 0, 0, 0, 0, 0};
inline void check_held(const extent& e) {
  if (e.heads == 0) reject("the cache was moved from: it has no memory");
}

inline index_type widest(const extent& e) noexcept { return std::max(e.dim, e.value_dim); }
/// Whether all bytes of a store, and of what is kept beside it, can be counted: 256 for each element are
/// more than all of its parts take.
inline bool countable(const extent& e) noexcept {
  return fovea::countable(e.pages, e.page_tokens, e.heads, widest(e), index_type(256));
}

/// `e`, with as many heads as a type says (KVHeads, or dynamic_heads) where it names none, and a value_dim
/// of dim where it names none; or throws std::invalid_argument, or std::length_error where its memory can
/// not be counted.
inline extent checked(extent e, int kv_heads) {
  if (e.heads == 0 && kv_heads != dynamic_heads) e.heads = kv_heads;
  if (e.value_dim == 0) e.value_dim = e.dim;
  const auto positive = [](const char* name, index_type value) {
    if (value <= 0) reject("a cache's ", name, " is ", value, ", not above 0");
  };
  positive("number of pages", e.pages), positive("capacity (tokens a page)", e.page_tokens);
  if (e.heads == 0)
    reject("a cache's number of heads is 0, not above 0; give it as an option, {.heads = 8}, or in the ",
           "type, as kv_cache<float, 8>");
  positive("number of heads", e.heads), positive("dim", e.dim), positive("value_dim", e.value_dim);
  if (kv_heads != dynamic_heads && e.heads != kv_heads)
    reject("a cache has ", e.heads, " heads, but its type says ", kv_heads);
  if (!countable(e))
    reject_sizes("a cache (pages x tokens x heads x dim)", e.pages, e.page_tokens, e.heads, widest(e));
  return e;
}

}  // namespace caching
FOVEA_NAMESPACE_END
