// Linear attention: both engines against the recurrence in double, and what is promised of bits, NaN and errors.
#include <fovea/linear/reference.hpp>

#include "problem.hpp"

#include <gtest/gtest.h>

namespace {

using fovea::index_type, fovea::linear_engine;
using namespace linear_test;

/// The largest error as a share of its bound, of out and of the states.
template <class E, class S = fovea::compute_t<E>>
void check(const shape& at, double strength, rule r, linear_engine engine, bool l2_norm = false) {
  problem<E, S> p(at, strength, static_cast<std::uint32_t>(at.tokens + 7 * at.dim));
  const fovea::linear_attention_options options{
      .heads = at.heads, .kv_heads = at.kv_heads, .l2_norm = l2_norm, .engine = engine};
  p.with(r, [&](const auto&... mods) {
    const auto want = fovea::linear_reference(p.q, p.k, p.v, options, fovea::linear_state(p.s), mods...);
    using T = fovea::compute_t<E>;
    fovea::tensor<T> o(at.batch, at.heads, at.tokens, at.value_dim);
    std::fill_n(o.data(), o.size(), std::numeric_limits<T>::quiet_NaN());
    fovea::linear_attention<E>(options).into(o, p.q, p.k, p.v, fovea::linear_state(p.s), mods...);
    const double unit = std::ldexp(1.0, sizeof(T) == 4 ? -24 : -53);
    double worst = 0;
    for (index_type i = 0; i < o.size(); ++i) {
      const double error = std::abs(static_cast<double>(o.data()[i]) - want.out.data()[i]);
      const double most = error_share(unit, at.tokens) * want.magnitude.data()[i];
      ASSERT_LE(error, most) << "o " << i << ", rule " << int(r) << ", engine " << int(engine) << ", tokens "
                             << at.tokens << ", dim " << at.dim;
      worst = std::max(worst, most > 0 ? error / most : 0);
    }
    double largest = 1e-30;
    for (index_type i = 0; i < p.s.size(); ++i) largest = std::max(largest, std::abs(want.states.data()[i]));
    const double state_unit = error_share(unit, at.tokens) + (sizeof(S) == 2 ? std::ldexp(1.0, -8) : 0);
    for (index_type i = 0; i < p.s.size(); ++i)
      ASSERT_LE(std::abs(static_cast<double>(p.s.data()[i]) - want.states.data()[i]), state_unit * largest)
          << "state " << i << ", rule " << int(r) << ", engine " << int(engine);
  });
}

TEST(LinearAttention, EnginesAgreeWithTheRecurrenceInDouble) {
  const shape shapes[] = {{1, 1, 1, 1, 1, 1},    {2, 2, 1, 3, 7, 5},     {1, 4, 2, 31, 16, 24},
                          {1, 2, 2, 32, 64, 64}, {2, 2, 2, 33, 13, 9},   {1, 6, 2, 70, 8, 40},
                          {1, 1, 1, 97, 72, 33}, {1, 2, 1, 200, 32, 16}, {2, 2, 1, 40, 1, 5},
                          {2, 2, 1, 40, 5, 1},   {1, 2, 1, 40, 0, 3},    {1, 2, 1, 40, 3, 0}};
  for (const auto engine : {linear_engine::recurrence, linear_engine::chunked, linear_engine::fastest})
    for (const rule r : all_rules)
      for (const shape& at : shapes)
        for (const double strength : {0.05, 2.0, 90.0}) {
          check<float>(at, strength, r, engine);
          check<double>(at, strength, r, engine);
        }
}

TEST(LinearAttention, LongSequencesWithDecaysNear1AndNear0) {
  for (const auto engine : {linear_engine::recurrence, linear_engine::chunked})
    for (const rule r : all_rules)
      for (const double strength : {1e-5, 0.02, 30.0})
        check<float>({1, 1, 1, 16384, 16, 16}, strength, r, engine);
}

TEST(LinearAttention, StorageTypesAndLengths) {
  for (const auto engine : {linear_engine::recurrence, linear_engine::chunked})
    for (const rule r : {rule::linear, rule::gated_delta, rule::gated_delta_channels})
      for (const index_type tokens : {1, 40}) {
        check<fovea::bf16>({1, 2, 1, tokens, 24, 16}, 0.5, r, engine);
        check<fovea::fp16>({1, 2, 1, tokens, 24, 16}, 0.5, r, engine);
        check<float, fovea::bf16>({1, 2, 1, tokens, 24, 16}, 0.5, r, engine);
        check<float, double>({1, 2, 1, tokens, 24, 16}, 0.5, r, engine);
        check<float>({1, 2, 1, tokens, 24, 16}, 0.5, r, engine, true);
        check<double>({1, 4, 2, tokens, 5, 7}, 0.5, r, engine, true);
      }
}

TEST(LinearAttention, SameBitsForAnyWorkersAloneAndPacked) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  fovea::threads pool{3};
  const index_type heads = 2, d = 16, lengths[] = {1, 50, 0, 17, 3};
  const std::vector<index_type> offsets{2, 3, 53, 53, 70, 73};
  Matrix q = Matrix::Random(75, heads * d), k = q.array() * 0.3f, v = Matrix::Random(75, heads * d);
  Matrix g = -Matrix::Random(75, heads).cwiseAbs(), b = Matrix::Random(75, heads).cwiseAbs(),
         o(75, heads * d);
  fovea::tensor<float> s(5, heads, d, d), s_parallel = s;
  const fovea::linear_attention<float, 2> attend;
  const fovea::linear_attention<float, 2> parallel{fovea::linear_attention_options{.executor = pool}};
  const fovea::ragged all_q(q, offsets), all_k(k, offsets), all_v(v, offsets), all_g(g, offsets),
      all_b(b, offsets);
  attend.into(fovea::ragged(o, offsets), all_q, all_k, all_v, fovea::log_decay(all_g),
              fovea::delta_rule(all_b), fovea::linear_state(s));
  const Matrix two = parallel(all_q, all_k, all_v, fovea::delta_rule(all_b), fovea::linear_state(s_parallel),
                              fovea::log_decay(all_g));
  EXPECT_TRUE(same_bits(o, two));
  EXPECT_TRUE(same_bits(s, s_parallel));
  EXPECT_EQ(o.row(0).cwiseAbs().sum(), 0.f);
  EXPECT_EQ(o.row(74).cwiseAbs().sum(), 0.f);
  for (index_type n = 0; n < 5; ++n) {
    const auto part = [&](const Matrix& x) {
      return Matrix(x.middleRows(offsets[std::size_t(n)], lengths[n]));
    };
    const Matrix g_n = part(g), b_n = part(b);
    fovea::tensor<float> alone(1, heads, d, d);
    const Matrix one = attend(part(q), part(k), part(v), fovea::log_decay(g_n), fovea::delta_rule(b_n),
                              fovea::linear_state(alone));
    EXPECT_TRUE(same_bits(one, part(o))) << n;
    EXPECT_EQ(std::memcmp(alone.data(), &s(n, 0, 0, 0), sizeof(float) * heads * d * d), 0) << n;
  }
}

TEST(LinearAttention, AStateGoesOnWhereACallEnded) {
  for (const rule r : all_rules) {
    const shape at{2, 2, 1, 90, 16, 24};
    problem<double> p(at, 0.3);
    const fovea::linear_attention<double> attend({.heads = 2, .kv_heads = 1});
    p.with(r, [&](const auto&... mods) {
      auto whole_state = p.s;
      const auto whole = attend(p.q, p.k, p.v, fovea::linear_state(whole_state), mods...);
      const auto part = [](auto x, index_type first, index_type count) {
        x.data += first * x.token_stride, x.tokens = count;
        return x;
      };
      [[maybe_unused]] const auto part_of = [&](const auto& m, index_type first, index_type count) {
        using M = std::remove_cvref_t<decltype(m)>;
        const auto x = part(m.numbers.view(), first, count);
        if constexpr (fovea::log_decay_like<M>)
          return fovea::log_decay(x);
        else
          return fovea::delta_rule(x);
      };
      for (index_type first = 0, count = 1; first < at.tokens;
           first += count, count = std::min<index_type>(2 * count, at.tokens - first)) {
        const auto some =
            attend(part(p.q.view(), first, count), part(p.k.view(), first, count),
                   part(p.v.view(), first, count), fovea::linear_state(p.s), part_of(mods, first, count)...);
        for (index_type n = 0; n < at.batch; ++n)
          for (index_type h = 0; h < at.heads; ++h)
            for (index_type t = 0; t < count; ++t)
              for (index_type c = 0; c < at.value_dim; ++c)
                ASSERT_NEAR(some(n, h, t, c), whole(n, h, first + t, c), 1e-12);
      }
      for (index_type i = 0; i < p.s.size(); ++i) ASSERT_NEAR(p.s.data()[i], whole_state.data()[i], 1e-12);
    });
  }
}

TEST(LinearAttention, SnapshotsAreStatesOnTheWay) {
  for (const rule r : all_rules)
    for (const index_type every : {1, 3, 32, 40})
      for (const index_type tokens : {3, 90}) {
        const shape at{2, 2, 1, tokens, 16, 32};
        const index_type count = tokens / every;
        problem<double> p(at, 0.3);
        const fovea::linear_attention<double> attend({.heads = 2, .kv_heads = 1});
        p.with(r, [&](const auto&... mods) {
          auto plain_state = p.s, state = p.s;
          fovea::tensor<double> past(2 * count, 1, 16, 32);
          const auto plain = attend(p.q, p.k, p.v, fovea::linear_state(plain_state), mods...);
          const auto o = attend(p.q, p.k, p.v, fovea::linear_state(state), mods...,
                                fovea::linear_snapshots(past, every));
          for (index_type i = 0; i < o.size(); ++i) ASSERT_NEAR(o.data()[i], plain.data()[i], 1e-12);
          for (index_type i = 0; i < state.size(); ++i)
            ASSERT_NEAR(state.data()[i], plain_state.data()[i], 1e-12);
          for (index_type n = 0; n < 2; ++n)
            for (index_type i = 0; i < count; ++i) {
              const auto first = [&](auto x) {
                x.tokens = (i + 1) * every;
                return x;
              };
              [[maybe_unused]] const auto first_of = [&](const auto& m) {
                const auto x = first(m.numbers.view());
                if constexpr (fovea::log_decay_like<std::remove_cvref_t<decltype(m)>>)
                  return fovea::log_decay(x);
                else
                  return fovea::delta_rule(x);
              };
              auto until = p.s;
              attend(first(p.q.view()), first(p.k.view()), first(p.v.view()), fovea::linear_state(until),
                     first_of(mods)...);
              for (index_type row = 0; row < 16; ++row)
                for (index_type c = 0; c < 32; ++c)
                  ASSERT_NEAR(past(n * count + i, 0, row, c), until(n, 0, row, c), 1e-12)
                      << "every " << every << ", snapshot " << i << ", rule " << int(r);
            }
        });
      }
}

TEST(LinearAttention, NothingButItsOwnRowSeesAQuery) {
  for (const auto engine : {linear_engine::recurrence, linear_engine::chunked})
    for (const rule r : all_rules) {
      const shape at{1, 1, 1, 45, 16, 16};
      problem<float> p(at, 0.3);
      p.q(0, 0, 20, 3) = NAN, p.k(0, 0, 37, 2) = NAN;
      const fovea::linear_attention<float, 1> attend(fovea::linear_attention_options{.engine = engine});
      p.with(r, [&](const auto&... mods) {
        const auto o = attend(p.q, p.k, p.v, mods...);
        for (index_type t = 0; t < at.tokens; ++t)
          for (index_type c = 0; c < at.value_dim; ++c)
            ASSERT_EQ(std::isnan(o(0, 0, t, c)), t == 20 || t >= 37) << t << " rule " << int(r);
      });
    }
}

TEST(LinearAttention, AWorkspaceOfThePlansSizeIsEnough) {
  problem<float> p({2, 4, 2, 64, 24, 20}, 0.3);
  const fovea::linear_attention<float> attend({.heads = 4, .kv_heads = 2});
  fovea::tensor<float> o(2, 4, 64, 20), same = o;
  const fovea::log_decay g(p.g);
  attend.into(o, p.q, p.k, p.v, g);
  std::vector<std::byte> memory(
      static_cast<std::size_t>(attend.into_plan_for(o, p.q, p.k, p.v, g).workspace_bytes()) + 64);
  std::fill(memory.end() - 64, memory.end(), std::byte{77});
  attend.into(same, p.q, p.k, p.v, g, fovea::workspace{std::span(memory).first(memory.size() - 64)});
  EXPECT_TRUE(same_bits(o, same));
  EXPECT_TRUE(std::all_of(memory.end() - 64, memory.end(), [](std::byte x) { return x == std::byte{77}; }));
}

template <class F>
std::string message(const F& f) {
  try {
    f();
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "no error";
}

TEST(LinearAttention, ErrorsNameTheArgumentAndBothValues) {
  problem<float> p({1, 4, 2, 5, 8, 12}, 0.3);
  const fovea::linear_attention<float> attend({.heads = 4, .kv_heads = 2});
  fovea::tensor<float> o(1, 4, 5, 12), wrong(1, 2, 4, 8), wide(1, 2, 5, 3), state_of_one(1, 2, 8, 11),
      two(2, 2, 8, 12);
  const auto says = [](const std::string& text, const auto&... parts) {
    return ((text.find(parts) != std::string::npos) && ...);
  };
  const auto fails = [&](const auto&... mods) {
    return message([&] { attend.into(o, p.q, p.k, p.v, mods...); });
  };
  EXPECT_TRUE(says(message([&] { attend(p.q, wrong, p.v); }), "k has 4 tokens", "5"));
  EXPECT_TRUE(says(message([&] { attend(p.q, p.k, wrong); }), "v has 4 tokens", "5"));
  EXPECT_TRUE(says(fails(fovea::log_decay(wide)), "log_decay has 3 columns", "not 1 or 8"))
      << fails(fovea::log_decay(wide));
  EXPECT_TRUE(says(fails(fovea::delta_rule(wide)), "delta_rule has 3 columns", "1"));
  EXPECT_TRUE(says(fails(fovea::linear_state(state_of_one)), "state", "8 x 11", "8 x 12"));
  EXPECT_TRUE(says(fails(fovea::linear_state(two)), "linear_state has 2 sequences", "1"));
  EXPECT_TRUE(says(message([&] { attend.into(wide, p.q, p.k, p.v); }), "o has", "2", "4"));
  EXPECT_TRUE(says(fails(fovea::linear_snapshots(two, 5)), "linear_snapshots has 2 sequences", "1"))
      << fails(fovea::linear_snapshots(two, 5));
  EXPECT_TRUE(says(fails(fovea::linear_snapshots(two, 1)), "linear_snapshots has 2 states", "5", "1"));
  EXPECT_TRUE(says(fails(fovea::linear_snapshots(two, 0)), "linear_snapshots are 0 tokens apart", "1"));
  std::vector<std::byte> few(3);
  EXPECT_TRUE(says(fails(fovea::workspace{few}), "workspace has 3 bytes"));
  fovea::tensor<float> all_heads(1, 4, 5, 8);
  const fovea::linear_attention<float, 4> of_four;
  EXPECT_TRUE(
      says(message([&] { of_four.into(all_heads, p.q, all_heads, all_heads); }), "o and k share memory"));
  auto shifted = p.q.view();
  shifted.data += 8, shifted.tokens -= 1;
  auto part = p.q.view();
  part.tokens -= 1;
  fovea::tensor<float> rest(1, 4, 4, 8);
  EXPECT_TRUE(says(message([&] { of_four.into(shifted, part, rest, rest); }), "o and q share memory"));
  EXPECT_TRUE(says(message([] { fovea::linear_attention<float, 4>({.heads = 3}); }), "heads is 3", "4"));
}

}  // namespace
