// Gradients of linear attention against differences in double, of float against double, and what is promised
// of bits, memory and errors.
#include <fovea/linear_attention.hpp>

#include "rules.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <thread>

namespace {

using fovea::index_type, fovea::tensor;

struct gradient_shape {
  index_type heads = 1, kv_heads = 1, tokens = 1, dim = 8, value_dim = 8, batch = 1;
  bool l2_norm = false;
};
using namespace linear_test;

/// Arguments of T, and their gradients; log decays of about -strength.
template <class T>
struct gradient_problem {
  gradient_shape at;
  rule r;
  tensor<T> q, k, v, g, b, s, d_o, d_s, d_q, d_k, d_v, d_g, d_b, d_s0;

  gradient_problem(const gradient_shape& x, rule kind, double strength)
      : at(x),
        r(kind),
        q(x.batch, x.heads, x.tokens, x.dim),
        k(x.batch, x.kv_heads, x.tokens, x.dim),
        v(x.batch, x.kv_heads, x.tokens, x.value_dim),
        g(x.batch, x.kv_heads, x.tokens, by_channel(kind) ? x.dim : 1),
        b(x.batch, x.kv_heads, x.tokens, 1),
        s(x.batch, x.kv_heads, x.dim, x.value_dim),
        d_o(x.batch, x.heads, x.tokens, x.value_dim),
        d_s(s),
        d_q(q),
        d_k(k),
        d_v(v),
        d_g(g),
        d_b(b),
        d_s0(s) {
    std::mt19937 bits(static_cast<std::uint32_t>(x.tokens + 100 * x.dim));
    std::normal_distribution<double> normal;
    const auto fill = [&](tensor<T>& t, auto&& next) {
      for (index_type i = 0; i < t.size(); ++i) t.data()[i] = static_cast<T>(next());
    };
    for (tensor<T>* t : {&q, &v, &s, &d_o, &d_s}) fill(*t, [&] { return normal(bits); });
    fill(k, [&] { return normal(bits) / std::sqrt(double(std::max<index_type>(x.dim, 1))); });
    fill(b, [&] { return 1 / (1 + std::exp(-normal(bits))); });
    fill(g, [&] { return -strength * std::abs(normal(bits)); });
  }

  template <class F>
  void with(const F& f) {
    const fovea::log_decay decay(g, d_g);
    const fovea::delta_rule rate(b, d_b);
    const fovea::linear_state state(s, d_s0);
    if (!gated(r))
      delta(r) ? f(state, rate) : f(state);
    else
      delta(r) ? f(state, decay, rate) : f(state, decay);
  }
  fovea::linear_attention<T> attention() const {
    return fovea::linear_attention<T>({.heads = at.heads, .kv_heads = at.kv_heads, .l2_norm = at.l2_norm});
  }
  void differentiate() {
    d_s0 = d_s;
    with([&](const auto&... mods) { attention().backward_into(d_q, d_k, d_v, q, k, v, d_o, mods...); });
  }
  /// <d_o, o> + <d_s, the state after the last token>.
  double loss() {
    const tensor<T> before = s;
    double sum = 0;
    with([&](const auto&... mods) {
      const auto o = attention()(q, k, v, mods...);
      for (index_type i = 0; i < o.size(); ++i) sum += double(o.data()[i]) * double(d_o.data()[i]);
    });
    for (index_type i = 0; i < s.size(); ++i) sum += double(s.data()[i]) * double(d_s.data()[i]);
    s = before;
    return sum;
  }
  /// f(name, argument, its gradient) for all.
  template <class F>
  void each(const F& f) {
    f("q", q, d_q), f("k", k, d_k), f("v", v, d_v), f("state", s, d_s0);
    if (gated(r)) f("log_decay", g, d_g);
    if (delta(r)) f("delta_rule", b, d_b);
  }
};

/// Along random directions the loss changes as the gradients say.
void check_against_differences(const gradient_shape& at, rule r, double strength) {
  gradient_problem<double> p(at, r, strength);
  p.differentiate();
  std::mt19937 bits(7);
  std::normal_distribution<double> normal;
  p.each([&](const char* name, tensor<double>& x, const tensor<double>& d_x) {
    const tensor<double> at_x = x;
    tensor<double> along = x;
    double expected = 0, terms = 0;
    for (index_type i = 0; i < x.size(); ++i) {
      const double step = along.data()[i] = normal(bits);
      expected += step * d_x.data()[i], terms += std::abs(step * d_x.data()[i]);
    }
    const auto moved = [&](double h) {
      for (index_type i = 0; i < x.size(); ++i) x.data()[i] = at_x.data()[i] + h * along.data()[i];
      const double loss = p.loss();
      x = at_x;
      return loss;
    };
    const double h = 1e-5, change = (moved(h) - moved(-h)) / (2 * h);
    EXPECT_NEAR(change, expected, 1e-6 * (1 + terms))
        << name << ", rule " << int(r) << ", tokens " << at.tokens << ", dim " << at.dim << ", strength "
        << strength;
  });
}

TEST(LinearGradient, IsWhatDifferencesInDoubleSay) {
  const gradient_shape shapes[] = {
      {1, 1, 1, 1, 1},     {2, 1, 3, 7, 5, 2},         {2, 2, 32, 16, 24},  {4, 2, 71, 13, 9},
      {1, 1, 100, 64, 64}, {3, 1, 40, 8, 40, 1, true}, {2, 2, 33, 72, 33},  {2, 1, 65, 24, 16, 1, true},
      {1, 1, 40, 1, 5},    {2, 1, 40, 5, 1},           {2, 2, 40, 1, 1, 2}, {1, 1, 40, 0, 3},
      {1, 1, 40, 3, 0}};
  for (const rule r : all_rules)
    for (const gradient_shape& at : shapes)
      for (const double strength : {0.02, 1.0, 40.0}) check_against_differences(at, r, strength);
}

TEST(LinearGradient, StatesThatDoNotFitInMemoryAreMadeAgain) {
  const gradient_shape at{1, 1, 700, 512, 512};
  for (const rule r : {rule::gated, rule::gated_delta_channels}) {
    gradient_problem<double> p(at, r, 0.05);
    p.with([&](const auto&... mods) {
      const auto plan = p.attention().backward_plan_for(p.d_q, p.d_k, p.d_v, p.q, p.k, p.v, p.d_o, mods...);
      EXPECT_LT(plan.chunks_kept * 32, at.tokens);
    });
    check_against_differences(at, r, 0.05);
  }
}

/// Of each gradient, error in float <= n u, n = 2 L + 64: what is summed to it passes, forward or backward, one
/// multiplication and one addition a token, and 64 that do not grow with L (products over d and dv, e^g, a
/// scale), each within u = 2^-24. n u is the textbook's bound (Higham, "Accuracy and Stability of Numerical
/// Algorithms", section 3.1) relative to sums of absolute values; here it is taken of the largest number of
/// the head's gradient, which is smaller (of decays, of the sum that it is the difference of).
TEST(LinearGradient, FloatIsNearDouble) {
  for (const rule r : all_rules)
    for (const double strength : {1e-4, 0.1, 20.0}) {
      const gradient_shape at{2, 1, 400, 32, 48};
      gradient_problem<double> wide(at, r, strength);
      gradient_problem<float> p(at, r, strength);
      const auto narrow = [](const tensor<float>& from, tensor<double>& to) {
        for (index_type i = 0; i < to.size(); ++i) to.data()[i] = double(from.data()[i]);
      };
      narrow(p.q, wide.q), narrow(p.k, wide.k), narrow(p.v, wide.v), narrow(p.g, wide.g);
      narrow(p.b, wide.b), narrow(p.s, wide.s), narrow(p.d_o, wide.d_o), narrow(p.d_s, wide.d_s);
      wide.differentiate(), p.differentiate();
      double decays = 0;
      for (index_type i = 0; i < wide.q.size(); ++i)
        decays = std::max(decays, std::abs(wide.q.data()[i] * wide.d_q.data()[i]));
      const auto near = [&](const char* name, const tensor<float>& got, const tensor<double>& want,
                            double least) {
        double largest = least;
        for (index_type i = 0; i < want.size(); ++i) largest = std::max(largest, std::abs(want.data()[i]));
        for (index_type i = 0; i < want.size(); ++i)
          ASSERT_NEAR(double(got.data()[i]), want.data()[i],
                      std::ldexp(64.0 + 2.0 * double(at.tokens), -24) * largest)
              << name << ' ' << i << ", rule " << int(r) << ", strength " << strength;
      };
      near("q", p.d_q, wide.d_q, 0), near("k", p.d_k, wide.d_k, 0), near("v", p.d_v, wide.d_v, 0);
      near("state", p.d_s0, wide.d_s0, 0);
      if (gated(r)) near("log_decay", p.d_g, wide.d_g, decays);
      if (delta(r)) near("delta_rule", p.d_b, wide.d_b, 0);
    }
}

TEST(LinearGradient, ADecayThatForgetsAllHasNone) {
  for (const rule r : {rule::gated, rule::gated_channels, rule::gated_delta, rule::gated_delta_channels}) {
    gradient_problem<float> p({1, 1, 50, 16, 16}, r, 0.1);
    for (const index_type t : {0, 20})
      for (index_type c = 0; c < p.g.view().dim; ++c)
        p.g(0, 0, t, c) = -std::numeric_limits<float>::infinity();
    p.differentiate();
    for (const index_type t : {0, 20})
      for (index_type c = 0; c < p.g.view().dim; ++c) EXPECT_EQ(p.d_g(0, 0, t, c), 0);
    p.each([&](const char* name, const tensor<float>&, const tensor<float>& d_x) {
      for (index_type i = 0; i < d_x.size(); ++i) ASSERT_TRUE(std::isfinite(d_x.data()[i])) << name;
    });
    for (index_type i = 0; i < p.d_s0.size(); ++i) EXPECT_EQ(p.d_s0.data()[i], 0);  // nobody reads it
  }
}

/// Runs tasks on two threads of its own.
struct two_threads {
  index_type workers() const noexcept { return 2; }
  template <class F>
  void for_each(index_type tasks, const F& f) const {
    std::thread other([&] {
      for (index_type i = 1; i < tasks; i += 2) f(i, 1);
    });
    for (index_type i = 0; i < tasks; i += 2) f(i, 0);
    other.join();
  }
};

TEST(LinearGradient, SameBitsForAnyWorkersAloneAndInABatch) {
  const auto same = [](const auto& a, const auto& b) {
    return std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0;
  };
  for (const rule r : all_rules) {
    gradient_problem<float> p({4, 2, 75, 24, 16, 2}, r, 0.3), q = p;
    p.differentiate();
    const two_threads pool;
    q.d_s0 = q.d_s;
    q.with([&](const auto&... mods) {
      fovea::linear_attention<float>({.heads = 4, .kv_heads = 2, .executor = pool})
          .backward_into(q.d_q, q.d_k, q.d_v, q.q, q.k, q.v, q.d_o, mods...);
    });
    EXPECT_TRUE(same(p.d_q, q.d_q) && same(p.d_k, q.d_k) && same(p.d_v, q.d_v) && same(p.d_s0, q.d_s0));
    EXPECT_TRUE(same(p.d_g, q.d_g) && same(p.d_b, q.d_b));
  }
}

TEST(LinearGradient, WritesNothingElseAndReadsNothingUnused) {
  // Results in rows of a wider matrix, between canaries; queries, keys and values in bf16 between NaN.
  const index_type L = 45, d = 24, dv = 40, pitch = 64;
  gradient_problem<float> p({1, 1, L, d, dv}, rule::gated_delta, 0.2);
  const auto wide = [&](const tensor<float>& x) {
    std::vector<float> rows(static_cast<std::size_t>(L * pitch), NAN);
    for (index_type t = 0; t < L; ++t) std::copy_n(&x(0, 0, t, 0), x.view().dim, rows.data() + t * pitch);
    return rows;
  };
  auto q = wide(p.q), k = wide(p.k), v = wide(p.v), d_o = wide(p.d_o);
  std::vector<float> d_q(q.size(), 7.f), d_k = d_q, d_v = d_q;
  const auto view = [&](std::vector<float>& x, index_type dim) {
    return fovea::tensor_view<float>{x.data(), 1, 1, L, dim, L * pitch, L * pitch, pitch, 1};
  };
  p.differentiate();
  fovea::linear_attention<float, 1>().backward_into(view(d_q, d), view(d_k, d), view(d_v, dv), view(q, d),
                                                    view(k, d), view(v, dv), view(d_o, dv),
                                                    fovea::log_decay(p.g), fovea::delta_rule(p.b));
  gradient_problem<float> from_zero = p;
  std::fill_n(from_zero.s.data(), from_zero.s.size(), 0.f);
  std::fill_n(from_zero.d_s.data(), from_zero.d_s.size(), 0.f);
  from_zero.differentiate();
  const auto check = [&](const std::vector<float>& got, const tensor<float>& want) {
    const index_type dim = want.view().dim;
    for (index_type t = 0; t < L; ++t)
      for (index_type c = 0; c < pitch; ++c)
        ASSERT_EQ(got[static_cast<std::size_t>(t * pitch + c)], c < dim ? want(0, 0, t, c) : 7.f);
  };
  check(d_q, from_zero.d_q), check(d_k, from_zero.d_k), check(d_v, from_zero.d_v);
}

TEST(LinearGradient, AWorkspaceOfThePlansSizeIsEnough) {
  gradient_problem<float> p({4, 2, 70, 24, 20}, rule::gated_delta_channels, 9.0), q = p;
  p.differentiate();
  q.d_s0 = q.d_s;
  q.with([&](const auto&... mods) {
    const auto attend = q.attention();
    const auto plan = attend.backward_plan_for(q.d_q, q.d_k, q.d_v, q.q, q.k, q.v, q.d_o, mods...);
    std::vector<std::byte> memory(static_cast<std::size_t>(plan.workspace_bytes()) + 64, std::byte{77});
    attend.backward_into(q.d_q, q.d_k, q.d_v, q.q, q.k, q.v, q.d_o, mods...,
                         fovea::workspace{std::span(memory).first(memory.size() - 64)});
    EXPECT_TRUE(std::all_of(memory.end() - 64, memory.end(), [](std::byte x) { return x == std::byte{77}; }));
  });
  EXPECT_EQ(std::memcmp(p.d_g.data(), q.d_g.data(), sizeof(float) * static_cast<std::size_t>(p.d_g.size())),
            0);
}

template <class F>
std::string error_of(const F& f) {
  try {
    f();
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "no error";
}

TEST(LinearGradient, ErrorsNameTheArgumentAndBothValues) {
  gradient_problem<float> p({4, 2, 5, 8, 12}, rule::gated_delta, 0.3);
  const auto attend = p.attention();
  tensor<float> wrong(1, 2, 4, 8), narrow(1, 2, 5, 3), state(1, 2, 8, 11);
  const auto fails = [&](auto& d_k, const auto& d_out, const auto&... mods) {
    return error_of([&] { attend.backward_into(p.d_q, d_k, p.d_v, p.q, p.k, p.v, d_out, mods...); });
  };
  const auto says = [](const std::string& text, const auto&... parts) {
    return ((text.find(parts) != std::string::npos) && ...);
  };
  EXPECT_TRUE(says(fails(wrong, p.d_o), "d_k has 4 tokens", "5")) << fails(wrong, p.d_o);
  EXPECT_TRUE(says(fails(p.d_k, p.q), "d_out has 8 columns", "12")) << fails(p.d_k, p.q);
  EXPECT_TRUE(says(fails(p.d_k, p.d_o, fovea::log_decay(p.g, narrow)), "d_log_decay has 3 columns", "1"));
  EXPECT_TRUE(says(fails(p.d_k, p.d_o, fovea::delta_rule(p.b, narrow)), "d_delta_rule has 3 columns", "1"));
  EXPECT_TRUE(
      says(fails(p.d_k, p.d_o, fovea::linear_state(p.s, state)), "d_linear_state", "8 x 11", "8 x 12"));
  EXPECT_TRUE(says(fails(p.k, p.d_o), "d_k", "k", "share memory")) << fails(p.k, p.d_o);
  EXPECT_TRUE(says(fails(p.d_k, p.d_o, fovea::log_decay(p.g, p.g)), "d_log_decay", "share memory"));
  std::vector<std::byte> few(3);
  EXPECT_TRUE(says(fails(p.d_k, p.d_o, fovea::workspace{few}), "workspace has 3 bytes"));
}

}  // namespace
