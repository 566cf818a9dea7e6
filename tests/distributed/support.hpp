// tests/distributed/support.hpp - whole sequences, which each rank makes, and the rows of them that it holds.
#pragma once

#include "../support/random.hpp"

#include <fovea/distributed.hpp>

#include <gtest/gtest.h>

#include <mpi.h>

#include <cmath>
#include <sstream>
#include <vector>

namespace fovea_test {

using fovea::index_type;
using fovea::range;
using fovea::token_layout;

inline int rank_here() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}
inline int ranks_here() {
  int ranks = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  return ranks;
}

template <class E>
fovea::tensor<E> random_tensor(std::uint64_t seed, index_type batch, index_type heads, index_type tokens,
                               index_type dim) {
  random_source random(seed);
  fovea::tensor<E> x(batch, heads, tokens, dim);
  for (index_type i = 0; i < x.size(); ++i) x.data()[i] = fovea::store_element<E>(random.uniform(-1, 1));
  return x;
}

/// The tokens that a rank holds: as the layout says, or of uneven length.
inline std::vector<range> ranges_of(token_layout layout, bool uneven, index_type tokens) {
  const index_type rank = rank_here(), ranks = ranks_here();
  if (uneven) {  // 1 : 2 : 3 ...
    const auto start = [&](index_type r) { return tokens * (r * (r + 1) / 2) / (ranks * (ranks + 1) / 2); };
    return {{start(rank), start(rank + 1)}};
  }
  const auto both = fovea::tokens_of_rank(layout, tokens, rank, ranks);
  return {both[0], both[1]};
}

inline index_type count_of(const std::vector<range>& ranges) {
  index_type sum = 0;
  for (const range& r : ranges) sum += r.size();
  return sum;
}

/// The rows of a tensor that a rank holds.
template <class E>
fovea::tensor<E> rows_of(const fovea::tensor<E>& x, const std::vector<range>& ranges) {
  fovea::tensor<E> part(x.batch(), x.heads(), count_of(ranges), x.dim());
  index_type row = 0;
  for (const range& r : ranges)
    for (index_type t = r.first; t < r.last; ++t, ++row)
      for (index_type b = 0; b < x.batch(); ++b)
        for (index_type h = 0; h < x.heads(); ++h)
          for (index_type c = 0; c < x.dim(); ++c) part(b, h, row, c) = x(b, h, t, c);
  return part;
}

/// Whether a rank's rows are those of the whole result, to `error`; -inf and NaN exactly.
template <class A, class B>
void expect_rows(const char* name, const fovea::tensor<A>& own, const fovea::tensor<B>& whole,
                 const std::vector<range>& ranges, double error) {
  const auto wanted = rows_of(whole, ranges);
  ASSERT_EQ(own.size(), wanted.size()) << name;
  double worst = 0;
  for (index_type i = 0; i < own.size(); ++i) {
    const auto x = fovea::load_element<double>(own.data()[i]),
               y = fovea::load_element<double>(wanted.data()[i]);
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    const double difference = std::abs(x - y);
    worst = difference <= worst ? worst : difference;
    if (!(difference <= error)) worst = std::max(worst, 1e30);
  }
  EXPECT_LE(worst, error) << name << " on rank " << rank_here();
}

}  // namespace fovea_test
