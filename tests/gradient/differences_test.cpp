// Gradients in double against central differences of the forward call, for each rule alone and all together;
// dual numbers, by which scores are differentiated that do not say how.
#include "../support/differences.hpp"
#include "support.hpp"

#include <functional>

namespace fovea_test {

template results<double> differentiated(const sizes&, const operands<double>&, const no_rules&,
                                        attention_options);
template results<double> differentiated(const sizes&, const operands<double>&, const masks&,
                                        attention_options);
template results<double> differentiated(const sizes&, const operands<double>&, const everything&,
                                        attention_options);

namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();

template <class Rules>
double loss(const sizes& n, const operands<double>& x, const Rules& rules) {
  const fovea::attention<double> attend{{.heads = n.heads, .kv_heads = n.kv_heads}};
  return rules.with([&](auto... mods) {
    const auto r = attend.with_lse(x.q, x.k, x.v, mods...);
    return loss_of(r, x);
  });
}

template <class Rules>
void expect_differences(const char* what, const sizes& n, Rules rules) {
  operands<double> x(n);
  const auto got = differentiated(n, x, rules, {});
  const std::function<double()> f = [&] { return loss(n, x, rules); };
  random_source random(5);
  const auto expect = [&](const char* name, auto* values, const auto* gradient, index_type size, double step,
                          double tolerance) {
    double largest = 0;
    for (index_type i = 0; i < size; ++i) largest = std::max(largest, std::abs(double(gradient[i])));
    for (int probe = 0; probe < 5; ++probe) {
      const index_type i = random.integer(0, size - 1);
      if (std::isinf(double(values[i]))) continue;
      const double want = difference(f, values[i], step);
      ASSERT_NEAR(double(gradient[i]), want, tolerance * (std::abs(want) + largest + 1e-2))
          << what << ", " << words(n) << ", " << name << " " << i;
    }
  };
  expect("q", x.q.data(), got.d_q.data(), x.q.size(), 1e-3, 1e-8);
  expect("k", x.k.data(), got.d_k.data(), x.k.size(), 1e-3, 1e-8);
  expect("v", x.v.data(), got.d_v.data(), x.v.size(), 1e-3, 1e-8);
  if constexpr (std::is_same_v<Rules, everything>) {
    const auto d_addend = rules.d_addend;
    const auto d_slopes = rules.d_slopes, d_sinks = rules.d_sinks;
    const index_type heads = static_cast<index_type>(d_slopes.size());
    expect("bias", rules.addend.data(), d_addend.data(), d_addend.size(), 1e-3, 1e-8);
    expect("slope", rules.slopes.data(), d_slopes.data(), heads, 0x1p-16, 2e-7);  // kept in float
    expect("sink", rules.sinks.data(), d_sinks.data(), heads, 0x1p-8, 2e-7);
  }
}

TEST(gradients, of_plain_attention_are_its_differences) {
  for (const sizes& n : usual_sizes()) expect_differences("plain", n, no_rules{});
}

/// A boolean mask with rows that see nothing.
void set_keep(masks& m, const sizes& n) {
  m.keep = tensor<unsigned char>(n.batch, 1, n.queries, n.keys);
  random_source random(8);
  for (index_type i = 0; i < m.keep.size(); ++i) m.keep.data()[i] = random.chance(0.7);
  for (index_type j = 0; j < n.keys; ++j) m.keep(0, 0, n.queries / 2, j) = 0;
}

struct change {
  const char* name;
  std::function<void(masks&, const sizes&)> make;
};

const std::vector<change> mask_changes = {
    {"causal", [](masks& m, const sizes&) { m.diagonal = 0; }},
    {"causal, moved", [](masks& m, const sizes& n) { m.diagonal = n.keys - n.queries; }},
    {"causal, few rows see any", [](masks& m, const sizes& n) { m.diagonal = 1 - n.queries; }},
    {"window", [](masks& m, const sizes&) { m.left = 9, m.right = 4; }},
    {"lengths", [](masks& m, const sizes& n) { m.lengths[0] = n.keys * 2 / 3; }},
    {"no key", [](masks& m, const sizes&) { m.lengths[0] = 0; }},
    {"boolean", set_keep},
};

TEST(gradients, under_masks_are_their_differences) {
  for (const sizes& n : usual_sizes()) {
    masks all(n);
    expect_differences("open masks", n, all);
    for (const change& c : mask_changes) {
      masks one(n);
      c.make(one, n);
      expect_differences(c.name, n, one);
    }
    all.diagonal = n.keys / 2, all.left = 60, all.right = 20, all.lengths[0] = n.keys - n.keys / 4;
    set_keep(all, n);
    expect_differences("all masks", n, all);
  }
}

struct score_change {
  const char* name;
  std::function<void(everything&, const sizes&)> make;
};

void set_slopes(everything& e) {
  for (std::size_t h = 0; h < e.slopes.size(); ++h) e.slopes[h] = 0.0625f * static_cast<float>(h + 1);
}
void set_sinks(everything& e) {
  for (std::size_t h = 0; h < e.sinks.size(); ++h) e.sinks[h] = 0.5f * static_cast<float>(h) - 0.25f;
}

const std::vector<score_change> score_changes = {
    {"softcap", [](everything& e, const sizes&) { e.cap = 1.5; }},
    {"alibi", [](everything& e, const sizes&) { set_slopes(e); }},
    {"bias", [](everything& e, const sizes& n) { e.set_addend(n.batch, n.heads, n.queries, n.keys); }},
    {"bias for all heads",
     [](everything& e, const sizes& n) { e.set_addend(n.batch, 1, n.queries, n.keys); }},
    {"bias for all sequences",
     [](everything& e, const sizes& n) { e.set_addend(1, n.heads, n.queries, n.keys); }},
    {"bias a key", [](everything& e, const sizes& n) { e.set_addend(1, n.heads, 1, n.keys); }},
    {"bias a query", [](everything& e, const sizes& n) { e.set_addend(n.batch, 1, n.queries, 1); }},
    {"bias that hides",
     [](everything& e, const sizes& n) {
       e.set_addend(1, 1, n.queries, n.keys);
       for (index_type i = 0; i < e.addend.size(); i += 3) e.addend.data()[i] = -infinite;
     }},
    {"function", [](everything& e, const sizes&) { e.tilt = 0.75; }},
    {"sink", [](everything& e, const sizes&) { set_sinks(e); }},
    {"dropout", [](everything& e, const sizes&) { e.rate = 0.25; }},
};

TEST(gradients, of_each_score_are_its_differences) {
  for (const sizes& n : usual_sizes())
    for (const score_change& c : score_changes) {
      everything one(n);
      c.make(one, n);
      expect_differences(c.name, n, one);
    }
}

TEST(gradients, of_random_combinations_are_their_differences) {
  random_source random(77);
  for (int round = 0; round < 60; ++round) {
    const index_type group = random.integer(1, 3), kv_heads = random.integer(1, 2);
    const sizes n{random.integer(1, 2),  group * kv_heads,       kv_heads,
                  random.integer(1, 80), random.integer(1, 220), random.integer(1, 70),
                  random.integer(1, 40)};
    everything e(n);
    std::string names;
    for (const change& c : mask_changes)
      if (random.chance(0.3)) c.make(e, n), names += std::string(c.name) + "; ";
    for (const score_change& c : score_changes)
      if (random.chance(0.4)) c.make(e, n), names += std::string(c.name) + "; ";
    expect_differences(names.c_str(), n, e);
  }
}

// Equal keys make dQ the row's sum of dS, times a constant: 0 without a gradient of the LSE.
TEST(gradients, of_logits_sum_to_zero) {
  const sizes n{1, 2, 1, 40, 100, 16, 8};
  operands<double> x(n);
  for (index_type j = 0; j < n.keys; ++j)
    for (index_type c = 0; c < n.dim; ++c) x.k(0, 0, j, c) = 1;
  for (double& d : std::span(x.d_lse.data(), static_cast<std::size_t>(x.d_lse.size()))) d = 0;
  for (const bool causal : {false, true}) {
    masks m(n);
    if (causal) m.diagonal = 30;
    const auto got = differentiated(n, x, m, {});
    for (index_type i = 0; i < got.d_q.size(); ++i) ASSERT_NEAR(got.d_q.data()[i], 0, 1e-13);
  }
}

using number = fovea::dual<double>;

TEST(dual, differentiates_what_scores_are_written_with) {
  const auto expect = [](auto f, double x, double slope) {
    const number y = f(number(x, 1));
    EXPECT_DOUBLE_EQ(y.value, f(number(x)).value);
    EXPECT_NEAR(y.slope, slope, 1e-14 * (1 + std::abs(slope)));
  };
  expect([](number s) { return 3 * s - 2.f * s * s + 1; }, 0.75, 3 - 4 * 0.75);
  expect([](number s) { return -s / (s + 2); }, 1.5, -2 / (3.5 * 3.5));
  expect([](number s) { return exp(s) + log(s) + sqrt(s); }, 0.5, std::exp(0.5) + 2 + 0.5 / std::sqrt(0.5));
  expect([](number s) { return tanh(2 * s); }, 0.3, 2 / (std::cosh(0.6) * std::cosh(0.6)));
  expect([](number s) { return abs(s) * s; }, -2, 4);
  expect([](number s) { return max(s, number(1)) + min(s * s, number(4)); }, 1.5, 4);
  expect([](number s) { return select(s < number(2), s * s, number(7)); }, 3, 0);
  expect(
      [](number s) {
        s += 1, s *= s, s -= 3, s /= 2;
        return s;
      },
      2, 3);
}

TEST(derivatives, given_and_found_are_the_same) {
  const sizes n{1, 2, 1, 30, 70, 16, 16};
  const operands<double> x(n);
  const fovea::attention<double, 2, 1> attend;
  const auto f = [](auto s, auto q, auto k) {
    return s * s * decltype(s)(0.25) - decltype(s)(0.01) * abs(q - k);
  };
  const auto df = [](auto s, auto, auto) { return s * decltype(s)(0.5); };
  const auto [out, lse] = attend.with_lse(x.q, x.k, x.v, fovea::score(f));
  const auto found = attend.backward(x.q, x.k, x.v, out, lse, x.d_out, fovea::score(f));
  const auto given = attend.backward(x.q, x.k, x.v, out, lse, x.d_out, fovea::score(f, df));
  for (index_type i = 0; i < found.d_v.size(); ++i)
    ASSERT_NEAR(found.d_v.data()[i], given.d_v.data()[i], 1e-13);
  for (index_type i = 0; i < found.d_q.size(); ++i)
    ASSERT_NEAR(found.d_q.data()[i], given.d_q.data()[i], 1e-13);
  for (index_type i = 0; i < found.d_k.size(); ++i)
    ASSERT_NEAR(found.d_k.data()[i], given.d_k.data()[i], 1e-13);
}

}  // namespace
}  // namespace fovea_test
