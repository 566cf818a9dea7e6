// Who runs tasks: each once, by a worker that does nothing else meanwhile.
#include "../support/random.hpp"

#include <fovea/executor.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

namespace {

using fovea::index_type;

static_assert(fovea::executor<fovea::serial> && fovea::executor<fovea::threads> &&
              fovea::executor<const fovea::threads>);
static_assert(!fovea::executor<int>);

void expect_each_task_once(fovea::executor_ref who, index_type tasks) {
  std::vector<std::atomic<int>> runs(static_cast<std::size_t>(tasks));
  std::vector<std::atomic<bool>> busy(static_cast<std::size_t>(who.workers()));
  std::atomic<bool> fair{true};
  const auto task = [&](index_type i, index_type worker) {
    if (worker < 0 || worker >= who.workers() || busy[static_cast<std::size_t>(worker)].exchange(true))
      fair = false;
    runs[static_cast<std::size_t>(i)]++;
    std::this_thread::yield();
    if (worker >= 0 && worker < who.workers()) busy[static_cast<std::size_t>(worker)] = false;
  };
  who.for_each(tasks, task);
  EXPECT_TRUE(fair) << "two tasks of one worker at a time, or a worker beyond " << who.workers();
  for (const auto& n : runs) ASSERT_EQ(n, 1);
}

constexpr index_type task_counts[] = {0, 1, 2, 3, 7, 8, 100};

TEST(executor, serial) {
  fovea::serial who;
  EXPECT_EQ(who.workers(), 1);
  for (const index_type n : task_counts) expect_each_task_once(who, n);
}

TEST(executor, without_one_the_caller_works) {
  const auto caller = std::this_thread::get_id();
  fovea::executor_ref who;
  EXPECT_EQ(who.workers(), 1);
  const auto task = [&](index_type, index_type) { EXPECT_EQ(std::this_thread::get_id(), caller); };
  who.for_each(5, task);
  for (const index_type n : task_counts) expect_each_task_once(who, n);
}

TEST(executor, threads) {
  for (const index_type workers : {1, 2, 3, 7}) {
    const fovea::threads pool(workers);
    EXPECT_EQ(pool.workers(), workers);
    for (int again = 0; again < 20; ++again)
      for (const index_type n : task_counts) expect_each_task_once(pool, n);
  }
}

TEST(executor, threads_really_run_at_the_same_time) {
  const fovea::threads pool(2);
  std::atomic<int> arrived{0};
  const auto wait_for_the_other = [&](index_type, index_type) {
    ++arrived;
    while (arrived < 2) std::this_thread::yield();
  };
  pool.for_each(2, wait_for_the_other);
  EXPECT_EQ(arrived, 2);
}

TEST(executor, threads_are_shared_by_several_callers) {
  const fovea::threads pool(3);
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i)
    callers.emplace_back([&] {
      for (int again = 0; again < 50; ++again) expect_each_task_once(pool, 17);
    });
  for (auto& c : callers) c.join();
}

TEST(executor, threads_need_a_worker) {
  for (const index_type workers : {0, -3}) try {
      const fovea::threads pool(workers);
      FAIL() << workers;
    } catch (const std::invalid_argument& e) {
      EXPECT_NE(std::string(e.what()).find(std::to_string(workers)), std::string::npos) << e.what();
    }
}

/// As a user would write one: no base class, tasks backwards.
struct backwards {
  mutable int calls = 0;
  index_type workers() const { return 2; }
  template <class F>
  void for_each(index_type n, F&& f) const {
    ++calls;
    for (index_type i = n; i-- > 0;) f(i, i % 2);
  }
};
static_assert(fovea::executor<backwards>);

TEST(executor, of_a_user) {
  const backwards who;
  for (const index_type n : task_counts) expect_each_task_once(who, n);
  EXPECT_GT(who.calls, 0);
}

#ifdef _OPENMP
TEST(executor, openmp) {
  for (const index_type workers : {1, 2, 3}) {
    const fovea::openmp who(workers);
    EXPECT_EQ(who.workers(), workers);
    for (const index_type n : task_counts) expect_each_task_once(who, n);
  }
  EXPECT_THROW(fovea::openmp(0), std::invalid_argument);
}
#endif

}  // namespace
