// Who runs tasks: each once, by a worker that does nothing else meanwhile. (What must not hang ends with the
// time limit of the test.)
#include "../support/allocations.hpp"

#include <fovea/executor.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#endif

namespace {

using fovea::index_type;

static_assert(fovea::executor<fovea::serial> && fovea::executor<fovea::threads> &&
              fovea::executor<const fovea::threads>);
static_assert(!fovea::executor<int>);

void expect_each_task_once(fovea::executor_ref executor, index_type tasks) {
  std::vector<std::atomic<int>> runs(static_cast<std::size_t>(tasks));
  std::vector<std::atomic<bool>> busy(static_cast<std::size_t>(executor.workers()));
  std::atomic<bool> fair{true};
  const auto task = [&](index_type i, index_type worker) {
    if (worker < 0 || worker >= executor.workers() || busy[static_cast<std::size_t>(worker)].exchange(true))
      fair = false;
    runs[static_cast<std::size_t>(i)]++;
    std::this_thread::yield();
    if (worker >= 0 && worker < executor.workers()) busy[static_cast<std::size_t>(worker)] = false;
  };
  executor.for_each(tasks, task);
  EXPECT_TRUE(fair) << "two tasks of one worker at a time, or a worker beyond " << executor.workers();
  for (const auto& n : runs) ASSERT_EQ(n, 1);
}

constexpr index_type task_counts[] = {0, 1, 2, 3, 7, 8, 100};

TEST(executor, serial) {
  fovea::serial executor;
  EXPECT_EQ(executor.workers(), 1);
  for (const index_type n : task_counts) expect_each_task_once(executor, n);
}

TEST(executor, without_one_the_caller_works) {
  const auto caller = std::this_thread::get_id();
  fovea::executor_ref executor;
  EXPECT_EQ(executor.workers(), 1);
  const auto task = [&](index_type, index_type) { EXPECT_EQ(std::this_thread::get_id(), caller); };
  executor.for_each(5, task);
  for (const index_type n : task_counts) expect_each_task_once(executor, n);
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

// Work for about a millisecond a task, so that others come to help.
void take_time() { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }

// A pool that waited for helpers which are in the tasks around would never end.
template <class Outer, class Inner>
void expect_nesting(const Outer& outer, const Inner& inner) {
  for (int again = 0; again < 20; ++again) {
    std::vector<std::atomic<int>> runs(6 * 7);
    outer.for_each(6, [&](index_type i, index_type) {
      std::atomic<int> mine{0};
      inner.for_each(7, [&](index_type j, index_type worker) {
        EXPECT_TRUE(worker >= 0 && worker < inner.workers());
        ++mine, ++runs[static_cast<std::size_t>(i * 7 + j)];
      });
      EXPECT_EQ(mine, 7) << "a call inside of a task returned before its own tasks had ended";
    });
    for (const auto& n : runs) ASSERT_EQ(n, 1);
  }
}

TEST(executor, threads_are_used_inside_of_their_own_tasks) {
  for (const index_type workers : {1, 2, 3, 7}) {
    const fovea::threads pool(workers);
    expect_nesting(pool, pool);
    pool.for_each(3, [&](index_type, index_type) { expect_nesting(pool, pool); });
  }
}

TEST(executor, threads_are_used_inside_of_the_tasks_of_another_pool) {
  const fovea::threads one(2), other(3);
  expect_nesting(one, other);
  std::atomic<int> runs{0};  // and back into the first
  one.for_each(4, [&](index_type, index_type) {
    other.for_each(4, [&](index_type, index_type) {
      one.for_each(4, [&](index_type, index_type) { take_time(), ++runs; });
    });
  });
  EXPECT_EQ(runs, 64);
}

/// Tasks of which those on the caller's thread throw (or the others): the exception must arrive, no task may
/// run after for_each, and the executor must go on.
template <class Executor>
void expect_exception_of(const Executor& executor, bool on_the_caller) {
  const auto caller = std::this_thread::get_id();
  std::atomic<int> begun{0}, ended{0}, thrown{0};
  const auto task = [&](index_type i, index_type) {
    ++begun;
    struct count_end {
      std::atomic<int>& n;
      ~count_end() { ++n; }
    } const at_the_end{ended};
    take_time();
    if ((std::this_thread::get_id() == caller) != on_the_caller) return;
    ++thrown;
    throw std::runtime_error("task " + std::to_string(i));
  };
  std::string text;
  try {
    executor.for_each(64, task);
  } catch (const std::runtime_error& e) {
    text = e.what();
  }
  const int begun_by_then = begun, ended_by_then = ended;
  EXPECT_EQ(text.rfind("task ", 0), 0u) << "an exception of " << (on_the_caller ? "the caller" : "a worker");
  EXPECT_GT(thrown, 0);
  EXPECT_EQ(begun_by_then, ended_by_then);
  take_time();
  EXPECT_EQ(begun, begun_by_then) << "a task began after for_each";
  for (const index_type n : task_counts) expect_each_task_once(executor, n);
}

TEST(executor, threads_pass_the_exceptions_of_tasks_on) {
  const fovea::threads pool(3);
  for (int again = 0; again < 5; ++again)
    for (const bool on_the_caller : {true, false}) expect_exception_of(pool, on_the_caller);
  const fovea::threads alone(1);
  expect_exception_of(alone, true);
}

TEST(executor, threads_pass_the_exceptions_of_tasks_inside_of_tasks_on) {
  const fovea::threads pool(3);
  std::atomic<int> caught{0};
  EXPECT_THROW(pool.for_each(6,
                             [&](index_type, index_type) {
                               try {
                                 pool.for_each(6, [](index_type, index_type) { throw 1; });
                               } catch (int) {
                                 ++caught;
                               }
                               throw std::logic_error("outer");
                             }),
               std::logic_error);
  EXPECT_GT(caught, 0);
  expect_each_task_once(pool, 100);
}

TEST(executor, threads_allocate_nothing) {
  const fovea::threads pool(3);
  std::atomic<index_type> sum{0};
  const auto task = [&](index_type i, index_type) { sum += i; };
  pool.for_each(100, task);
  const auto before = fovea_test::allocations().calls;
  for (int again = 0; again < 100; ++again) pool.for_each(100, task);
  EXPECT_EQ(fovea_test::allocations().calls, before);
  EXPECT_EQ(sum, 101 * 4950);
}

TEST(executor, threads_come_to_help_awake_or_asleep) {
  const fovea::threads pool(3);
  for (const int pause_in_ms : {0, 0, 2, 0, 2, 2}) {
    std::this_thread::sleep_for(std::chrono::milliseconds(pause_in_ms));
    std::atomic<int> arrived{0};
    pool.for_each(3, [&](index_type, index_type) {  // ends only when all three are there
      ++arrived;
      while (arrived < 3) std::this_thread::yield();
    });
  }
}

#if defined(__linux__)
/// The exit status of a child that does f, and the number of what ended it plus 1000.
template <class F>
int status_of_child(const F& f) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(10);  // ends it if it hangs
    _exit(f());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/// Whether a child may start threads: the thread sanitizer takes none there.
#if defined(__SANITIZE_THREAD__)
constexpr bool children_have_threads = false;
#else
constexpr bool children_have_threads = true;
#endif

TEST(executor, a_forked_child_does_the_work_of_its_parents_pools) {
  std::optional<fovea::threads> pool(3);
  expect_each_task_once(*pool, 10);
  const auto child = [&] {
    const auto caller = std::this_thread::get_id();
    int runs = 0;
    pool->for_each(10, [&](index_type, index_type worker) {
      if (std::this_thread::get_id() == caller && worker == 0) ++runs;
    });
    pool.reset();  // nothing to join
    const fovea::threads of_its_own(children_have_threads ? 3 : 1);
    std::atomic<int> others{0};
    of_its_own.for_each(10, [&](index_type, index_type) { ++others; });
    return runs == 10 && others == 10 ? 0 : 1;
  };
  EXPECT_EQ(status_of_child(child), 0);
  expect_each_task_once(*pool, 10);
}

// Address space for some ten stacks. (Sanitizers take more than that for themselves.)
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(executor, threads_that_the_system_does_not_give_are_an_error) {
  EXPECT_EQ(status_of_child([] {
              long pages = 0;
              std::ifstream("/proc/self/statm") >> pages;
              const auto bytes = static_cast<rlim_t>(pages) * 4096 + (rlim_t(100) << 20);
              const rlimit limit{bytes, bytes};
              if (setrlimit(RLIMIT_AS, &limit) != 0) return 2;
              try {
                const fovea::threads pool(64);
                return 3;  // the limit did nothing
              } catch (const std::system_error& e) {
                if (std::string(e.what()).find(" of 63 threads") == std::string::npos) return 4;
              } catch (const std::bad_alloc&) {
              }
              const fovea::threads pool(2);  // those of before are gone
              std::atomic<int> runs{0};
              pool.for_each(10, [&](index_type, index_type) { ++runs; });
              return runs == 10 ? 0 : 5;
            }),
            0);
}
#endif
#endif

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
  const backwards executor;
  for (const index_type n : task_counts) expect_each_task_once(executor, n);
  EXPECT_GT(executor.calls, 0);
}

#ifdef _OPENMP
TEST(executor, openmp) {
  for (const index_type workers : {1, 2, 3}) {
    const fovea::openmp executor(workers);
    EXPECT_EQ(executor.workers(), workers);
    for (const index_type n : task_counts) expect_each_task_once(executor, n);
  }
  EXPECT_THROW(fovea::openmp(0), std::invalid_argument);
  expect_nesting(fovea::openmp(2), fovea::openmp(3));
  expect_nesting(fovea::threads(2), fovea::openmp(2));
  expect_nesting(fovea::openmp(2), fovea::threads(2));
  for (const bool on_the_caller : {true, false}) expect_exception_of(fovea::openmp(2), on_the_caller);
}

#if defined(__linux__)
TEST(executor, a_forked_child_does_the_work_of_its_parents_openmp) {
  const fovea::openmp executor(2);
  expect_each_task_once(executor, 10);
  EXPECT_EQ(status_of_child([&] {
              int runs = 0;
              executor.for_each(10, [&](index_type, index_type) { ++runs; });
              return runs == 10 ? 0 : 1;
            }),
            0);
}
#endif
#endif

/// Whose number of workers is what a user's counting came to.
struct counted_wrong {
  index_type count;
  index_type workers() const { return count; }
  void for_each(index_type, fovea::task_ref) const { ADD_FAILURE() << "asked to work"; }
};

TEST(executor, of_no_workers_is_refused) {
  for (const index_type workers : {0, -3}) {
    const counted_wrong executor{workers};
    try {
      static_cast<void>(fovea::executor_ref(executor).workers());
      ADD_FAILURE() << workers << " workers were not refused";
    } catch (const std::invalid_argument& e) {
      EXPECT_EQ(std::string(e.what()),
                "fovea: the executor has " + std::to_string(workers) + " workers, fewer than 1");
    }
  }
}

}  // namespace
