// tests/support/allocations.hpp - how often operator new was called, and a call of it that fails; the
// program links allocations.cpp, which replaces it.
#pragma once

#include <cstddef>

namespace fovea_test {

struct allocation_count {
  std::size_t calls, bytes;
};

/// Since the program started, in all threads.
allocation_count allocations() noexcept;

/// After `calls` more allocations of so many bytes or more, in whatever thread, the next one throws
/// std::bad_alloc, once; -1: none does.
void fail_allocation(long calls, std::size_t least_bytes = 0) noexcept;

}  // namespace fovea_test
