#include "allocations.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<std::size_t> calls{0}, bytes{0}, least{0};
std::atomic<long> until_failure{-1};

void* counted(std::size_t size, std::size_t alignment) {
  calls.fetch_add(1, std::memory_order_relaxed);
  bytes.fetch_add(size, std::memory_order_relaxed);
  if (until_failure.load(std::memory_order_relaxed) >= 0 && size >= least.load(std::memory_order_relaxed) &&
      until_failure.fetch_sub(1) == 0)
    throw std::bad_alloc();
  const std::size_t room = size == 0 ? 1 : size;
  void* p = alignment <= alignof(std::max_align_t)
                ? std::malloc(room)
                : std::aligned_alloc(alignment, (room + alignment - 1) / alignment * alignment);
  if (!p) throw std::bad_alloc();
  return p;
}

}  // namespace

namespace fovea_test {
allocation_count allocations() noexcept { return {calls.load(), bytes.load()}; }
void fail_allocation(long more_calls, std::size_t least_bytes) noexcept {
  least.store(least_bytes), until_failure.store(more_calls);
}
}  // namespace fovea_test

// The nothrow forms call these. (So do the array forms, but not a sanitizer's.) All of them are malloc and free, which g++
// takes for a mismatch where it inlines one of two.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
#endif
void* operator new(std::size_t size) { return counted(size, 1); }
void* operator new[](std::size_t size) { return counted(size, 1); }
void* operator new(std::size_t size, std::align_val_t a) {
  return counted(size, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t size, std::align_val_t a) {
  return counted(size, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
