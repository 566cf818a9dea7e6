// fovea/executor/openmp.hpp - OpenMP's threads. Needs -fopenmp, where the umbrella executor.hpp includes it.
#pragma once

#include <fovea/executor/concept.hpp>

#ifdef _OPENMP
#include <omp.h>

FOVEA_NAMESPACE_BEGIN

/// `workers` threads of OpenMP's pool; without a number, as many as OpenMP would take.
class openmp {
 public:
  FOVEA_INLINE explicit openmp(index_type workers = omp_get_max_threads()) : workers_(workers) {
    if (workers < 1) reject("openmp has ", workers, " workers, fewer than 1");
  }
  FOVEA_INLINE index_type workers() const noexcept { return workers_; }
  FOVEA_INLINE void for_each(index_type n, task_ref f) const {
    const int team = static_cast<int>(std::min(workers_, n));
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
    for (index_type i = 0; i < n; ++i) f(i, omp_get_thread_num());
  }

 private:
  index_type workers_;
};

FOVEA_NAMESPACE_END
#endif
