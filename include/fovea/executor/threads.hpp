// fovea/executor/threads.hpp - a pool of threads.
#pragma once

#include <fovea/executor/process.hpp>
#include <fovea/executor/thread_pool.hpp>

FOVEA_NAMESPACE_BEGIN

/// `workers` threads work on a call: the calling thread and workers - 1 of the pool's. Tasks are handed out
/// one by one, so uneven ones balance. Construction starts the threads, destruction joins them; a call
/// allocates nothing.
///
/// Several threads may share a pool, and a task may use the pool that it runs on, or another: threads that
/// have nothing else to do help, and the caller does the rest. An exception of a task reaches the caller, the
/// first if there are several, once all tasks that began have ended (no more begin then); the pool serves on.
/// In a child forked from the process that made the pool the caller does all the work, as children have no
/// other threads.
///
/// Throws std::invalid_argument for less than one worker; std::length_error for more than can be counted;
/// std::system_error (or std::bad_alloc) where the system gives no more threads, after joining those it gave.
class threads {
 public:
  template <class Unit = this_unit>
  explicit threads(index_type workers) : workers_(workers) {
    if (workers < 1) reject("threads has ", workers, " workers, fewer than 1");
    size_product("threads", workers, 2 * sizeof(std::thread));
    pool_->template start<Unit>(workers - 1);
  }
  ~threads() {
    // A child can neither join its parent's threads nor destroy what they wait on.
    if (this_process() != process_) static_cast<void>(pool_.release());
  }

  index_type workers() const noexcept { return workers_; }

  template <class Unit = this_unit>
  void for_each(index_type n, task_ref f) const {
    const index_type helpers = std::min(workers_, n) - 1;
    if (helpers > 0 && this_process() == process_) return pool_->template run<Unit>(n, helpers, f);
    for (index_type i = 0; i < n; ++i) f(i, 0);
  }

 private:
  index_type workers_;
  long process_ = this_process();
  std::unique_ptr<thread_pool> pool_ = std::make_unique<thread_pool>();
};

FOVEA_NAMESPACE_END
