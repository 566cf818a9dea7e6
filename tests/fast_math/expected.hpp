// What attention over one head is, in double and by the textbook, of plain arrays: compiled without -ffast-math.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fovea_test {

/// q (queries, dim), k and v (keys, dim), bias and seen (queries, keys), row by row; no bias: nullptr; cap 0: none.
struct problem {
  const float *q, *k, *v, *bias;
  const bool* seen;
  std::ptrdiff_t queries, keys, dim;
  double cap;
};

struct result {
  std::vector<double> out, magnitude, lse,
      largest;               // magnitude: P |V|; largest: of |s| of a row, and of its terms
  std::vector<bool> hidden;  // whether a row sees no key
};
result expected(const problem& p);

struct slopes {
  std::vector<double> d_q, d_k, d_v;
};
slopes expected_slopes(const problem& p, const float* d_out);

/// The bits of the float that 16 bits stand for.
std::uint32_t bits_of_fp16(std::uint32_t half);

}  // namespace fovea_test
