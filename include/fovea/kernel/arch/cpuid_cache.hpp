// fovea/kernel/arch/cpuid_cache.hpp - what an x86 processor says of its caches.
#pragma once

#include <fovea/index.hpp>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

FOVEA_NAMESPACE_BEGIN

/// Bytes of the largest cache that cpuid describes in a leaf of "deterministic cache parameters" (4 of Intel,
/// 0x8000001D of AMD, in the same format); 0 if none. (glibc 2.36 says of AMD what all chiplets have
/// together: 256 MB where a core reaches 32.)
inline double largest_cache_of([[maybe_unused]] unsigned leaf) noexcept {
  double largest = 0;
#if defined(__x86_64__) || defined(__i386__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kind = 31, most = 16;
  for (unsigned i = 0; i < most && __get_cpuid_count(leaf, i, &a, &b, &c, &d) != 0 && (a & kind) != 0; ++i) {
    const double ways = (b >> 22) + 1, partitions = (b >> 12 & 1023) + 1, line = (b & 4095) + 1,
                 sets = c + 1.0;
    largest = std::max(largest, ways * partitions * line * sets);
  }
#endif
  return largest;
}

FOVEA_NAMESPACE_END
