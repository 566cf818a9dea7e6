// fovea/kv_cache/summarised.hpp - a cache that keeps summaries of its blocks of keys, for top_blocks.hpp.
//
//   fovea::summarised_cache cache{fovea::kv_cache<float, 8>{capacity, dim}, {.side = 64}};
//   cache.append(k, v, table.angles());
//   const auto chosen = fovea::top_blocks(q, cache.summaries(), {.blocks = 12});
//   attend.into(o, q, cache, chosen.mask(), fovea::causal);
#pragma once

#include <fovea/kv_cache/block_summaries.hpp>
#include <fovea/kv_cache/cached.hpp>
#include <fovea/kv_cache/int8_scales.hpp>

#include <utility>

FOVEA_NAMESPACE_BEGIN

/// A cache of one sequence with the sum, the least and the largest number of each channel of its blocks of
/// keys, as they are stored: turned to their positions, and rounded. (Quest, arXiv:2406.10774; MoBA,
/// arXiv:2502.13189.) It is a cache in every call, and is changed through this alone.
///
/// Cost: append reads the new keys once more (of int8 keys, which share scales, the block of 32 before them
/// as well), truncate fewer than `side` of those that are left; memory of 3 dim floats a block and head.
/// Where a cache lets go of tokens, as ring_cache does, all blocks begin anew: O(tokens) each time.
///
/// How much of the softmax the chosen blocks hold, kept_mass, is for a model's keys to say. Of 4,096 keys
/// each of which is 0.95 of the one before (0.98) and the rest noise, blocks of 64, a key and noise for a
/// query, 6 blocks hold 0.72 (0.86) by the mean and by min_max. A query over 32,768 keys of 8 heads and dim
/// 128, a tenth of the blocks: 0.20 of the time of all by the mean, 0.26 by min_max, the choice being half of
/// it.
template <class Cache>
class summarised_cache {
 public:
  using options = block_summaries::options;

  /// Takes over a cache, with the tokens that it has. Throws what block_summaries throws.
  explicit summarised_cache(Cache cache, options o = {})
      : cache_(std::move(cache)), summaries_(cache_.heads(), cache_.dim(), o) {
    follow(0);
  }

  const Cache& cache() const noexcept { return cache_; }
  const block_summaries& summaries() const noexcept { return summaries_; }
  index_type tokens() const noexcept { return cache_.tokens(); }
  index_type position() const noexcept { return cache_.position(); }
  auto keys() const noexcept { return cache_.keys(); }
  auto values() const noexcept { return cache_.values(); }

  /// What the cache's own functions of these names do, and throw; what throws has changed nothing.
  template <viewable K, class... X>
  void append(const K& k, const X&... x) {
    const index_type before = tokens();
    summaries_.reserve(at_most(as_sequences(k, any_heads, "k").max_tokens()));
    cache_.append(k, x...);
    follow(cache_.position() == tokens() ? before - shared_scales : 0);
  }
  void truncate(index_type tokens) {
    summaries_.reserve(this->tokens());
    cache_.truncate(tokens);
    follow(tokens);
  }
  void reset() { truncate(0); }
  template <class List>
    requires requires(Cache& cache, const List& list) { cache.keep(list); }
  void keep(const List& tokens) {
    summaries_.reserve(this->tokens());
    cache_.keep(tokens);
    follow(0);
  }

 private:
  using shown_head = decltype(std::declval<const Cache&>().keys().head(0, 0));
  /// Keys that a new one may change: those that get scales with it.
  static constexpr index_type shared_scales =
      may_scale_channels<shown_head> ? caching::scale_blocks::tokens : 0;

  /// Tokens that there can be after so many more.
  index_type at_most(index_type more) const noexcept {
    if constexpr (requires { cache_.capacity(); }) return std::min(tokens() + more, cache_.capacity());
    if constexpr (requires { cache_.window(); })
      return std::min(tokens() + more, cache_.window() + cache_.sinks());
    return tokens() + more;
  }
  void follow(index_type unchanged) { summaries_.follow(cache_.keys(), unchanged); }

  Cache cache_;
  block_summaries summaries_;
};

FOVEA_NAMESPACE_END
