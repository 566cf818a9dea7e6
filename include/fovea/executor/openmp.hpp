// fovea/executor/openmp.hpp - OpenMP's threads. Needs -fopenmp, where the umbrella executor.hpp includes it.
#pragma once

#include <fovea/executor/concept.hpp>
#include <fovea/executor/first_exception.hpp>
#include <fovea/executor/process.hpp>

#ifdef _OPENMP
#include <omp.h>

#include <limits>

FOVEA_NAMESPACE_BEGIN

/// `workers` threads of OpenMP's pool; without a number, as many as OpenMP would take. Inside of a parallel
/// region, a task's of its own among them, the caller does all the work unless OpenMP nests
/// (OMP_MAX_ACTIVE_LEVELS). An exception of a task reaches the caller, the first if there are several, once
/// all tasks that began have ended (no more begin then). In a child forked from the process that made this
/// object the caller does all the work.
class openmp {
 public:
  explicit openmp(index_type workers = omp_get_max_threads()) : workers_(workers) {
    if (workers < 1) reject("openmp has ", workers, " workers, fewer than 1");
  }
  index_type workers() const noexcept { return workers_; }
  void for_each(index_type n, task_ref f) const {
    const int team = static_cast<int>(std::min<index_type>({workers_, n, std::numeric_limits<int>::max()}));
    if (team < 2 || this_process() != process_) {
      for (index_type i = 0; i < n; ++i) f(i, 0);
      return;
    }
    first_exception failure;
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
    for (index_type i = 0; i < n; ++i)
      if (!failure.thrown()) failure.guard([&]() { f(i, omp_get_thread_num()); });
    failure.rethrow();
  }

 private:
  index_type workers_;
  long process_ = this_process();
};

FOVEA_NAMESPACE_END
#endif
