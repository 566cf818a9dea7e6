// fovea/plan/last_cache.hpp - how much memory this machine keeps near.
#pragma once

#include <fovea/index.hpp>

#if __has_include(<unistd.h>)
#include <unistd.h>
#endif

FOVEA_NAMESPACE_BEGIN

/// Bytes of the largest cache of a processor, asked of the system once; 32 MB where it does not say.
inline double last_cache_bytes() noexcept {
  static const double bytes = [] {
    long largest = 0;
#ifdef _SC_LEVEL3_CACHE_SIZE
    largest = std::max(sysconf(_SC_LEVEL2_CACHE_SIZE), sysconf(_SC_LEVEL3_CACHE_SIZE));
#endif
    return largest > 0 ? static_cast<double>(largest) : 32e6;
  }();
  return bytes;
}

/// Whether so many bytes are not found near when they are read again. Half of the cache counts: others use it
/// as well. (268 MB of 272 took 4 % longer when they were taken to be near.)
inline bool lies_beyond_caches(double bytes) noexcept { return bytes > last_cache_bytes() / 2; }

/// Bytes of all of K or V.
template <class Operand>
double bytes_of_all(const Operand& x) noexcept {
  using element = typename std::remove_cvref_t<decltype(x.head(0, 0))>::element;
  index_type tokens = 0;
  for (index_type b = 0; b < x.batches(); ++b) tokens += x.tokens(b);
  return static_cast<double>(tokens) * static_cast<double>(x.heads() * x.dim()) * sizeof(element);
}

FOVEA_NAMESPACE_END
