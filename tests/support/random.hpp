// tests/support/random.hpp - random numbers that are the same everywhere for the same seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace fovea_test {

/// SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).
class random_source {
 public:
  explicit random_source(std::uint64_t seed) noexcept : state_(seed) {}

  std::uint64_t bits() noexcept {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  double uniform(double low, double high) noexcept {
    return low + (high - low) * static_cast<double>(bits() >> 11) * 0x1p-53;
  }
  /// Within [low, high], both ends possible.
  std::ptrdiff_t integer(std::ptrdiff_t low, std::ptrdiff_t high) noexcept {
    return low + static_cast<std::ptrdiff_t>(bits() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool chance(double probability) noexcept { return uniform(0, 1) < probability; }

  template <class T>
  const T& pick(const std::vector<T>& of) noexcept {
    return of[static_cast<std::size_t>(integer(0, static_cast<std::ptrdiff_t>(of.size()) - 1))];
  }
  template <class T>
  void shuffle(std::vector<T>& x) noexcept {
    for (std::size_t n = x.size(); n > 1; --n)
      std::swap(x[n - 1], x[static_cast<std::size_t>(integer(0, static_cast<std::ptrdiff_t>(n) - 1))]);
  }
  /// 0, 1, ..., n - 1 in random order.
  std::vector<std::ptrdiff_t> permutation(std::ptrdiff_t n) {
    std::vector<std::ptrdiff_t> p(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < p.size(); ++i) p[i] = static_cast<std::ptrdiff_t>(i);
    shuffle(p);
    return p;
  }

 private:
  std::uint64_t state_;
};

}  // namespace fovea_test
