// tests/kv_cache/support.hpp - tokens to put into caches, and what a call over them must give.
#pragma once

#include <fovea/kv_cache.hpp>
#include <fovea/reference.hpp>

#include "../support/random.hpp"
#include "../support/worse.hpp"

#include <gtest/gtest.h>

namespace fovea_test {

using fovea::index_type;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

inline constexpr int heads = 6, kv_heads = 2;
inline const fovea::attention<float, heads, kv_heads> attend;

inline Matrix normal(index_type rows, index_type columns, std::uint64_t seed) {
  random_source random(seed);
  Matrix m(rows, columns);
  for (index_type i = 0; i < m.size(); ++i) {
    double sum = 0;
    for (int n = 0; n < 12; ++n) sum += random.uniform(-0.5, 0.5);
    m.data()[i] = static_cast<float>(sum);
  }
  return m;
}

/// Keys and values of a sequence, rounded to what a cache of E and VE stores exactly.
template <class E, class VE = E>
struct tokens {
  Matrix k, v;
  tokens(index_type count, index_type dim, index_type value_dim, std::uint64_t seed)
      : k(normal(count, kv_heads * dim, seed)), v(normal(count, kv_heads * value_dim, seed + 1)) {
    for (index_type i = 0; i < k.size(); ++i) k.data()[i] = static_cast<float>(static_cast<E>(k.data()[i]));
    for (index_type i = 0; i < v.size(); ++i) v.data()[i] = static_cast<float>(static_cast<VE>(v.data()[i]));
  }
  index_type count() const { return k.rows(); }
};

/// Appends rows [first, last), a few at a time.
template <class Cache>
void append(Cache& cache, const Matrix& k, const Matrix& v, index_type first, index_type last) {
  random_source random(static_cast<std::uint64_t>(last));
  while (first < last) {
    const index_type n = std::min(random.integer(1, 9), last - first);
    const Matrix some_k = k.middleRows(first, n), some_v = v.middleRows(first, n);
    cache.append(some_k, some_v);
    first += n;
  }
}

/// What is read of a cache, tokens x (heads * dim).
struct numbers {
  Eigen::MatrixXd k, v;
  friend bool operator==(const numbers& a, const numbers& b) {
    return a.k.rows() == b.k.rows() && a.k == b.k && a.v == b.v;
  }
};
template <class Cache>
numbers numbers_of(const Cache& cache) {
  const auto side = [](const auto& all) {
    const index_type dim = all.dim();
    Eigen::MatrixXd m(all.tokens(0), all.heads() * dim);
    for (index_type h = 0; h < all.heads(); ++h) {
      const auto head = fovea::in_double(all.head(0, h));
      for (index_type t = 0; t < m.rows(); ++t)
        for (index_type c = 0; c < dim; ++c) m(t, h * dim + c) = head(t, c);
    }
    return m;
  };
  return {side(cache.keys()), side(cache.values())};
}

/// |err| <= 3 u (P|V|)(4 + A) against the reference.
template <class... Mods>
void expect_exact(const Matrix& got, const Matrix& q, const Matrix& k, const Matrix& v, const Mods&... mods) {
  const auto want = fovea::reference(q, k, v, {.heads = heads, .kv_heads = kv_heads}, mods...);
  const index_type dim = want.out.dim();
  ASSERT_EQ(got.rows(), want.out.tokens());
  ASSERT_EQ(got.cols(), heads * dim);
  double worst = 0;
  for (index_type h = 0; h < heads; ++h)
    for (index_type i = 0; i < got.rows(); ++i)
      for (index_type c = 0; c < dim; ++c) {
        const double bound =
            3 * 0x1p-24 * want.magnitude(0, h, i, c) * (4 + want.logits(0, h, i, 0)) + 0x1p-126;
        worst = worse(worst, std::abs(got(i, h * dim + c) - want.out(0, h, i, c)) / bound);
      }
  EXPECT_LE(worst, 1);
}

inline double relative_error(const Matrix& got, const Matrix& want) {
  return (got - want).norm() / want.norm();
}

}  // namespace fovea_test
