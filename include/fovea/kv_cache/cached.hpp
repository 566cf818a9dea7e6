// fovea/kv_cache/cached.hpp - what a cache shows of itself to a call: keys or values of one or more
// sequences.
#pragma once

#include <fovea/view/sequences.hpp>

#include <cstdint>
#include <limits>

FOVEA_NAMESPACE_BEGIN
namespace caching {

enum class side { keys, values };

/// One head of one sequence, read as a matrix_view is. Cache: stored<side>, dim_of(side), and
/// each_piece<side>(head, range, f); values_are_keys where they are the first part of these.
template <class Cache, side Side>
struct cached_head {
  using element = typename Cache::template stored<Side>;
  const Cache* cache;
  index_type head, rows, cols;
  index_type first;  // token of the cache that row 0 is
  static constexpr index_type row_stride = 0, col_stride = 1;
  static constexpr bool in_int8 = std::is_same_v<element, std::int8_t>;
  static constexpr bool as_keys = Side == side::keys || requires { requires Cache::values_are_keys; };
  static constexpr bool has_channel_scales = in_int8 && as_keys;
  static constexpr bool has_token_scales = in_int8 && !as_keys;
  static constexpr bool of_one_element = !in_int8;
  static constexpr bool in_one_piece = of_one_element && requires { requires Cache::in_one_piece; };

  /// Whether these are the first part of those keys.
  bool lies_in(const cached_head<Cache, side::keys>& keys) const noexcept
    requires as_keys
  {
    return cache == keys.cache && head == keys.head && first == keys.first;
  }
  template <class F>
  void each_piece(range wanted, F&& f) const noexcept {
    if (!wanted.empty())
      cache->template each_piece<Side>(head, {first + wanted.first, first + wanted.last}, f);
  }
};

/// Sequences of equal or different length, each in a cache of its own.
template <class Cache, side Side>
struct cached {
  static constexpr bool in_cache = true;
  const Cache* const* caches;  // or, for one cache,
  const Cache* one;
  index_type count;
  range part = {0, std::numeric_limits<index_type>::max()};  // of the tokens of each

  const Cache& of(index_type b) const noexcept { return one != nullptr ? *one : *caches[b]; }
  index_type batches() const noexcept { return count; }
  index_type heads() const noexcept { return count == 0 ? 0 : of(0).heads(); }
  index_type dim() const noexcept { return count == 0 ? 0 : of(0).dim_of(Side); }
  index_type tokens(index_type b) const noexcept { return intersect({0, of(b).tokens()}, part).size(); }
  index_type max_tokens() const noexcept {
    index_type most = 0;
    for (index_type b = 0; b < count; ++b) most = std::max(most, tokens(b));
    return most;
  }
  /// Tokens of a page of the first, of caches in pages.
  index_type page_tokens() const noexcept
    requires requires(const Cache& cache) { cache.page_tokens(); }
  {
    return count == 0 ? 0 : of(0).page_tokens();
  }
  /// f(bytes) for the memory of each cache.
  template <class F>
  void each_memory(const F& f) const {
    for (index_type b = 0; b < count; ++b) f(of(b).memory());
  }
  auto head(index_type b, index_type h) const noexcept {
    if constexpr (requires { typename Cache::template head_type<Side>; })
      return typename Cache::template head_type<Side>{&of(b), h, tokens(b), dim(), part.first};
    else
      return cached_head<Cache, Side>{&of(b), h, tokens(b), dim(), part.first};
  }
};

}  // namespace caching

template <class Cache, caching::side Side>
struct view_traits<caching::cached<Cache, Side>> {
  using element = typename Cache::compute;
  static auto view(const caching::cached<Cache, Side>& x, index_type heads, const char* name) {
    for (index_type b = 0; b < x.batches(); ++b) {
      if (x.of(b).heads() == 0) reject(name, ": cache ", b, " was moved from: it has no memory");
      if (heads != any_heads && x.of(b).heads() != heads)
        reject(name, ": cache ", b, " has ", x.of(b).heads(), " heads, not ", heads);
    }
    return x;
  }
};

/// Caches of several sequences as one argument: q is then ragged, or a tensor of as many batch entries. All
/// have the same sizes, which is checked here. Caches and the list of pointers are referred to, not copied,
/// so a temporary list is refused.
template <class Cache>
class cache_batch {
 public:
  explicit cache_batch(borrowed_span<const Cache* const> caches) : caches_(caches) {
    for (std::size_t b = 0; b < caches.size(); ++b) {
      if (caches[b] == nullptr) reject("cache ", b, " of a batch is a null pointer");
      const auto same = [&](const char* what, index_type has, index_type first) {
        if (has != first) reject("cache ", b, " of a batch has ", has, " ", what, ", the first has ", first);
      };
      same("heads", caches[b]->heads(), caches[0]->heads());
      same("dimensions a key", caches[b]->dim(), caches[0]->dim());
      same("dimensions a value", caches[b]->value_dim(), caches[0]->value_dim());
    }
  }
  auto keys() const noexcept { return shown<caching::side::keys>(); }
  auto values() const noexcept { return shown<caching::side::values>(); }

  index_type size() const noexcept { return static_cast<index_type>(caches_.size()); }
  const Cache& operator[](index_type b) const noexcept { return *caches_[static_cast<std::size_t>(b)]; }
  /// Tokens of cache b that are shown.
  index_type tokens(index_type b) const noexcept { return keys().tokens(b); }
  /// How many tokens of each are not shown.
  index_type skipped() const noexcept { return skipped_; }
  /// The same, each without its first `skipped` tokens.
  cache_batch after(index_type skipped) const noexcept {
    cache_batch rest = *this;
    rest.skipped_ += skipped;
    return rest;
  }

 private:
  template <caching::side Side>
  caching::cached<Cache, Side> shown() const noexcept {
    return {caches_.data(), nullptr, size(), {skipped_, std::numeric_limits<index_type>::max()}};
  }
  std::span<const Cache* const> caches_;
  index_type skipped_ = 0;
};

/// From a vector, array or span of pointers to caches.
template <class Pointers>
cache_batch(Pointers&&) -> cache_batch<std::remove_const_t<
    std::remove_pointer_t<std::remove_cvref_t<decltype(*std::data(std::declval<Pointers&>()))>>>>;

template <class Cache>
inline constexpr bool is_view<cache_batch<Cache>> = true;

FOVEA_NAMESPACE_END
