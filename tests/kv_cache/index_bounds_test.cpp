// Keys chosen by an index where bounds on their scores say of most that they are none of the best.
#include <fovea/top_keys.hpp>

#include "index_operands.hpp"

#include <cmath>
#include <numeric>

namespace fovea_test {
namespace index_bounds_test {

using namespace index_operands;

/// What sorting all scores gives, NaN the largest.
void expect_sorted(const auto& q, const Matrix& w, const auto& k, index_type count) {
  const auto scores = fovea::index_scores(q, w, k, {.causal = false});
  std::vector<index_type> order(static_cast<std::size_t>(scores.dim()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](index_type a, index_type b) {
    const auto of = [&](index_type j) {
      const float s = scores(0, 0, 0, j);
      return std::isnan(s) ? std::numeric_limits<float>::infinity() : s;
    };
    return of(a) > of(b);
  });
  order.resize(static_cast<std::size_t>(count));
  std::sort(order.begin(), order.end());
  const auto lists = fovea::top_keys(q, w, k, {.count = count, .causal = false});
  EXPECT_EQ(std::vector(lists[0].begin(), lists[0].end()), order);
}

TEST(index_bounds, few_of_many_are_those_of_all_scores) {
  constexpr index_type keys = 5003;
  for (const index_type index_heads : {1, 20, 64, 80}) {
    const auto q = stored_as<float>(normal(1, index_heads * dim, 1), index_heads);
    const Matrix w = normal(1, index_heads, 3), rows = normal(keys, dim, 2);
    const auto k = stored_as<float>(rows, 1);
    for (const index_type count : {1, 90, 600}) expect_sorted(q, w, k, count);
    expect_sorted(stored_as<fovea::fp16>(normal(1, index_heads * dim, 1), index_heads), w,
                  stored_as<fovea::fp16>(rows, 1), 90);
    expect_sorted(q, w, stored_as<float>(Matrix(rows * 1e18f), 1), 90);
    expect_sorted(q, Matrix(w * 1e-20f), stored_as<float>(Matrix(rows * 1e-18f), 1), 90);
    expect_sorted(q, w, stored_as<float>(Matrix(rows.unaryExpr([](float x) { return std::round(x); })), 1),
                  90);
    Matrix odd = rows;
    odd(4000, 3) = std::numeric_limits<float>::quiet_NaN(), odd(17, 0) = 3e38f;
    odd(33, 1) = std::numeric_limits<float>::infinity(), odd(3003, 23) = -3e38f;
    odd.row(77) *= 1e20f, odd.row(78) *= 1e-30f;
    expect_sorted(q, w, stored_as<float>(odd, 1), 90);
    Matrix weights = w;
    weights(0) = 0;
    expect_sorted(q, weights, k, 90);
    weights(0) = std::numeric_limits<float>::infinity();
    expect_sorted(q, weights, k, 90);
  }
}

TEST(index_bounds, hold_where_squares_are_too_small_for_float) {
  constexpr index_type keys = 4001, index_heads = 8;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const auto q = stored_as<float>(Matrix(normal(1, index_heads * dim, 3 * seed) * 1e-24f), index_heads);
    const auto k = stored_as<float>(Matrix(normal(keys, dim, 3 * seed + 1) * 1e10f), 1);
    expect_sorted(q, normal(1, index_heads, 3 * seed + 2), k, 64);
  }
}

/// A template: what depends on an instruction set that has no such products is not compiled.
template <class Arch>
void expect_bounds() {
  constexpr index_type keys = 4001, index_heads = 36;
  for (const float size : {1.f, 1e-15f, 1e12f}) {
    const auto q = stored_as<float>(Matrix(normal(1, index_heads * dim, 1) * size), index_heads);
    const auto k = stored_as<float>(Matrix(normal(keys, dim, 2) / size), 1);
    const Matrix w = normal(1, index_heads, 3);
    const fovea::top_keys_options options{.causal = false};
    const auto call = fovea::choosing::index_call_of(q, w, k, options);
    using call_type = std::remove_const_t<decltype(call)>;
    if constexpr (fovea::choosing::bounds_scores<Arch, float, call_type>) {
      const fovea::caching::zeroed_memory memory(fovea::choosing::job_bytes<Arch, float>(call));
      const auto head = call.k.head(0, 0);
      fovea::kernel::index_bounds<Arch, typename call_type::head> bounds(
          call.heads_of(0), call.weights(0), call.weight_stride(), head, memory.get());
      bounds.each_block({3, keys}, [&](fovea::range wanted, const float* low, const float* high) {
        for (index_type j = wanted.first; j < wanted.last; ++j, ++low, ++high) {
          const double s = score(q, w, k, 0, j);
          ASSERT_TRUE(*low <= s && s <= *high) << j << " " << *low << " " << s << " " << *high;
          ASSERT_LT(*high - *low, 5.f);  // of scores of about 20
        }
      });
      const auto possible = fovea::choosing::possible_keys<Arch, float>(
          call, 0, {0, keys}, memory.get(), fovea::choosing::best_keys<float>(100));
      EXPECT_GE(possible.size(), 100u);
      EXPECT_LT(possible.size(), 400u);
    }
  }
}

TEST(index_bounds, hold_and_leave_few) { expect_bounds<xsimd::default_arch>(); }

}  // namespace index_bounds_test
}  // namespace fovea_test
