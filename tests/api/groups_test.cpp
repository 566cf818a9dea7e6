// Query heads of a group that share lanes: against the reference, in all layouts, with rules that differ
// from head to head and from query to query.
#include <fovea/reference.hpp>
#include <fovea/sigmoid_attention.hpp>

#include "../support/random.hpp"

#include <gtest/gtest.h>

#include <tuple>
#include <vector>

namespace {

using fovea::bf16, fovea::index_type;

struct sizes {
  index_type batch, heads, kv_heads, queries, keys, dim, value_dim;
};

/// Q in either layout; K and V are parts of the same rows where `shared`.
template <class QE, class KE>
struct arrays {
  sizes n;
  bool bshd;
  std::vector<QE> q;
  std::vector<KE> k, v;

  arrays(const sizes& of, bool tokens_first, bool shared) : n(of), bshd(tokens_first) {
    fovea_test::random_source random(static_cast<std::uint64_t>(of.heads * 31 + of.queries));
    const auto fill = [&](auto& x, index_type count) {
      using E = typename std::remove_reference_t<decltype(x)>::value_type;
      for (index_type i = 0; i < count; ++i)
        x.push_back(static_cast<E>(static_cast<float>(random.uniform(-2, 2))));
    };
    fill(q, n.batch * n.heads * n.queries * n.dim), fill(k, n.batch * n.kv_heads * n.keys * n.dim);
    if (!shared) fill(v, n.batch * n.kv_heads * n.keys * n.value_dim);
  }
  template <class E>
  auto rows(E* x, index_type dim) const {
    return bshd ? fovea::bshd(x, n.batch, n.queries, n.heads, dim)
                : fovea::bhsd(x, n.batch, n.heads, n.queries, dim);
  }
  auto queries() const { return rows(q.data(), n.dim); }
  auto keys() const { return fovea::bhsd(k.data(), n.batch, n.kv_heads, n.keys, n.dim); }
  auto values() const {
    auto x =
        fovea::bhsd((v.empty() ? k : v).data(), n.batch, n.kv_heads, n.keys, v.empty() ? n.dim : n.value_dim);
    x.dim = n.value_dim;
    return x;
  }
};

template <bool Rounded = false, class QE, class KE, class... Mods>
void expect_same(const arrays<QE, KE>& x, double bound, bool grouped, const Mods&... mods) {
  const sizes& n = x.n;
  const fovea::attention<QE> attend{{.heads = n.heads, .kv_heads = n.kv_heads}};
  const auto q = x.queries(), k = x.keys(), v = x.values();
  EXPECT_EQ(attend.plan_for(q, k, v, mods...).grouped, grouped);
  std::vector<float> out(static_cast<std::size_t>(n.batch * n.heads * n.queries * n.value_dim), 7.f),
      lse(static_cast<std::size_t>(n.batch * n.heads * n.queries), 7.f);
  const auto o = x.rows(out.data(), n.value_dim), l = x.rows(lse.data(), 1);
  if constexpr (Rounded)
    attend.with_lse_into(o, l, q, k, v, fovea::rounded_weights, mods...);
  else
    attend.with_lse_into(o, l, q, k, v, mods...);
  const auto expected = fovea::reference(q, k, v, {.heads = n.heads, .kv_heads = n.kv_heads}, mods...);
  for (index_type b = 0; b < n.batch; ++b)
    for (index_type h = 0; h < n.heads; ++h)
      for (index_type t = 0; t < n.queries; ++t) {
        if (const double e = expected.lse(b, h, t, 0); std::isinf(e))
          ASSERT_EQ(l(b, h, t, 0), static_cast<float>(e));
        else
          ASSERT_NEAR(l(b, h, t, 0), e, bound) << b << " " << h << " " << t;
        for (index_type c = 0; c < n.value_dim; ++c)
          ASSERT_NEAR(o(b, h, t, c), expected.out(b, h, t, c), bound)
              << b << " " << h << " " << t << " " << c;
      }
}

// The lanes of AVX-512, AVX2 and SSE are filled by all of these.
const std::vector<sizes> groups{
    {1, 32, 1, 1, 300, 24, 24},  {2, 64, 2, 1, 129, 40, 32}, {1, 12, 1, 4, 333, 20, 17},
    {1, 21, 1, 3, 65, 33, 8},    {1, 128, 1, 1, 17, 16, 16}, {1, 12, 1, 4, 1, 7, 5},
    {1, 16, 1, 1, 70, 576, 512}, {1, 24, 2, 4, 256, 64, 64}, {1, 64, 1, 1, 6200, 8, 5}};

TEST(Groups, SharedLanesGiveWhatTheReferenceDoes) {
  for (const sizes& n : groups)
    for (const bool bshd : {false, true})
      for (const bool shared : {false, true})
        expect_same(arrays<float, float>(n, bshd, shared && n.value_dim <= n.dim), 1e-5, true);
}

TEST(Groups, RulesSeeHeadAndQuery) {
  for (const sizes& n : groups)
    for (const bool bshd : {false, true}) {
      const arrays<float, float> x(n, bshd, false);
      std::vector<float> slopes, sinks;
      for (index_type h = 0; h < n.heads; ++h)
        slopes.push_back(0.01f * static_cast<float>(h)), sinks.push_back(static_cast<float>(h % 5) - 2);
      if (n.queries <= n.keys) {
        expect_same(x, 1e-5, true, fovea::causal_bottom_right);
        expect_same(x, 1e-5, true, fovea::causal_bottom_right, fovea::alibi{slopes}, fovea::softcap{3.f});
      }
      expect_same(x, 1e-5, true, fovea::causal_top_left, fovea::sink{sinks});
      expect_same(x, 1e-5, true, fovea::mask([](auto q, auto k) { return ((k + q) & 3) == 0; }),
                  fovea::sink{sinks});
    }
}

TEST(Groups, OfPairsOfBf16) {
  for (const sizes& n : groups)
    for (const bool bshd : {false, true}) {
      expect_same(arrays<bf16, bf16>(n, bshd, n.value_dim <= n.dim), 1e-5, true, fovea::causal_top_left);
      expect_same<true>(arrays<bf16, bf16>(n, bshd, false), 0.02, true);
    }
}

TEST(Groups, SplitByKeysAreTheSameForAnyThreads) {
  const arrays<float, float> x({1, 64, 2, 2, 6200, 24, 20}, false, false);
  fovea::threads pool{3};
  const auto call = [&](const auto& executor, const auto&... mods) {
    const fovea::attention<float> attend{{.heads = 64, .kv_heads = 2, .executor = executor}};
    return attend(x.queries(), x.keys(), x.values(), fovea::causal_bottom_right, mods...);
  };
  const auto one = call(fovea::executor_ref()), three = call(pool);
  EXPECT_TRUE(std::equal(one.data(), one.data() + one.size(), three.data()));
  const fovea::attention<float> attend{{.heads = 64, .kv_heads = 2}};
  const auto plan = attend.plan_for(x.queries(), x.keys(), x.values());
  EXPECT_EQ(plan.key_splits, 3);
  EXPECT_GE(plan.jobs, 6);
  const auto of_sigmoids = call(pool, fovea::sigmoid_weights{-3.0});
  const auto expected = fovea::reference(x.queries(), x.keys(), x.values(), {.heads = 64, .kv_heads = 2},
                                         fovea::causal_bottom_right, fovea::sigmoid_weights{-3.0});
  for (index_type h = 0; h < 64; ++h)
    for (index_type t = 0; t < 2; ++t)
      for (index_type c = 0; c < 20; ++c)
        ASSERT_NEAR(of_sigmoids(0, h, t, c), expected.out(0, h, t, c), 1e-3);
}

// Where the last register is filled by half or less and the first rows of a span see little or nothing of it:
// panels of all spans are cut alike. (7 x 8 and 4 x 14 rows leave 8 of 16 lanes, 7 x 4 leave 4 of 8; of
// 36,882 keys the last span is empty.)
TEST(Groups, SplitByKeysWithFewRowsLeft) {
  for (const sizes& n :
       {sizes{1, 8, 1, 7, 4200, 8, 8}, {1, 14, 1, 4, 6000, 8, 8}, {1, 4, 1, 7, 8200, 8, 8}}) {
    const arrays<float, float> x(n, false, false);
    expect_same(x, 1e-5, true);
    expect_same(x, 1e-5, true, fovea::causal_top_left);
    expect_same(x, 1e-5, true, fovea::causal_bottom_right & fovea::sliding_window{.left = 100});
  }
  expect_same(arrays<float, float>({1, 8, 1, 7, 36882, 4, 4}, false, false), 1e-5, true);
}

TEST(Groups, ThatFillTooFewLanesAreNone) {
  for (const sizes& n : {sizes{1, 4, 1, 1, 40, 16, 16},
                         {1, 8, 8, 8, 40, 16, 16},
                         {1, 17, 1, 1, 40, 16, 16},
                         {1, 32, 1, 9, 40, 16, 16}})
    expect_same(arrays<float, float>(n, false, false), 1e-5, false);
}

}  // namespace
