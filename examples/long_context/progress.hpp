// progress.hpp - how far a long piece of work is, an eighth at a time.
#pragma once

#include "../stopwatch.hpp"

#include <cstdio>

namespace long_context {

class progress {
 public:
  /// `what` is done `all` times. `shows`: whether anything is printed.
  progress(const char* what, std::ptrdiff_t all, bool shows = true) : what_(what), all_(all), shows_(shows) {}
  void at(std::ptrdiff_t done) {
    const std::ptrdiff_t eighths = 8 * done / all_;
    if (!shows_ || eighths == shown_) return;
    std::printf("  %s %5.1f %%  %6.2f s\n", what_, 100.0 * double(done) / double(all_), seconds());
    std::fflush(stdout);
    shown_ = eighths;
  }
  double seconds() const { return since_start_.seconds(); }

 private:
  const char* what_;
  std::ptrdiff_t all_, shown_ = 0;
  bool shows_;
  examples::stopwatch since_start_;
};

}  // namespace long_context
