// fovea/executor/concept.hpp - who runs the jobs of a call.
#pragma once

#include <fovea/index.hpp>
#include <fovea/lifetime.hpp>

#include <concepts>
#include <memory>
#include <type_traits>

FOVEA_NAMESPACE_BEGIN

namespace {
/// A type of each translation unit's own. Functions that are called through pointers leave a symbol behind;
/// made for this type it stays local, so that no linker merges it with the same function compiled for another
/// instruction set.
struct this_unit {};
}  // namespace

/// The work of a call: task(i, worker). A reference of two words, free to copy, valid until for_each returns.
class task_ref {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, task_ref>)
  task_ref(const F& f) noexcept
      : object_(&f), call_([](const void* o, index_type i, index_type worker) {
          (*static_cast<const F*>(o))(i, worker);
        }) {}
  void operator()(index_type task, index_type worker) const { call_(object_, task, worker); }

 private:
  const void* object_;
  void (*call_)(const void*, index_type, index_type);
};

/// An executor has
///   workers() const -> index_type    at least 1
///   for_each(index_type n, f) const  calls f(task, worker) once for each task in [0, n), in any order, from
///                                    any threads, with worker in [0, workers()), no two calls with the same
///                                    worker at a time; returns when all are done
/// Results do not depend on the executor, bit for bit. It may throw, once all tasks that began have ended:
/// the exception reaches the caller, whose results are then unspecified.
template <class X>
concept executor = requires(X& x, index_type n, task_ref f) {
  { x.workers() } -> std::convertible_to<index_type>;
  x.for_each(n, f);
};

/// A reference to an executor that outlives it; by default the calling thread does all the work.
class executor_ref {
 public:
  executor_ref() noexcept = default;
  template <executor X, class Unit = this_unit>
    requires(!std::is_same_v<std::remove_cvref_t<X>, executor_ref>)
  executor_ref(X& x) noexcept
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(x)))),
        workers_([](void* o) { return static_cast<index_type>(static_cast<X*>(o)->workers()); }),
        for_each_([](void* o, index_type n, task_ref f) { static_cast<X*>(o)->for_each(n, f); }) {}
  template <class X>
    requires(!std::is_lvalue_reference_v<X> && !std::is_same_v<std::remove_cv_t<X>, executor_ref>)
  executor_ref(X&&) noexcept {
    static_assert(
        never<X>,
        "fovea: an executor outlives the calls that it works for; give it a name (fovea::threads pool{4}) "
        "and pass that, not a temporary");
  }

  /// Throws std::invalid_argument where the executor has none.
  index_type workers() const {
    const index_type n = object_ ? workers_(object_) : 1;
    if (n < 1) reject("the executor has ", n, " workers, fewer than 1");
    return n;
  }
  void for_each(index_type n, task_ref f) const {
    if (object_ && n > 1) return for_each_(object_, n, f);
    for (index_type i = 0; i < n; ++i) f(i, 0);
  }

 private:
  void* object_ = nullptr;
  index_type (*workers_)(void*) = nullptr;
  void (*for_each_)(void*, index_type, task_ref) = nullptr;
};

FOVEA_NAMESPACE_END
