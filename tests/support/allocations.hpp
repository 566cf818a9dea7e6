// tests/support/allocations.hpp - how often operator new was called; the program links allocations.cpp, which
// replaces it.
#pragma once

#include <cstddef>

namespace fovea_test {

struct allocation_count {
  std::size_t calls, bytes;
};

/// Since the program started, in all threads.
allocation_count allocations() noexcept;

}  // namespace fovea_test
