// tests/view/elsewhere.hpp - views of other libraries against a tensor_view of the same elements.
#pragma once

#include <fovea/attention.hpp>

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <vector>

namespace fovea_test {

using fovea::index_type;

/// 2 x 4 x 5 x 3 elements and what surrounds them: NaN, which no result may show.
struct spaced_elements {
  static constexpr index_type batch = 2, heads = 4, tokens = 5, dim = 3;
  std::vector<float> memory = std::vector<float>(1000, std::numeric_limits<float>::quiet_NaN());

  fovea::tensor_view<float> view(index_type batch_stride, index_type head_stride, index_type token_stride,
                                 index_type dim_stride) {
    const fovea::tensor_view<float> x{memory.data(), batch,       heads,        tokens,    dim,
                                      batch_stride,  head_stride, token_stride, dim_stride};
    for (index_type b = 0; b < batch; ++b)
      for (index_type h = 0; h < heads; ++h)
        for (index_type t = 0; t < tokens; ++t)
          for (index_type c = 0; c < dim; ++c)
            x(b, h, t, c) = 0.1f * static_cast<float>((b * 31 + h * 17 + t * 7 + c * 3) % 23 - 11);
    return x;
  }
};

template <class A, class B>
void expect_same_bits(const A& a, const B& b) {
  const auto size = static_cast<std::size_t>(a.size());
  ASSERT_EQ(size, static_cast<std::size_t>(b.size()));
  EXPECT_EQ(std::memcmp(a.data(), b.data(), size * sizeof(*a.data())), 0);
}

/// Every element of `x`, seen as sequences, is `expected`'s: the same address.
template <class X, class E>
void expect_same_places(X& x, const fovea::tensor_view<E>& expected) {
  const auto all = fovea::as_sequences(x, expected.heads, "x").all;
  ASSERT_EQ(all.batch, expected.batch);
  ASSERT_EQ(all.tokens, expected.tokens);
  ASSERT_EQ(all.dim, expected.dim);
  for (index_type b = 0; b < all.batch; ++b)
    for (index_type h = 0; h < all.heads; ++h)
      for (index_type t = 0; t < all.tokens; ++t)
        for (index_type c = 0; c < all.dim; ++c)
          ASSERT_EQ(&all(b, h, t, c), &expected(b, h, t, c)) << b << " " << h << " " << t << " " << c;
}

}  // namespace fovea_test
