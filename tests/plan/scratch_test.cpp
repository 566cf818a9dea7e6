// Scratch memory and who works in it: executors of every kind, as much memory as there are tasks, none allocated
// where it is given, and calls that have nothing to do.
#include "../support/allocations.hpp"
#include "../support/refusal.hpp"

#include <fovea/inspect.hpp>
#include <fovea/kv_cache.hpp>
#include <fovea/view/decoded.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

namespace scratch_test {

using fovea::index_type;
using fovea_test::expect_refused;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr index_type dim = 64;

/// Workers of whom the last ones work: tasks 0, 1, 2 go to `count` - 1, `count` - 2, ...
struct last_workers {
  index_type count;
  index_type workers() const { return count; }
  void for_each(index_type n, fovea::task_ref f) const {
    for (index_type i = 0; i < n; ++i) f(i, count - 1 - i % count);
  }
};

/// One head, whose queries make two jobs; large enough that a plan wakes others.
struct operands {
  explicit operands(index_type queries, index_type keys, index_type heads = 1)
      : q(Matrix::Random(queries, heads * dim)),
        k(Matrix::Random(keys, heads * dim)),
        v(Matrix::Random(keys, heads * dim)),
        o(q),
        lse(queries, heads),
        d_q(q),
        d_k(k),
        d_v(v),
        sums(Matrix::Zero(keys, heads)) {}
  Matrix q, k, v, o, lse, d_q, d_k, d_v, sums;
};

/// Everything that a call writes, by an executor and with a workspace, which may be empty: prefill, what keys
/// receive, statistics, weights and scores, the backward pass.
template <class Attention>
std::vector<Matrix> results_of(const Attention& attend, operands x) {
  std::vector<Matrix> all;
  attend.with_lse_into(x.o, x.lse, x.q, x.k, x.v);
  all.push_back(x.o), all.push_back(x.lse);
  attend.into(x.o, x.q, x.k, x.v, fovea::add_received(x.sums));
  all.push_back(x.sums);
  const auto rows = attend.statistics(x.q, x.k);
  Matrix measures(x.q.rows(), 2);
  for (index_type i = 0; i < x.q.rows(); ++i)
    measures.row(i) << float(rows.entropy(0, 0, i, 0)), float(rows.lse(0, 0, i, 0));
  all.push_back(measures);
  const auto weights = attend.weights(x.q, x.k), scores = attend.scores(x.q, x.k);
  all.push_back(attend.weights_of(0, x.q, x.k));
  for (const auto& matrix : {weights, scores})
    all.push_back(Eigen::Map<const Matrix>(matrix.data(), matrix.heads() * matrix.tokens(), matrix.dim()));
  attend.backward_into(x.d_q, x.d_k, x.d_v, x.q, x.k, x.v, x.o, x.lse, x.q);
  all.push_back(x.d_q), all.push_back(x.d_k), all.push_back(x.d_v);
  return all;
}

TEST(scratch, is_for_as_many_workers_as_have_a_task) {
  const last_workers many{64}, few{2};
  for (const auto& [queries, keys] : {std::pair<index_type, index_type>{600, 1200}, {1, 9000}}) {
    const operands x(queries, keys);
    const fovea::attention<float, 1> alone, attend{{.executor = many}}, of_few{{.executor = few}};
    const auto plan = attend.plan_for(x.q, x.k, x.v), plan_of_few = of_few.plan_for(x.q, x.k, x.v);
    ASSERT_GT(plan.jobs, 1);
    ASSERT_LT(plan.jobs, 64);
    EXPECT_EQ(plan.workers, plan.jobs);
    EXPECT_EQ(plan.scratch_bytes(), plan_of_few.scratch_bytes());
    EXPECT_EQ(plan.workspace_bytes() - plan_of_few.workspace_bytes(), (plan.jobs - 2) * plan.scratch_bytes());
    EXPECT_EQ(results_of(attend, x), results_of(alone, x));

    // In memory of so many bytes and not one more.
    Matrix o = x.o;
    std::vector<std::byte> room(static_cast<std::size_t>(plan.workspace_bytes() + 64), std::byte(0xa5));
    const fovea::attention<float, 1> given{{.executor = many, .workspace = {room.data(), room.size() - 64}}};
    given.into(o, x.q, x.k, x.v);
    EXPECT_EQ(o, alone(x.q, x.k, x.v));
    EXPECT_TRUE(std::all_of(room.end() - 64, room.end(), [](std::byte b) { return b == std::byte(0xa5); }));
    EXPECT_FALSE(std::all_of(room.begin(), room.end(), [](std::byte b) { return b == std::byte(0xa5); }));

    operands y = x;
    const auto backward = attend.backward_plan_for(y.d_q, y.d_k, y.d_v, x.q, x.k, x.v, x.o, x.lse, x.q);
    EXPECT_EQ(backward.workers, std::min<index_type>(backward.jobs, 64));
  }
}

/// Whose number of workers is what a user's counting came to, or who numbers them from 1.
struct counted_wrong {
  index_type count, first = 0;
  index_type workers() const { return count; }
  void for_each(index_type n, fovea::task_ref f) const {
    for (index_type i = 0; i < n; ++i) f(i, first + i % count);
  }
};

TEST(scratch, needs_a_worker) {
  for (const index_type count : {0, -3}) {
    const counted_wrong none{count};
    const fovea::attention<float, 1> attend{{.executor = none}};
    operands x(600, 300);
    const operands before = x;
    const std::string workers = std::to_string(count) + " workers";
    const auto refused = [&](auto call) { expect_refused(call, {"the executor has ", workers.c_str()}); };
    refused([&] { attend.into(x.o, x.q, x.k, x.v); });
    refused([&] { attend.into(x.o, x.q, x.k, x.v, fovea::add_received(x.sums)); });
    refused([&] { attend.backward_into(x.d_q, x.d_k, x.d_v, x.q, x.k, x.v, x.o, x.lse, x.q); });
    refused([&] { static_cast<void>(attend.received(x.q, x.k)); });
    refused([&] { static_cast<void>(attend.statistics(x.q, x.k)); });
    refused([&] { static_cast<void>(attend.plan_for(x.q, x.k, x.v)); });
    EXPECT_EQ(x.o, before.o);
    EXPECT_EQ(x.sums, before.sums);
    EXPECT_EQ(x.d_q, before.d_q);
  }
}

TEST(scratch, is_not_for_workers_beyond) {
  const counted_wrong from_1{.count = 2, .first = 1};
  const fovea::attention<float, 1> attend{{.executor = from_1}};
  operands x(1500, 1500);
  expect_refused([&] { attend.into(x.o, x.q, x.k, x.v); }, {"to worker 2, not one of its 2"});
  expect_refused([&] { attend.backward_into(x.d_q, x.d_k, x.d_v, x.q, x.k, x.v, x.o, x.lse, x.q); },
                 {"to worker 2, not one of its 2"});
}

/// Who gives up after some tasks.
struct gives_up {
  index_type workers() const { return 2; }
  void for_each(index_type n, fovea::task_ref f) const {
    for (index_type i = 0; i < n / 2; ++i) f(i, i % 2);
    throw std::runtime_error("the pool is closed");
  }
};

TEST(scratch, is_given_back_when_an_executor_throws) {
  const gives_up executor;
  const fovea::attention<float, 1> attend{{.executor = executor}};
  operands x(1500, 1500);
  EXPECT_THROW(attend.into(x.o, x.q, x.k, x.v), std::runtime_error);
  EXPECT_THROW(static_cast<void>(attend.statistics(x.q, x.k)), std::runtime_error);
  EXPECT_THROW(attend.backward_into(x.d_q, x.d_k, x.d_v, x.q, x.k, x.v, x.o, x.lse, x.q), std::runtime_error);
}

TEST(scratch, is_a_calls_own_inside_of_tasks_and_beside_other_callers) {
  const fovea::threads pool(3), other(2);
  const fovea::attention<float, 1> alone, attend{{.executor = pool}}, by_other{{.executor = other}};
  const operands x(600, 300), y(1, 9000);
  const auto expected = results_of(alone, x), expected_of_y = results_of(alone, y);
  std::atomic<int> right{0};
  const auto task = [&](index_type i, index_type) {
    right += results_of(attend, x) == expected;
    right += results_of(i % 2 ? attend : by_other, y) == expected_of_y;
  };
  pool.for_each(4, task);
  EXPECT_EQ(right, 8);
  std::vector<std::thread> callers;
  for (index_type i = 0; i < 3; ++i) callers.emplace_back([&, i] { task(i, 0); });
  for (auto& c : callers) c.join();
  EXPECT_EQ(right, 14);
}

/// f allocates nothing, once it ran.
template <class F>
void expect_no_allocation(const char* what, const F& f) {
  f();
  const auto before = fovea_test::allocations().calls;
  f();
  EXPECT_EQ(fovea_test::allocations().calls, before) << what;
}

TEST(scratch, that_is_given_is_all_that_is_taken) {
  const fovea::threads pool(3);
  const auto before = fovea_test::allocations().calls;
  std::vector<std::byte> room(std::size_t(1) << 24);
  ASSERT_GT(fovea_test::allocations().calls, before) << "nothing is counted";
  for (const bool parallel : {false, true}) {
    const fovea::attention<float, 4, 2> attend{
        {.executor = parallel ? fovea::executor_ref(pool) : fovea::executor_ref(), .workspace = room}};
    const Matrix history = Matrix::Random(4500, 2 * dim);
    fovea::kv_cache<float, 2> cache(4500, dim);
    fovea::kv_cache<std::int8_t, 2> bytes(4500, dim);
    fovea::page_pool<float, 2> pages({.pages = 600, .page_tokens = 16, .dim = dim});
    fovea::paged_cache<float, 2> paged(pages), other(pages);
    cache.append(history, history), bytes.append(history, history);
    paged.append(history.topRows(3000), history.topRows(3000)),
        other.append(history.topRows(400), history.topRows(400));
    const std::vector both{&paged, &other};
    const std::vector<index_type> offsets{0, 1, 2};
    const Matrix two = Matrix::Random(2, 4 * dim), bias = Matrix::Random(100, 100);
    const fovea::ragged newest{two, offsets};
    Matrix of_two = two, d_bias = bias;
    const fovea::ragged newest_o{of_two, offsets};
    for (const index_type queries : {1, 5, 100}) {
      const Matrix q = Matrix::Random(queries, 4 * dim), k = history.topRows(queries);
      Matrix o = q, lse(queries, 4), d_q = q, d_k = k, d_v = k, sums = Matrix::Zero(4500, 2);
      const auto learnt = bias.topLeftCorner(queries, queries);
      auto d_learnt = d_bias.topLeftCorner(queries, queries);
      expect_no_allocation("forward", [&] { attend.with_lse_into(o, lse, q, k, k, fovea::causal); });
      expect_no_allocation("spans of keys", [&] { attend.with_lse_into(o, lse, q, history, history); });
      expect_no_allocation("received",
                           [&] { attend.into(o, q, history, history, fovea::add_received(sums)); });
      expect_no_allocation("a cache", [&] { attend.into(o, q, cache, fovea::causal); });
      expect_no_allocation("a cache of int8", [&] { attend.into(o, q, bytes, fovea::causal); });
      expect_no_allocation("pages", [&] { attend.into(o, q, paged, fovea::causal); });
      attend.with_lse_into(o, lse, q, k, k);
      expect_no_allocation("backward", [&] { attend.backward_into(d_q, d_k, d_v, q, k, k, o, lse, q); });
      expect_no_allocation("backward with a learnt matrix", [&] {
        attend.backward_into(d_q, d_k, d_v, q, k, k, o, lse, q, fovea::bias(learnt, d_learnt));
      });
    }
    expect_no_allocation("a batch of caches",
                         [&] { attend.into(newest_o, newest, fovea::cache_batch{both}, fovea::causal); });
  }
}

struct zeros {  // that no pointer reaches
  index_type length;
  mutable index_type reads = 0;  // tokens
  index_type heads() const { return 1; }
  index_type tokens() const { return length; }
  index_type dim() const { return 64; }
  void read(index_type, fovea::range tokens, float* to, index_type stride) const {
    for (reads += tokens.size(); !tokens.empty(); ++tokens.first, to += stride) std::fill_n(to, dim(), 0.f);
  }
};

TEST(scratch, takes_what_is_decoded_once_however_much_it_is) {
  const zeros store{static_cast<index_type>(fovea::last_cache_bytes() / 64 / 4)};  // twice the last cache
  std::vector<std::byte> room(std::size_t(1) << 20);
  const fovea::attention<float, 1> attend({.workspace = room});
  Matrix q = Matrix::Random(40, 64), o = q;
  expect_no_allocation("decoded", [&] { attend.into(o, q, fovea::decoded(store), fovea::decoded(store)); });
  EXPECT_EQ(store.reads, 2 * 2 * store.length);
}

TEST(nothing_to_do, is_no_error) {
  const fovea::attention<float, 2> attend;
  const std::vector<float> slopes(2, 0.5f);
  std::vector<float> d_slopes(2, 7.f), d_sinks(2, 7.f);
  const auto run = [&](auto& q, auto& k, auto& o, auto& lse, auto& d_q, auto& d_k, auto& d_v) {
    attend.with_lse_into(o, lse, q, k, k);
    attend.backward_into(d_q, d_k, d_v, q, k, k, o, lse, q);
    attend.backward_into(d_q, d_k, d_v, q, k, k, o, lse, q,
                         fovea::alibi{.slopes = slopes, .d_slopes = d_slopes}, fovea::sink{slopes, d_sinks});
  };
  // Of no sequences; of sequences, queries and keys without tokens.
  for (const auto& [batch, queries, keys] :
       {std::array<index_type, 3>{0, 3, 4}, {0, 0, 0}, {2, 0, 4}, {2, 3, 0}, {2, 0, 0}}) {
    const auto make = [&](index_type tokens, index_type columns) {
      return fovea::tensor<float>(batch, 2, tokens, columns);
    };
    auto q = make(queries, 8), o = make(queries, 8), d_q = make(queries, 8), k = make(keys, 8),
         d_k = make(keys, 8), d_v = make(keys, 8), lse = make(queries, 1);
    std::fill(d_slopes.begin(), d_slopes.end(), 7.f), std::fill(d_sinks.begin(), d_sinks.end(), 7.f);
    run(q, k, o, lse, d_q, d_k, d_v);
    EXPECT_EQ(d_slopes, std::vector<float>(2, 0.f)) << batch << " x " << queries << " x " << keys;
    EXPECT_EQ(d_sinks, std::vector<float>(2, 0.f)) << batch << " x " << queries << " x " << keys;
    const auto plan = attend.plan_for(q, k, k);
    static_cast<void>(plan.explain());
    static_cast<void>(attend.weights(q, k)), static_cast<void>(attend.statistics(q, k));
    const auto received = attend.received(q, k);
    for (index_type b = 0; b < batch; ++b)
      for (index_type j = 0; j < keys; ++j) EXPECT_EQ(received(b, 0, j, 0), 0.f);
    if (batch > 0 && queries > 0) {  // rows that see no key
      EXPECT_EQ(o(1, 1, 2, 7), 0.f);
      EXPECT_EQ(lse(1, 1, 2, 0), -std::numeric_limits<float>::infinity());
    }
  }
  // Offsets of no sequences, of sequences without tokens.
  for (const std::vector<index_type>& offsets : {std::vector<index_type>{0}, {0, 0}, {0, 0, 0}}) {
    const Matrix none(0, 16);
    Matrix o = none, lse(0, 2), d_q = none, d_k = none, d_v = none;
    const fovea::ragged q{none, offsets};
    const fovea::ragged to{o, offsets};
    const fovea::ragged to_lse{lse, offsets};
    const fovea::ragged to_q{d_q, offsets};
    const fovea::ragged to_k{d_k, offsets};
    const fovea::ragged to_v{d_v, offsets};
    run(q, q, to, to_lse, to_q, to_k, to_v);
    EXPECT_EQ(attend(q, q, q).rows(), 0);
  }
  // A step without new tokens.
  fovea::kv_cache<float, 2> cache(10, 8);
  const Matrix none(0, 16), k = Matrix::Random(5, 16);
  EXPECT_EQ(attend(none, cache, fovea::causal).rows(), 0);
  cache.append(none, none), cache.append(k, k);
  EXPECT_EQ(attend(none, cache, fovea::causal).rows(), 0);
  EXPECT_EQ(cache.tokens(), 5);
}

}  // namespace scratch_test
