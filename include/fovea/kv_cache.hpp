// fovea/kv_cache.hpp - keys and values kept for decoding.
//
//   fovea::kv_cache<fovea::bf16, 8> cache{capacity, dim};       // 8 key/value heads
//   cache.append(k, v, table.angles());                         // k turned to its positions on the way
//   auto o = attend(q, cache, fovea::causal);                   // q: the newest tokens of the cache
//
// kv_cache: one piece of memory; saved, loaded and mapped (kv_cache/contiguous.hpp)
// ring_cache: the newest tokens of an endless sequence, and its first (kv_cache/ring.hpp)
// page_pool, paged_cache: pages that sequences share, fork and reorder (kv_cache/paged.hpp)
// cache_batch: several sequences in one call; attend_shared_prefix: where they begin alike
// joined: several of these, and segments in no cache, in one softmax (kv_cache/joined.hpp)
// gathered: a list of keys for each query, of one of these (kv_cache/gathered.hpp)
// latent_cache: one row a token that is key and, its first part, value (kv_cache/latent.hpp)
// q4_cache: keys and values in 4 bits (kv_cache/q4.hpp)
// summarised_cache: one that keeps summaries of its blocks of keys, for top_blocks (kv_cache/summarised.hpp)
//
// Elements of keys and values: float, double, bf16, fp16, fp8, or std::int8_t with scales
// (kv_cache/store.hpp).
// In a call with a cache the queries are the cache's last tokens: causal, sliding_window and alibi stand so.
#pragma once

#include <fovea/attention.hpp>
#include <fovea/kv_cache/contiguous.hpp>
#include <fovea/kv_cache/gathered.hpp>
#include <fovea/kv_cache/joined.hpp>
#include <fovea/kv_cache/latent.hpp>
#include <fovea/kv_cache/paged.hpp>
#include <fovea/kv_cache/q4.hpp>
#include <fovea/kv_cache/ring.hpp>
#include <fovea/kv_cache/shared_prefix.hpp>
#include <fovea/kv_cache/summarised.hpp>
