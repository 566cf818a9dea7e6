// fovea/compiled/call_memory.hpp - memory of what a call makes of its description.
#pragma once

#include <fovea/index.hpp>

#include <memory_resource>
#include <new>
#include <utility>
#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace described {

/// Where what a call binds lies until it ends: the first few on the stack.
class call_memory {
 public:
  /// A copy of x, which nobody destroys.
  template <class X>
  const X* keep(const X& x) {
    static_assert(std::is_trivially_destructible_v<X>);
    return ::new (resource_.allocate(sizeof(X), alignof(X))) X(x);
  }
  /// A new X, which this destroys.
  template <class X, class... A>
  X* make(A&&... a) {
    owned_.reserve(owned_.size() + 1);
    X* const x = ::new (resource_.allocate(sizeof(X), alignof(X))) X{std::forward<A>(a)...};
    owned_.push_back({x, [](void* of) noexcept { static_cast<X*>(of)->~X(); }});
    return x;
  }
  template <class X>
  X* array(std::size_t count) {
    return static_cast<X*>(resource_.allocate(count * sizeof(X) + 1, alignof(X)));
  }
  call_memory() = default;
  call_memory(const call_memory&) = delete;
  ~call_memory() {
    while (!owned_.empty()) owned_.back().destroy(owned_.back().object), owned_.pop_back();
  }

 private:
  struct owned {
    void* object;
    void (*destroy)(void*) noexcept;
  };
  alignas(64) std::byte near_[1024];
  std::pmr::monotonic_buffer_resource resource_{near_, sizeof near_};
  std::pmr::vector<owned> owned_{&resource_};
};

}  // namespace described
FOVEA_NAMESPACE_END
