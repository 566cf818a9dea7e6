// tests/hard/support.hpp - hard attention against its reference in double.
#pragma once

#include "../support/random.hpp"
#include "../support/refusal.hpp"

#include <fovea/hard.hpp>
#include <fovea/hard/reference.hpp>
#include <fovea/kv_cache.hpp>

#include <gtest/gtest.h>

namespace fovea_test {

using fovea::index_type;
using fovea::tensor;

template <class T>
tensor<T> normal(index_type batch, index_type heads, index_type tokens, index_type dim, std::uint64_t seed) {
  tensor<T> x(batch, heads, tokens, dim);
  random_source random(seed);
  for (index_type i = 0; i < x.size(); ++i) {
    double sum = 0;
    for (int u = 0; u < 12; ++u) sum += random.uniform(-0.5, 0.5);
    x.data()[i] = fovea::store_element<T>(sum);
  }
  return x;
}

/// Picks are the reference's, or as good to within `error`; what belongs to them follows.
template <class Found>
void expect_as_reference(const Found& found, const fovea::hard_reference_result& wanted, double error) {
  const auto& picks = wanted.picks;
  index_type others = 0;
  for (index_type b = 0; b < picks.batch(); ++b)
    for (index_type h = 0; h < picks.heads(); ++h)
      for (index_type i = 0; i < picks.tokens(); ++i) {
        bool same = true;
        for (index_type n = 0; n < picks.dim(); ++n) {
          const index_type is = found.picks(b, h, i, n), should = picks(b, h, i, n);
          if (is == should) continue;
          same = false, ++others;
          if (is < 0 || should < 0) continue;  // a sink as good as a key
          ASSERT_NEAR(wanted.compared(b, h, i, is), wanted.compared(b, h, i, should), error);
        }
        const double lse = wanted.lse(b, h, i, 0), has = static_cast<double>(found.lse(b, h, i, 0));
        ASSERT_TRUE(std::abs(has - lse) < error || (std::isnan(has) && std::isnan(lse)) || has == lse)
            << has << " for " << lse;
        if (!same) continue;
        const auto near = [&](const auto& x, const tensor<double>& y, index_type n, double bound) {
          const double is = fovea::load_element<double>(x(b, h, i, n)), should = y(b, h, i, n);
          ASSERT_TRUE(std::abs(is - should) <= bound || (std::isnan(is) && std::isnan(should)))
              << is << " for " << should << " at " << b << " " << h << " " << i << " " << n;
        };
        for (index_type n = 0; n < picks.dim(); ++n) near(found.log_p, wanted.log_p, n, error);
        for (index_type c = 0; c < wanted.out.dim(); ++c)  // one value is copied as it is
          near(found.out, wanted.out, c,
               picks.dim() == 1 ? 0 : std::max(error, 0.01 * (sizeof(*found.out.data()) == 2)));
      }
  EXPECT_LE(others, 1 + picks.size() / 100);
}

}  // namespace fovea_test
