// tests/support/differences.hpp - gradients against difference quotients of a loss.
#pragma once

#include "random.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>

namespace fovea_test {

/// d loss() / d x, by central differences of fourth order.
template <class T, class Loss>
double difference(const Loss& loss, T& x, double step) {
  const T at = x;
  const auto moved = [&](double by) {
    x = static_cast<T>(static_cast<double>(at) + by * step);
    return loss();
  };
  const double far = moved(2) - moved(-2), near = moved(1) - moved(-1);
  x = at;
  return (8 * near - far) / (12 * step);
}

/// Whether some of the entries of a gradient, `probes` of them, are the difference quotients of loss().
template <class X, class G, class Loss>
void expect_slopes(const char* name, X&& x, const G& gradient, const Loss& loss, double error = 1e-8,
                   int probes = 3, random_source random = random_source(3)) {
  ASSERT_EQ(x.size(), gradient.size()) << name;
  for (int probe = 0; probe < probes && x.size() > 0; ++probe) {
    const std::ptrdiff_t i = random.integer(0, x.size() - 1);
    const double wanted = difference(loss, x.data()[i], 1e-4);
    EXPECT_NEAR(gradient.data()[i], wanted, error * (1 + std::abs(wanted))) << name << " " << i;
  }
}

}  // namespace fovea_test
