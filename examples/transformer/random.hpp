// transformer/random.hpp - random numbers by position: the i-th number of a stream is a function of the
// stream's key and of i alone. A run that is interrupted continues with the same numbers, and no library
// decides what they are.
#pragma once

#include "parameter.hpp"

#include <cmath>
#include <cstdint>

namespace transformer {

/// A bijection of 64-bit words that leaves no pattern: the finaliser of SplitMix64 (Steele, Lea and Flood,
/// "Fast splittable pseudorandom number generators", 2014).
constexpr std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// The key of a stream of its own for each list of numbers: random_key(seed, step, layer).
constexpr std::uint64_t random_key(std::uint64_t seed, auto... path) {
  std::uint64_t key = mixed(seed);
  ((key = mixed(key ^ static_cast<std::uint64_t>(path)) + 1), ...);
  return key;
}

/// Bits, and numbers of them, one after another.
class random_stream {
 public:
  constexpr explicit random_stream(std::uint64_t key) : key_(key) {}

  constexpr std::uint64_t bits() { return mixed(key_ ^ mixed(count_++)); }
  /// A number within [0, n); of equal chance but for one part in 2^32 / n.
  constexpr std::uint32_t below(std::uint32_t n) {
    return static_cast<std::uint32_t>(((bits() >> 32) * n) >> 32);
  }
  /// A number within [0, 1).
  constexpr double unit() { return static_cast<double>(bits() >> 11) * 0x1p-53; }

 private:
  std::uint64_t key_, count_ = 0;
};

/// Numbers of equal chance within +-bound.
template <class T>
Matrix<T> uniform_matrix(Index rows, Index cols, double bound, std::uint64_t key) {
  random_stream stream(key);
  return Matrix<T>::NullaryExpr(rows, cols, [&] { return static_cast<T>((2 * stream.unit() - 1) * bound); });
}

}  // namespace transformer
