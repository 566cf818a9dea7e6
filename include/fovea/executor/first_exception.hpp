// fovea/executor/first_exception.hpp - of the exceptions that the tasks of a call throw, the first.
#pragma once

#include <fovea/config.hpp>

#include <atomic>
#include <exception>

FOVEA_NAMESPACE_BEGIN

/// Tasks run by several threads, whose exceptions must not leave these: the first is kept for the caller.
class first_exception {
 public:
  first_exception() noexcept = default;

  /// Calls f, and keeps what it throws if nothing was kept before.
  template <class F>
  void guard(const F& f) noexcept {
#if FOVEA_EXCEPTIONS
    try {
      f();
    } catch (...) {
      if (!thrown_.exchange(true)) first_ = std::current_exception();
    }
#else
    f();
#endif
  }

  /// Whether a task threw: the others need not begin.
  bool thrown() const noexcept { return thrown_.load(std::memory_order_relaxed); }

  /// Throws it, if there is one. To be called once no guard runs any more.
  void rethrow() const {
#if FOVEA_EXCEPTIONS
    if (first_) std::rethrow_exception(first_);
#endif
  }

 private:
  std::atomic<bool> thrown_{false};
  std::exception_ptr first_;
};

FOVEA_NAMESPACE_END
