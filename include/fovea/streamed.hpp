// fovea/streamed.hpp - keys and values that are longer than memory: written to a file block by block, and
// attended to from there.
//
//   fovea::cache_writer<std::int8_t, 8> writer("context.kv", tokens, dim);
//   while (...) writer.append(k, v);                               // a few tokens at a time
//   writer.finish();
//   const fovea::streamed_cache<std::int8_t, 8> cache("context.kv", {.resident_bytes = 256 << 20});
//   auto o = attend(q, cache);
//
// cache_writer: the file of kv_cache::save, with memory for one block (streamed/writer.hpp)
// streamed_cache: such a file as a cache, with a bound on resident memory (streamed/cache.hpp; POSIX alone)
#pragma once

#include <fovea/attention.hpp>
#include <fovea/streamed/cache.hpp>
#include <fovea/streamed/writer.hpp>
