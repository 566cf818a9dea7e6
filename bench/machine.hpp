// bench/machine.hpp - whose time is measured: pinning, and the best time of many runs on several threads at
// once.
#pragma once

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <limits>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif

namespace bench {

using index_type = std::ptrdiff_t;

/// Keeps the calling thread on the first processor it may use, as long as this lives; elsewhere than on Linux
/// it does nothing. One thread that wanders pays for cold caches.
class pinned {
 public:
  pinned(const pinned&) = delete;
  pinned& operator=(const pinned&) = delete;
#ifdef __linux__
  explicit pinned(bool wanted) {
    if (!wanted || sched_getaffinity(0, sizeof before_, &before_) != 0) return;
    int first = 0;
    while (first < CPU_SETSIZE - 1 && !CPU_ISSET(first, &before_)) ++first;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    done_ = sched_setaffinity(0, sizeof one, &one) == 0;
  }
  ~pinned() {
    if (done_) sched_setaffinity(0, sizeof before_, &before_);
  }

 private:
  cpu_set_t before_{};
  bool done_ = false;
#else
  explicit pinned(bool) {}
#endif
};

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// The shortest time in which `threads` threads, the calling one among them, all finish run(thread), started
/// together again and again for `patience` seconds and at least three times.
template <class F>
double best_time(index_type threads, double patience, const F& run) {
  const pinned alone(threads == 1);
  std::barrier<> gate(threads);
  std::atomic<bool> more = true;
  std::vector<std::thread> others;
  for (index_type t = 1; t < threads; ++t)
    others.emplace_back([&, t] {
      for (gate.arrive_and_wait(); more; gate.arrive_and_wait()) {
        run(t);
        gate.arrive_and_wait();
      }
    });
  double best = std::numeric_limits<double>::infinity();
  const double end = seconds_now() + patience;
  for (int n = 0; n < 3 || seconds_now() < end; ++n) {
    gate.arrive_and_wait();
    const double start = seconds_now();
    run(0);
    gate.arrive_and_wait();
    best = std::min(best, seconds_now() - start);
  }
  more = false;
  gate.arrive_and_wait();
  for (auto& t : others) t.join();
  return best;
}

}  // namespace bench
