// Functions of masks and scores, and structs of a user's own: referred to, not copied, and asked about
// positions of the score matrix alone.
#include <fovea/reference.hpp>

#include "../support/max_abs.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cmath>
#include <vector>

namespace functions_test {

using fovea::index_type;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using attention = fovea::attention<float, 2>;

/// What every call does with mods, in each form: queries in lanes, few rows, backward, score matrices,
/// statistics, sums of columns, plans, the reference. f(name) after each.
template <class F, class... Mods>
void each_call(index_type queries, index_type keys, F f, const Mods&... mods) {
  const Matrix q = Matrix::Random(queries, 10), k = Matrix::Random(keys, 10), v = Matrix::Random(keys, 6);
  const attention attend;
  const auto [out, lse] = attend.with_lse(q, k, v, mods...);
  f("with_lse");
  Matrix received = Matrix::Zero(keys, 2);
  attend(q, k, v, mods..., fovea::add_received(received));
  f("add_received");
  attend.backward(q, k, v, out, lse, out, mods...);
  f("backward");
  attend.weights(q, k, mods...);
  f("weights");
  attend.statistics(q, k, mods...);
  f("statistics");
  attend.plan_for(q, k, v, mods...);
  f("plan_for");
  fovea::reference(q, k, v, {.heads = 2}, mods...);
  f("reference");
}

/// Counts how often it is copied or moved, and called.
struct counted {
  std::vector<float> table = std::vector<float>(100, 0.25f);
  static inline std::atomic<int> copies = 0;
  mutable int calls = 0;  // of this very object

  counted() = default;
  counted(const counted& other) : table(other.table) { ++copies; }
  counted(counted&& other) : table(std::move(other.table)) { ++copies; }
  counted& operator=(const counted&) = delete;

  auto operator()(const auto& q, const auto& k) const {
    ++calls;
    return (k <= q) | (k == k);
  }
  template <class V>
  V operator()(const V& s, const V&, const V&) const {
    ++calls;
    return s * V(table[3]);
  }
};
/// A mask and a score without bind.
struct own_mask : counted {
  auto visible(const auto& q, const auto& k) const { return (*this)(q, k); }
};
struct own_score : counted {
  static constexpr fovea::score_stage stage = fovea::score_stage::bias;
  template <class V>
  V apply(const V& s, const V& q, const V& k) const {
    return (*this)(s, q, k);
  }
};
/// A sink of a user's own.
struct own_sink : counted {
  float logit(index_type) const { return ++calls, table[1]; }
};

TEST(functions, are_not_copied_in_a_call) {
  const auto predicate = fovea::mask(counted());
  const auto hidden = fovea::causal_top_left & fovea::mask(counted());
  const auto function = fovea::score(counted());
  const own_mask mask;
  const own_score score;
  const own_sink sink;
  counted::copies = 0;
  for (const index_type queries : {1, 40}) {
    each_call(
        queries, 50, [](const char* call) { EXPECT_EQ(counted::copies.exchange(0), 0) << call; }, predicate,
        hidden, function, mask, score, sink);
    const int* const calls[] = {&predicate.f.calls, &hidden.masks.rest.first.f.calls,
                                &function.f.calls,  &mask.calls,
                                &score.calls,       &sink.calls};
    for (const int* each : calls) EXPECT_GT(*each, 0) << "not asked itself";
    predicate.f.calls = hidden.masks.rest.first.f.calls = function.f.calls = mask.calls = score.calls =
        sink.calls = 0;
  }
}

/// The least and the largest number that each argument is, scalars, registers and dual numbers alike.
struct extremes {
  static inline std::atomic<double> least[4], most[4];

  static void reset() {
    for (int i = 0; i < 4; ++i) least[i] = 1e9, most[i] = -1e9;
  }
  template <class X>
  static void take(int i, const X& x) {
    if constexpr (std::is_arithmetic_v<X>) {
      least[i] = std::min<double>(least[i], double(x)), most[i] = std::max<double>(most[i], double(x));
    } else if constexpr (requires { x.slope; }) {
      take(i, x.value);
    } else {
      alignas(64) std::array<typename X::value_type, X::size> lane;
      x.store_aligned(lane.data());
      for (const auto each : lane) take(i, each);
    }
  }
};

TEST(functions, are_asked_about_positions_of_the_matrix_alone) {
  const auto mask = fovea::mask([](auto q, auto k) {
    extremes::take(0, q), extremes::take(1, k);
    return (k <= q) | (k == k);
  });
  const auto score = fovea::score([](auto s, auto q, auto k) {
    extremes::take(2, q), extremes::take(3, k);
    return s;
  });
  const auto expect_within = [](index_type queries, index_type keys) {
    extremes::reset();
    return [=](const char* call) {
      if (std::string(call) != "plan_for") {  // some ask, or nothing is tested
        for (int i = 0; i < 4; ++i) {
          EXPECT_EQ(extremes::least[i], 0) << call;
          EXPECT_EQ(extremes::most[i], (i % 2 ? keys : queries) - 1) << call;
        }
      }
      extremes::reset();
    };
  };
  const std::pair<int, int> sizes[] = {{1, 1}, {1, 37}, {3, 5}, {21, 37}, {67, 150}};
  for (const auto& [queries, keys] : sizes)
    each_call(queries, keys, expect_within(queries, keys), mask, score);
}

/// A table by position, read where a register asks.
TEST(functions, may_read_a_table_at_any_position_they_are_asked_about) {
  const index_type n = 21;
  const std::vector<std::int32_t> document = {0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2};
  const auto number_of = [&]<class P>(const P& positions) -> P {
    if constexpr (std::is_integral_v<P>) {
      return document.at(static_cast<std::size_t>(positions));
    } else {
      alignas(64) std::array<typename P::value_type, P::size> lane;
      positions.store_aligned(lane.data());
      for (auto& each : lane) each = document.at(static_cast<std::size_t>(each));  // throws beyond the table
      return P::load_aligned(lane.data());
    }
  };
  const auto same = fovea::mask([&](auto q, auto k) { return number_of(q) == number_of(k); });
  const Matrix x = Matrix::Random(n, 10);
  const attention attend;
  const auto w = attend.weights(x, x, same);
  for (index_type i = 0; i < n; ++i)
    for (index_type j = 0; j < n; ++j)
      EXPECT_EQ(w(0, 0, i, j) > 0, document[std::size_t(i)] == document[std::size_t(j)]) << i << " " << j;
}

/// Functions of (b, h, ...) on a batch give each head the bits that functions of positions give it alone.
TEST(functions, may_ask_for_the_sequence_and_the_head) {
  const index_type batch = 2, heads = 3, keys = 50, dim = 8;
  const auto keeps = [](index_type b, index_type h, auto q, auto k) {
    using position = decltype(q);
    return ((k + q * position(static_cast<int>(b + 1))) & position(3)) != position(static_cast<int>(h));
  };
  const auto tilts = [](auto s, index_type b, index_type h, auto q, auto k) {
    using number = decltype(s);
    using element = fovea::number_in<number>;
    return s * number(static_cast<element>(h + 1)) -
           number(static_cast<element>(0.01 * double(b + 1))) * (q - k);
  };
  const auto slopes = [](auto s, index_type, index_type h, auto, auto) {
    using number = decltype(s);
    return number(static_cast<fovea::number_in<number>>(h + 1));
  };
  static_assert(fovea::asks_for_heads<decltype(tilts)>);
  for (const index_type queries : {1, 3, 40}) {
    fovea::tensor<float> q(batch, heads, queries, dim), k(batch, heads, keys, dim), v = k;
    for (index_type i = 0; i < q.size(); ++i) q.data()[i] = std::sin(0.7f * static_cast<float>(i));
    for (index_type i = 0; i < k.size(); ++i) k.data()[i] = std::cos(1.3f * static_cast<float>(i));
    const fovea::attention<float> attend{{.heads = heads}};
    const auto all = attend.with_lse(q, k, v, fovea::mask(keeps), fovea::score(tilts));
    const auto found =
        attend.backward(q, k, v, all.out, all.lse, all.out, fovea::mask(keeps), fovea::score(tilts));
    const auto told =
        attend.backward(q, k, v, all.out, all.lse, all.out, fovea::mask(keeps), fovea::score(tilts, slopes));
    const auto expected =
        fovea::reference(q, k, v, {.heads = heads}, fovea::mask(keeps), fovea::score(tilts));
    for (index_type b = 0; b < batch; ++b)
      for (index_type h = 0; h < heads; ++h) {
        const auto head = [&](const auto& x) {
          return Eigen::Map<const Matrix>(&x(b, h, 0, 0), x.tokens(), x.dim());
        };
        const fovea::attention<float, 1> alone;
        const Matrix hq = head(q), hk = head(k), hv = head(v), out = head(all.out);
        const auto mask = fovea::mask([&](auto i, auto j) { return keeps(b, h, i, j); });
        const auto score = fovea::score([&](auto s, auto i, auto j) { return tilts(s, b, h, i, j); });
        const auto one = alone.with_lse(hq, hk, hv, mask, score);
        EXPECT_EQ(one.out, out);
        const auto g = alone.backward(hq, hk, hv, one.out, one.lse, out, mask, score);
        EXPECT_EQ(g.d_q, head(found.d_q));
        EXPECT_LT(fovea_test::max_abs(g.d_k - head(found.d_k)), 1e-6f);
        EXPECT_LT(fovea_test::max_abs(g.d_q - head(told.d_q)), 1e-6f);
        for (index_type i = 0; i < queries; ++i)
          for (index_type c = 0; c < dim; ++c) EXPECT_NEAR(out(i, c), expected.out(b, h, i, c), 1e-5);
      }
  }
}

}  // namespace functions_test
