// fovea/plan/last_cache.hpp - how much memory this machine keeps near.
#pragma once

#include <fovea/kernel/arch/cpuid_cache.hpp>

#if __has_include(<unistd.h>)
#include <unistd.h>
#endif

FOVEA_NAMESPACE_BEGIN

/// Bytes of the largest cache that a core reaches, asked once; 32 MB where nothing says.
inline double last_cache_bytes() noexcept {
  static const double bytes = [] {
    double largest = std::max(largest_cache_of(4), largest_cache_of(0x8000001Du));
#ifdef _SC_LEVEL3_CACHE_SIZE
    if (!(largest > 0))
      largest = static_cast<double>(std::max(sysconf(_SC_LEVEL2_CACHE_SIZE), sysconf(_SC_LEVEL3_CACHE_SIZE)));
#endif
    return largest > 0 ? largest : 32e6;
  }();
  return bytes;
}

/// Whether so many bytes are not found near when they are read again. A quarter of the cache counts: others
/// use it as well. (Decoding takes, where what lies near is taken not to: of 32 MB, Zen 3, 1.08 times as long
/// at 8 MB, 0.80 at 17; of 260 MB, Emerald Rapids, 1.05 at 34.)
inline bool lies_beyond_caches(double bytes) noexcept { return bytes > last_cache_bytes() / 4; }

/// Bytes of a token of all heads of K or V.
template <class Operand>
double bytes_a_token(const Operand& x) noexcept {
  using element = typename std::remove_cvref_t<decltype(x.head(0, 0))>::element;
  return static_cast<double>(x.heads() * x.dim()) * sizeof(element);
}

FOVEA_NAMESPACE_END
