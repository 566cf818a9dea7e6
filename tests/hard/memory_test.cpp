// A plan and a workspace among the arguments of hard attention; gradients of queries that stand in caches.
#include "../support/allocations.hpp"
#include "support.hpp"

namespace hard_memory_test {

using namespace fovea_test;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using memory = std::vector<std::byte>;

struct operands {
  Matrix q, k, v, o;
  explicit operands(index_type queries, index_type keys = 300)
      : q(Matrix::Random(queries, 4 * 24)),
        k(Matrix::Random(keys, 2 * 24)),
        v(Matrix::Random(keys, 2 * 7)),
        o(Matrix::Constant(queries, 4 * 7, 7)) {}
};

memory room_for(index_type bytes, std::byte fill = std::byte{0}) {
  return memory(static_cast<std::size_t>(bytes), fill);
}

TEST(hard_memory, a_call_with_a_workspace_allocates_nothing) {
  const fovea::hard<float, 4, 2> look;
  for (const index_type queries : {3, 120}) {
    operands x(queries);
    const auto same = [&](const auto& choice) {
      const Matrix expected = look(x.q, x.k, x.v, choice, fovea::causal_bottom_right);
      const auto plan = look.plan_for(x.q, x.k, x.v, choice, fovea::causal_bottom_right);
      memory room = room_for(plan.workspace_bytes(), std::byte{0xff});  // NaN
      const auto before = allocations().calls;
      look.into(x.o, x.q, x.k, x.v, choice, fovea::causal_bottom_right, plan, fovea::workspace{room});
      EXPECT_EQ(allocations().calls - before, 0u) << queries;
      EXPECT_EQ(x.o, expected);
      // The same memory serves with_log_p and picks.
      const auto seen = look.with_log_p(x.q, x.k, x.v, choice, fovea::causal_bottom_right),
                 again = look.with_log_p(x.q, x.k, x.v, choice, fovea::workspace{room},
                                         fovea::causal_bottom_right, plan);
      EXPECT_EQ(seen.out, again.out);
      EXPECT_EQ(seen.log_p, again.log_p);
      EXPECT_EQ(seen.lse, again.lse);
      const auto picks_plan = look.picks_plan_for(x.q, x.k, choice, fovea::causal_bottom_right);
      const auto picks =
          look.picks(x.q, x.k, choice, fovea::causal_bottom_right, picks_plan, fovea::workspace{room});
      for (index_type i = 0; i < picks.size(); ++i) ASSERT_EQ(picks.data()[i], seen.picks.data()[i]);
    };
    same(fovea::argmax{}), same(fovea::sampled{.seed = 3}), same(fovea::top<3>{});
  }
}

TEST(hard_memory, a_plan_counts_workers_and_the_option_serves) {
  fovea::threads pool(3);
  operands x(400, 500);
  const fovea::hard<float, 4, 2> serial, parallel{{.executor = pool}};
  const auto plan = parallel.plan_for(x.q, x.k, x.v, fovea::argmax{});
  EXPECT_EQ(plan.workers, 3);
  EXPECT_GT(plan.workspace_bytes(), serial.plan_for(x.q, x.k, x.v, fovea::argmax{}).workspace_bytes());
  memory room = room_for(plan.workspace_bytes());
  const fovea::hard<float, 4, 2> with_option{{.executor = pool, .workspace = room}};
  EXPECT_EQ(with_option(x.q, x.k, x.v, fovea::argmax{}), serial(x.q, x.k, x.v, fovea::argmax{}));
}

TEST(hard_memory, refuses_what_does_not_fit) {
  const fovea::hard<float, 4, 2> look;
  operands x(30);
  const Matrix untouched = x.o;
  const auto plan = look.plan_for(x.q, x.k, x.v, fovea::argmax{});
  memory room = room_for(plan.workspace_bytes() - 1);
  expect_refused([&] { look.into(x.o, x.q, x.k, x.v, fovea::argmax{}, fovea::workspace{room}); },
                 "workspace has " + std::to_string(room.size()) + " bytes, fewer than the " +
                     std::to_string(room.size() + 1) + " of the plan");
  expect_refused([&] { look.into(x.o, x.q, x.k, x.v, fovea::sampled{.seed = 1}, plan); },
                 {"the plan has", "but the call needs"});
  const operands other(31);
  expect_refused(
      [&] {
        look.into(x.o, x.q, x.k, x.v, fovea::argmax{},
                  look.plan_for(other.q, other.k, other.v, fovea::argmax{}));
      },
      {"the plan has 31 queries", "needs 30"});
  memory around_q = room_for(plan.workspace_bytes() + x.q.size() * 4);
  const Eigen::Map<const Matrix> q(reinterpret_cast<const float*>(around_q.data()), 30, 96);
  expect_refused([&] { look.into(x.o, q, x.k, x.v, fovea::argmax{}, fovea::workspace{around_q}); },
                 {"workspace and q share memory"});
  EXPECT_EQ(x.o, untouched);
}

/// Against the same call with what the cache holds in matrices; the queries are its last tokens.
template <class E>
void expect_gradients_of_cache() {
  const index_type keys = 70, queries = 9;
  operands x(queries, keys);
  fovea::kv_cache<E, 2> cache(80, 24, {.value_dim = 7});
  cache.append(x.k, x.v);
  tensor<float> k(1, 2, keys, 24), v(1, 2, keys, 7);
  for (index_type h = 0; h < 2; ++h) {
    const auto of_k = fovea::in_double(cache.keys().head(0, h)),
               of_v = fovea::in_double(cache.values().head(0, h));
    for (index_type j = 0; j < keys; ++j) {
      for (index_type c = 0; c < 24; ++c) k(0, h, j, c) = static_cast<float>(of_k(j, c));
      for (index_type c = 0; c < 7; ++c) v(0, h, j, c) = static_cast<float>(of_v(j, c));
    }
  }
  const Matrix d_out = Matrix::Random(queries, 4 * 7), d = Matrix::Random(queries, 4);
  const auto as_tensor = [&](const Matrix& m, index_type dim) {
    return fovea::bshd(m.data(), 1, m.rows(), 4, dim);
  };
  const fovea::hard<float, 4, 2> look;
  const auto choice = fovea::sampled{.seed = 5};
  const auto seen = look.with_log_p(x.q, cache, choice, fovea::causal);
  const auto dense = look.with_log_p(as_tensor(x.q, 24), k, v, choice, fovea::causal_bottom_right);
  memory room = room_for(1 << 20);
  const auto got = look.reinforce(x.q, cache, seen, d_out, d, fovea::causal, fovea::workspace{room});
  auto same_picks = dense;
  same_picks.picks = seen.picks;
  const auto want = look.reinforce(as_tensor(x.q, 24), k, v, same_picks, as_tensor(d_out, 7), as_tensor(d, 1),
                                   fovea::causal_bottom_right);
  const auto straight = look.straight_through(x.q, cache, d_out, fovea::causal);
  const auto also =
      look.straight_through(as_tensor(x.q, 24), k, v, as_tensor(d_out, 7), fovea::causal_bottom_right);
  ASSERT_EQ(got.d_k.size(), want.d_k.size());
  const auto near = [](const auto& a, const auto& b) {
    double norm = 0;
    for (index_type i = 0; i < a.size(); ++i) {
      ASSERT_NEAR(a.data()[i], b.data()[i], 2e-5);
      norm += std::abs(a.data()[i]);
    }
    EXPECT_GT(norm, 1);
  };
  near(got.d_k, want.d_k), near(got.d_v, want.d_v), near(straight.d_k, also.d_k),
      near(straight.d_v, also.d_v);
  for (index_type h = 0; h < 4; ++h)
    for (index_type i = 0; i < queries; ++i)
      for (index_type c = 0; c < 24; ++c) {
        ASSERT_NEAR(got.d_q(i, h * 24 + c), want.d_q(0, h, i, c), 2e-5);
        ASSERT_NEAR(straight.d_q(i, h * 24 + c), also.d_q(0, h, i, c), 2e-5);
      }
}

TEST(hard_memory, gradients_of_a_cache) {
  expect_gradients_of_cache<float>();
  expect_gradients_of_cache<std::int8_t>();
}

TEST(hard_memory, gradients_of_several_caches_lie_one_after_another) {
  const operands x(7), first(3, 20), second(4, 33);
  fovea::page_pool<float, 2> pages({.pages = 20, .page_tokens = 4, .dim = 24, .value_dim = 7});
  fovea::paged_cache<float, 2> a(pages), b(pages);
  a.append(first.k, first.v), b.append(second.k, second.v);
  const std::vector<const fovea::paged_cache<float, 2>*> both{&a, &b};
  const fovea::cache_batch batch{both};
  const std::vector<int> offsets{0, 3, 7};
  const Matrix d_out = Matrix::Random(7, 4 * 7), d = Matrix::Random(7, 4);
  const fovea::hard<float, 4, 2> look;
  const fovea::ragged q{x.q, offsets}, of_out{d_out, offsets}, of_d{d, offsets};
  const auto seen = look.with_log_p(q, batch, fovea::argmax{}, fovea::causal);
  const auto g = look.reinforce(q, batch, seen, of_out, of_d, fovea::causal);
  const Matrix q1 = x.q.bottomRows(4), d_out1 = d_out.bottomRows(4), d1 = d.bottomRows(4);
  const auto alone = look.reinforce(q1, b, look.with_log_p(q1, b, fovea::argmax{}, fovea::causal), d_out1, d1,
                                    fovea::causal);
  EXPECT_EQ(g.d_k.tokens(), 53);
  EXPECT_EQ(Matrix(g.d_q.bottomRows(4)), alone.d_q);
  for (index_type h = 0; h < 2; ++h)
    for (index_type j = 0; j < 33; ++j) {
      for (index_type c = 0; c < 24; ++c) ASSERT_EQ(g.d_k(0, h, 20 + j, c), alone.d_k(0, h, j, c));
      for (index_type c = 0; c < 7; ++c) ASSERT_EQ(g.d_v(0, h, 20 + j, c), alone.d_v(0, h, j, c));
    }
}

}  // namespace hard_memory_test
