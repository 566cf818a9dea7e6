// bench/numbers.hpp - what calls are timed on.
#pragma once

#include "machine.hpp"

#include <xsimd/xsimd.hpp>

#include <cstdint>
#include <random>
#include <vector>

namespace bench {

/// Numbers that begin at a line of cache, as those of frameworks and of fovea::tensor do. Those of a plain
/// std::vector begin 16 bytes after one where they are many, so that each register is read from two lines:
/// linear attention then takes 2 to 12 % more time, decode of delta rules 35 %.
template <class E>
using numbers = std::vector<E, xsimd::aligned_allocator<E, 64>>;

/// n of them, normally distributed as activations are: a long cycle.
template <class E>
numbers<E> normal_numbers(index_type n, std::uint32_t seed) {
  std::mt19937 bits(seed);
  std::normal_distribution<float> normal;
  numbers<E> cycle(65521), all(static_cast<std::size_t>(n));
  for (E& x : cycle) x = E(normal(bits));
  std::size_t at = 0;
  for (E& x : all) {
    x = cycle[at];
    at = at + 1 == cycle.size() ? 0 : at + 1;
  }
  return all;
}

}  // namespace bench
