// fovea/element/inverse_length.hpp - 1 / |x| of numbers of any size, whose squares may be infinite or 0.
#pragma once

#include <fovea/index.hpp>

#include <algorithm>
#include <cmath>

FOVEA_NAMESPACE_BEGIN

/// A factor in two parts, as it may be less than the least normal number where what it gives is not:
/// 1 / |x| of x = (2^1023, ..., 2^1023).
struct split_factor {
  double power = 1, rest = 1;  // power: of two
  template <class T>
  T times(T x) const noexcept {
    return static_cast<T>(static_cast<double>(x) * power * rest);
  }
  double value() const noexcept { return power * rest; }
};

/// The sum of (power x_i)^2, n of them.
template <class T>
double sum_of_squares(const T* x, index_type n, index_type stride, double power) noexcept {
  double sums[4] = {};  // one would wait for itself
  for (index_type i = 0; i < n; ++i) {
    const double scaled = static_cast<double>(x[i * stride]) * power;
    sums[i % 4] += scaled * scaled;
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/// 1 / sqrt(sum of x_i^2 + more), x being n numbers of T, float or double: infinite where that is 1 / 0, NaN
/// where one of them is. Squares of floats are numbers in double; doubles beyond 1e150, or all below 1e-140,
/// are brought near 1 by a power of two, exactly.
template <class T>
FOVEA_NOINLINE split_factor inverse_length(const T* x, index_type n, index_type stride = 1,
                                           double more = 0) noexcept {
  const double squares = sum_of_squares(x, n, stride, 1) + more;
  if ((squares > 1e-280 && squares < 1e300) || squares != squares) return {1, 1 / std::sqrt(squares)};
  double largest = 0;
  for (index_type i = 0; i < n; ++i)
    largest = std::max(largest, std::abs(static_cast<double>(x[i * stride])));
  if (!(largest > 0 && largest < HUGE_VAL)) return {1, 1 / std::sqrt(squares)};
  const double power = std::ldexp(1., -std::clamp(std::ilogb(largest), -1000, 1000));
  return {power, 1 / std::sqrt(sum_of_squares(x, n, stride, power) + more * power * power)};
}

FOVEA_NAMESPACE_END
