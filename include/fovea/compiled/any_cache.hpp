// fovea/compiled/any_cache.hpp - a cache of the C header, whatever it stores.
#pragma once

#include <fovea/compiled/arguments.hpp>

#include <iosfwd>
#include <span>

FOVEA_NAMESPACE_BEGIN
namespace described {

/// What a fovea_cache is.
class any_cache {
 public:
  explicit any_cache(std::int32_t element) noexcept : element_(element) {}
  virtual ~any_cache() = default;
  std::int32_t element() const noexcept { return element_; }

  virtual void append(const fovea_tensor& k, const fovea_tensor& v, const fovea_rotary* angles) = 0;
  virtual void truncate_to(index_type tokens) = 0;
  virtual void keep(const fovea_list& kept) = 0;
  virtual void reserve(index_type capacity) = 0;
  virtual any_cache* fork() const = 0;
  /// Throws unless it is contiguous, which `what` needs.
  virtual void check_contiguous(const char* what) const = 0;
  virtual void save(std::ostream& out) const = 0;
  virtual void load(std::istream& in) = 0;
  virtual index_type tokens() const noexcept = 0;
  virtual index_type position() const noexcept = 0;
  virtual index_type bytes() const noexcept = 0;
  virtual index_type heads() const noexcept = 0;
  virtual index_type dim() const noexcept = 0;
  virtual std::span<const std::byte> memory() const noexcept = 0;
  /// A head's keys, tokens x dim one after another, in float, or in double where they are double.
  virtual void read_keys(index_type head, void* to) const noexcept = 0;

 private:
  std::int32_t element_;
};

/// What a fovea_pool is.
class any_pool {
 public:
  explicit any_pool(std::int32_t element) noexcept : element_(element) {}
  virtual ~any_pool() = default;
  std::int32_t element() const noexcept { return element_; }
  virtual index_type free_pages() const noexcept = 0;

 private:
  std::int32_t element_;
};

inline constexpr std::int64_t most_caches = std::int64_t(1) << 32;
inline const any_cache& cache_of_call(const fovea_call& call, std::int64_t b) {
  if (call.caches == nullptr || call.caches[b] == nullptr)
    reject("cache ", b, " of a call is a null pointer");
  return *reinterpret_cast<const any_cache*>(call.caches[b]);
}

}  // namespace described
FOVEA_NAMESPACE_END
