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
/// use it as well.
inline bool lies_beyond_caches(double bytes) noexcept { return bytes > last_cache_bytes() / 4; }

/// Whether so many bytes, read once a call, come from memory: more than half of the last cache. Then few
/// query rows ask for what they read next, which is a loss where it lies near: prefetches that wait for L3
/// hold up the loads behind them, and hardware, which follows the order of these, is in time. Time of
/// asking over not asking, 8 key/value heads of 128 in float, at 8, 13, 17, 21, 25, 34 and 42 MB of 32: one
/// row 1.46, 1.42, 1.38, 1.19, 1.04, .89, .80; four 1.40, 1.40, 1.35, 1.21, .97, .73, .69; eight 1.11, 1.11,
/// 1.13, 1.05, .79, .60, .55 (Zen 5). Of 32 MB of a Zen 3, others reading as well, 1.08 at 8 MB and 0.80 at
/// 17; of 260 MB of an Emerald Rapids 1.05 at 34.
inline bool comes_from_memory(double bytes) noexcept { return bytes > last_cache_bytes() / 2; }

/// Bytes of a token of all heads of K or V.
template <class Operand>
double bytes_a_token(const Operand& x) noexcept {
  using element = typename std::remove_cvref_t<decltype(x.head(0, 0))>::element;
  return static_cast<double>(x.heads() * x.dim()) * sizeof(element);
}

FOVEA_NAMESPACE_END
