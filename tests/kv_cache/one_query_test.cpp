// One query has the same bits in whichever way its keys come: as matrices, which have a loop of their own, or
// otherwise.
#include "../support/random.hpp"

#include <fovea/attention.hpp>
#include <fovea/kv_cache.hpp>
#include <fovea/weights_into.hpp>

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <vector>

namespace one_query_test {

using fovea::index_type;
constexpr index_type heads = 2;
using numbers = std::vector<float>;

void expect_same_bits(index_type keys, index_type dim) {
  fovea_test::random_source random(static_cast<std::uint64_t>(keys * dim));
  const auto random_numbers = [&](index_type count) {
    numbers x(static_cast<std::size_t>(count));
    for (float& e : x) e = static_cast<float>(random.uniform(-2, 2));
    return x;
  };
  const numbers q = random_numbers(heads * dim), k = random_numbers(heads * keys * dim),
                v = random_numbers(heads * keys * dim);
  const auto rows = [&](auto& x) { return fovea::bhsd(x.data(), 1, heads, keys, dim); };
  const auto row = [&](auto& x) { return fovea::bhsd(x.data(), 1, heads, 1, dim); };
  const fovea::attention<float> attend{{.heads = heads}};
  numbers plain(q.size()), other(q.size());
  attend.into(row(plain), row(q), rows(k), rows(v));

  attend.into(row(other), row(q), rows(k), rows(v), fovea::mask([](auto, auto key) { return key >= 0; }));
  EXPECT_EQ(other, plain) << "asked of each cell, " << keys << " x " << dim;

  numbers weights(static_cast<std::size_t>(heads * keys));
  attend.into(row(other), row(q), rows(k), rows(v),
              fovea::weights_into(fovea::bhsd(weights.data(), 1, heads, 1, keys), 0, 1));
  EXPECT_EQ(other, plain) << "weights kept, " << keys << " x " << dim;

  fovea::kv_cache<float, heads> cache(keys + 1, dim);
  cache.append(rows(k), rows(v));
  const numbers behind(q.size(), std::numeric_limits<float>::quiet_NaN());  // taken back: never read
  cache.append(row(behind), row(behind)), cache.truncate(keys);
  attend.into(row(other), row(q), cache);
  EXPECT_EQ(other, plain) << "cached, " << keys << " x " << dim;

  // Beside a sequence that is longer by 20.
  const index_type longest = keys + 20;
  numbers of_both(2 * q.size()), out(of_both.size());
  std::copy(q.begin(), q.end(), of_both.begin());
  const auto padded = [&](const numbers& x) {
    numbers all(static_cast<std::size_t>(2 * heads * longest * dim), 7.f);
    for (index_type h = 0; h < heads; ++h)
      std::copy_n(x.begin() + h * keys * dim, keys * dim, all.begin() + h * longest * dim);
    return all;
  };
  const numbers long_k = padded(k), long_v = padded(v);
  const auto both = [&](auto& x, index_type tokens) { return fovea::bhsd(x.data(), 2, heads, tokens, dim); };
  const std::array<index_type, 2> lengths{keys, longest};
  attend.into(both(out, 1), both(of_both, 1), both(long_k, longest), both(long_v, longest),
              fovea::key_lengths{lengths});
  EXPECT_EQ(numbers(out.begin(), out.begin() + heads * dim), plain) << "in a batch, " << keys << " x " << dim;
}

TEST(one_query, has_the_same_bits_however_its_keys_come) {
  for (const index_type dim : {64, 128, 256})
    for (const index_type keys : {1, 33, 128, 129, 700, 1100}) expect_same_bits(keys, dim);
}

}  // namespace one_query_test
