// transformer/schedule.hpp - the learning rate of step 1, 2, ...: it rises in a line to `peak`, then falls.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace transformer {

/// peak sqrt(warm_up / step) after the warm-up: arXiv:1706.03762, 5.3, which has
/// peak = 1 / sqrt(channels * warm_up).
struct inverse_sqrt_schedule {
  double peak;
  std::int64_t warm_up;

  double operator()(std::int64_t step) const {
    const auto t = static_cast<double>(step), w = static_cast<double>(std::max<std::int64_t>(warm_up, 1));
    return peak * std::min(t / w, std::sqrt(w / t));
  }
};

/// Half a cosine from peak to `least` at step `steps`: Loshchilov and Hutter, arXiv:1608.03983.
struct cosine_schedule {
  double peak, least;
  std::int64_t warm_up, steps;

  double operator()(std::int64_t step) const {
    if (step < warm_up) return peak * static_cast<double>(step) / static_cast<double>(warm_up);
    const double whole = static_cast<double>(std::max<std::int64_t>(steps - warm_up, 1));
    const double done = std::min(static_cast<double>(step - warm_up) / whole, 1.);
    return least + (peak - least) * (1 + std::cos(std::numbers::pi * done)) / 2;
  }
};

}  // namespace transformer
