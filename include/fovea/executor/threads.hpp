// fovea/executor/threads.hpp - a pool of threads: Eigen's ThreadPool.
#pragma once

#include <fovea/executor/concept.hpp>

#include <unsupported/Eigen/CXX11/ThreadPool>

#include <atomic>
#include <chrono>

FOVEA_NAMESPACE_BEGIN

/// `workers` threads work on a call: the calling thread and workers - 1 of the pool's. Tasks are handed out
/// one by one, so uneven ones balance. Several threads may share a pool. Construction starts the threads,
/// destruction joins them.
class threads {
 public:
  FOVEA_INLINE explicit threads(index_type workers)
      : pool_(static_cast<int>(std::max<index_type>(checked(workers) - 1, 1))), workers_(workers) {}
  FOVEA_INLINE ~threads() = default;

  FOVEA_INLINE index_type workers() const noexcept { return workers_; }

  template <class Unit = this_unit>
  FOVEA_INLINE void for_each(index_type n, task_ref f) const {
    std::atomic<index_type> next{0};
    const auto work = [&next, n, f](index_type worker) {
      for (index_type i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) f(i, worker);
    };
    const index_type helpers = std::max<index_type>(std::min(workers_, n) - 1, 0);
    std::atomic<index_type> busy{helpers};
    Eigen::Barrier done(static_cast<unsigned>(helpers));
    for (index_type w = 1; w <= helpers; ++w)
      pool_.Schedule([&work, &busy, &done, w] {
        work(w);
        busy.fetch_sub(1, std::memory_order_relaxed);
        done.Notify();
      });
    work(0);
    using clock = std::chrono::steady_clock;
    for (const auto until = clock::now() + patience; busy.load(std::memory_order_relaxed) > 0;)
      if (clock::now() > until) break;
    done.Wait();
  }

 private:
  /// So long the caller looks whether the others are done before it sleeps: about as long as falling asleep
  /// and waking takes. It does not yield meanwhile: where other programs run, that may cost milliseconds.
  static constexpr std::chrono::microseconds patience{50};

  FOVEA_INLINE static index_type checked(index_type workers) {
    if (workers < 1) reject("threads has ", workers, " workers, fewer than 1");
    return workers;
  }

  mutable Eigen::ThreadPool pool_;
  index_type workers_;
};

FOVEA_NAMESPACE_END
