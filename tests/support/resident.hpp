// tests/support/resident.hpp - how much memory of this process is resident (Linux).
#pragma once

#include <cstddef>
#include <fstream>
#include <string>

namespace fovea_test {

/// The resident set of this process, in bytes: now ("VmRSS:"), or the largest since the last call of
/// measure_resident_again() ("VmHWM:"); 0 where the system does not tell.
inline std::ptrdiff_t resident(const char* line_of) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == line_of) {
      std::ptrdiff_t kib = 0;
      status >> kib;
      return kib * 1024;
    }
  return 0;
}
inline void measure_resident_again() { std::ofstream("/proc/self/clear_refs") << 5; }

}  // namespace fovea_test
