// fovea/executor/threads.hpp - a pool of threads: Eigen's ThreadPool.
#pragma once

#include <fovea/executor/concept.hpp>

#include <unsupported/Eigen/CXX11/ThreadPool>

#include <atomic>

FOVEA_NAMESPACE_BEGIN

/// `workers` threads work on a call: the calling thread and workers - 1 of the pool's. Tasks are handed out
/// one by one, so uneven ones balance. Several threads may share a pool. Construction starts the threads,
/// destruction joins them.
class threads {
 public:
  FOVEA_INLINE explicit threads(index workers)
      : pool_(static_cast<int>(std::max<index>(checked(workers) - 1, 1))), workers_(workers) {}
  FOVEA_INLINE ~threads() = default;

  FOVEA_INLINE index workers() const noexcept { return workers_; }

  template <class Unit = this_unit>
  FOVEA_INLINE void for_each(index n, task_ref f) const {
    std::atomic<index> next{0};
    const auto work = [&next, n, f](index worker) {
      for (index i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) f(i, worker);
    };
    const index helpers = std::min(workers_, n) - 1;
    Eigen::Barrier done(static_cast<unsigned>(std::max<index>(helpers, 0)));
    for (index w = 1; w <= helpers; ++w)
      pool_.Schedule([&work, &done, w] {
        work(w);
        done.Notify();
      });
    work(0);
    if (helpers > 0) done.Wait();
  }

 private:
  FOVEA_INLINE static index checked(index workers) {
    if (workers < 1) reject("threads has ", workers, " workers, fewer than 1");
    return workers;
  }

  mutable Eigen::ThreadPool pool_;
  index workers_;
};

FOVEA_NAMESPACE_END
