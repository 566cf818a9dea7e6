// Linear attention on random problems of all it offers at once: rules, engines, groups, lengths, strides,
// packed sequences, states, workers and workspaces. Each sequence alone is compared with the recurrence in
// double; a batch of them, wherever it lies and whoever computes it, has the same bits, its gradients too;
// nothing else is read or written.
#include <fovea/linear/reference.hpp>

#include "random_problem.hpp"

namespace linear_random {
namespace {

/// f(mods...) of the rule.
void with_rule(const problem& p, const auto& decay, const auto& rate, const auto& state, const auto& f) {
  const auto with_state = [&](const auto&... mods) { p.state ? f(mods..., state) : f(mods...); };
  const auto with_rate = [&](const auto&... mods) {
    delta(p.r) ? with_state(mods..., rate) : with_state(mods...);
  };
  gated(p.r) ? with_rate(decay) : with_rate();
}

fovea::linear_attention_options options_of(const problem& p) {
  return {.heads = p.heads, .kv_heads = p.kv_heads, .l2_norm = p.l2_norm, .engine = p.engine};
}

/// Against the recurrence in double: |error| <= error_share (rules.hpp) of the sum of absolute values, and the
/// rounding of a result that is stored in fewer bits.
template <class E>
void run_alone(const problem& p, sequence<E>& x) {
  using T = fovea::compute_t<E>;
  const fovea::linear_attention<E> attend(options_of(p));
  const auto call = [&](const auto&... mods) {
    const auto want = fovea::linear_reference(x.q, x.k, x.v, options_of(p), mods...);
    attend.into(x.o, x.q, x.k, x.v, mods...);
    const double unit = std::ldexp(1., sizeof(T) == 4 ? -24 : -53), stored = sizeof(E) == 2 ? 0x1p-8 : 0;
    const double share = error_share(unit, x.q.view().tokens);
    for (index_type i = 0; i < x.o.size(); ++i)
      ASSERT_NEAR(double(x.o.data()[i]), want.out.data()[i], (share + stored) * want.magnitude.data()[i]);
    double largest = 1e-30;
    for (index_type i = 0; i < x.s.size(); ++i) largest = std::max(largest, std::abs(want.states.data()[i]));
    for (index_type i = 0; i < x.s.size() && p.state; ++i)
      ASSERT_NEAR(double(x.after.data()[i]), want.states.data()[i], share * largest);
  };
  with_rule(p, fovea::log_decay(x.g), fovea::delta_rule(x.b), fovea::linear_state(x.after), call);
  if constexpr (std::is_same_v<E, T>)
    with_rule(p, fovea::log_decay(x.g, x.d_g), fovea::delta_rule(x.b, x.d_b),
              fovea::linear_state(x.s, x.before), [&](const auto&... mods) {
                attend.backward_into(x.d_q, x.d_k, x.d_v, x.q, x.k, x.v, x.d_o, mods...);
              });
}

/// Memory of a plan's size, and what stands behind it.
struct guarded_memory {
  std::vector<std::byte> bytes;
  static constexpr index_type behind = 64;
  fovea::workspace of(const fovea::linear_attention_plan& plan) {
    bytes.assign(static_cast<std::size_t>(plan.workspace_bytes() + behind), std::byte{77});
    return fovea::workspace{std::span(bytes).first(bytes.size() - behind)};
  }
  ~guarded_memory() {
    for (std::size_t i = bytes.empty() ? 0 : bytes.size() - behind; i < bytes.size(); ++i)
      EXPECT_EQ(bytes[i], std::byte{77}) << "behind the workspace";
  }
};

/// All of them in one call.
template <class E>
void run_batch(random_source& random, const problem& p, const std::vector<sequence<E>>& all,
               bool in_workspace, fovea::executor_ref executor) {
  using T = fovea::compute_t<E>;
  const auto& one = all[0];
  const auto place = [&](const auto& like, float outside = NAN) {
    return scattered<std::remove_cvref_t<decltype(*like.data())>>(random, p, like, outside);
  };
  auto q = place(one.q), k = place(one.k), v = place(one.v), d_o = place(one.d_o);
  auto g = place(one.g), b = place(one.b);
  constexpr float canary = 7;
  auto o = place(one.o, canary), d_q = place(one.q, canary), d_k = place(one.k, canary),
       d_v = place(one.v, canary);
  auto d_g = place(one.g, canary), d_b = place(one.b, canary);
  scattered<T> s(random, p, one.s, NAN, true), s0(random, p, one.s, NAN, true),
      d_s(random, p, one.s, NAN, true);
  const auto each = [&](const auto& f) {
    for (index_type n = 0; n < p.batch; ++n) f(n, all[static_cast<std::size_t>(n)]);
  };
  each([&](index_type n, const sequence<E>& x) {
    q.set(n, x.q), k.set(n, x.k), v.set(n, x.v), g.set(n, x.g), b.set(n, x.b), d_o.set(n, x.d_o);
    s.set(n, x.s), s0.set(n, x.s), d_s.set(n, x.d_s);
  });
  auto options = options_of(p);
  options.executor = executor;
  const fovea::linear_attention<E> attend(options);
  const auto with_operands = [&](const auto& f, auto&... x) {
    p.packed ? f(fovea::ragged(x.view, p.starts, p.lengths)...) : f(x.view...);
  };
  with_operands(
      [&](auto to, auto of_q, auto of_k, auto of_v, auto of_g, auto of_b) {
        with_rule(p, fovea::log_decay(of_g), fovea::delta_rule(of_b), fovea::linear_state(s.view),
                  [&](const auto&... mods) {
                    guarded_memory memory;
                    if (in_workspace)
                      attend.into(to, of_q, of_k, of_v, mods...,
                                  memory.of(attend.into_plan_for(to, of_q, of_k, of_v, mods...)));
                    else
                      attend.into(to, of_q, of_k, of_v, mods...);
                  });
      },
      o, q, k, v, g, b);
  each([&](index_type n, const sequence<E>& x) {
    o.take("o", n, x.o), s.take("the state", n, p.state ? x.after : x.s);
  });
  o.expect_nothing_else("o"), s.expect_nothing_else("the state");
  if constexpr (std::is_same_v<E, T>) {
    with_operands(
        [&](auto to_q, auto to_k, auto to_v, auto of_q, auto of_k, auto of_v, auto by, auto of_g, auto of_b,
            auto to_g, auto to_b) {
          with_rule(p, fovea::log_decay(of_g, to_g), fovea::delta_rule(of_b, to_b),
                    fovea::linear_state(s0.view, d_s.view), [&](const auto&... mods) {
                      guarded_memory memory;
                      if (in_workspace)
                        attend.backward_into(to_q, to_k, to_v, of_q, of_k, of_v, by, mods...,
                                             memory.of(attend.backward_plan_for(to_q, to_k, to_v, of_q, of_k,
                                                                                of_v, by, mods...)));
                      else
                        attend.backward_into(to_q, to_k, to_v, of_q, of_k, of_v, by, mods...);
                    });
        },
        d_q, d_k, d_v, q, k, v, d_o, g, b, d_g, d_b);
    each([&](index_type n, const sequence<E>& x) {
      d_q.take("d_q", n, x.d_q), d_k.take("d_k", n, x.d_k), d_v.take("d_v", n, x.d_v);
      if (gated(p.r)) d_g.take("d_log_decay", n, x.d_g);
      if (delta(p.r)) d_b.take("d_delta_rule", n, x.d_b);
      s0.take("the first state", n, x.s), d_s.take("its gradient", n, p.state ? x.before : x.d_s);
    });
    d_q.expect_nothing_else("d_q"), d_k.expect_nothing_else("d_k"), d_v.expect_nothing_else("d_v");
    d_g.expect_nothing_else("d_log_decay"), d_b.expect_nothing_else("d_delta_rule");
    s0.expect_nothing_else("the first state"), d_s.expect_nothing_else("its gradient");
  }
  each([&](index_type n, const sequence<E>& x) {  // arguments are as they were
    q.take("q", n, x.q), k.take("k", n, x.k), v.take("v", n, x.v), d_o.take("d_o", n, x.d_o);
    g.take("log_decay", n, x.g), b.take("delta_rule", n, x.b);
  });
  q.expect_nothing_else("q"), k.expect_nothing_else("k"), v.expect_nothing_else("v");
}

template <class E>
struct LinearRandom : testing::Test {};
using elements = testing::Types<float, double, fovea::bf16>;
TYPED_TEST_SUITE(LinearRandom, elements);

TYPED_TEST(LinearRandom, ProblemsOfAllKinds) {
  const fovea::threads pool{3};
  for (std::uint32_t seed = 0; seed < 60 && !this->HasFailure(); ++seed) {
    random_source random{std::mt19937(seed)};
    const problem p(random);
    SCOPED_TRACE("seed " + std::to_string(seed) + ", rule " + std::to_string(int(p.r)) + ", engine " +
                 std::to_string(int(p.engine)) + (p.packed ? ", packed" : "") + (p.state ? ", state" : ""));
    std::vector<sequence<TypeParam>> all;
    for (const index_type tokens : p.lengths) {
      all.emplace_back(random, p, tokens);
      run_alone(p, all.back());
    }
    const bool in_workspace = random.often(0.5);
    random.often(0.5) ? run_batch(random, p, all, in_workspace, pool)
                      : run_batch(random, p, all, in_workspace, {});
  }
}

}  // namespace
}  // namespace linear_random
