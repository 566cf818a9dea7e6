// fovea/executor/thread_pool.hpp - threads that help callers with their tasks.
#pragma once

#include <fovea/executor/concept.hpp>
#include <fovea/executor/first_exception.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

FOVEA_NAMESPACE_BEGIN

/// Callers open calls, on their own stacks, and work on them at once; helpers that have nothing to do join
/// the call that was opened last. When no task is left to begin, a caller closes its call and waits for the
/// helpers inside it alone. So a call never waits for a thread that has not begun with it, and calls inside
/// of tasks, and of tasks of other pools, can not wait in a circle: who is waited for works on a task further
/// in.
class thread_pool {
 public:
  thread_pool() = default;
  thread_pool(const thread_pool&) = delete;

  /// Ends and joins the helpers.
  ~thread_pool() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
      wanted_.store(true, std::memory_order_relaxed);
    }
    wake_.notify_all();
    for (std::thread& helper : helpers_) helper.join();
  }

  /// Starts so many helpers. Throws std::system_error, or std::bad_alloc, where the system gives no more of
  /// them.
  template <class Unit = this_unit>
  void start(index_type helpers) {
    helpers_.reserve(static_cast<std::size_t>(helpers));
#if FOVEA_EXCEPTIONS
    try {
      while (std::ssize(helpers_) < helpers) helpers_.emplace_back([this] { serve<Unit>(); });
    } catch (const std::system_error& e) {
      throw std::system_error(e.code(), "fovea: threads: the system gave " +
                                            std::to_string(std::ssize(helpers_)) + " of " +
                                            std::to_string(helpers) + " threads beside the caller's");
    }
#else
    while (std::ssize(helpers_) < helpers) helpers_.emplace_back([this] { serve<Unit>(); });
#endif
  }

  /// Calls task(i, worker) for each i in [0, tasks), by the caller as worker 0 and up to `helpers` of the
  /// pool's. After an exception no more tasks begin; the first is thrown once all that began have ended.
  template <class Unit = this_unit>
  void run(index_type tasks, index_type helpers, task_ref task) {
    open_call call(tasks, helpers, task);
    open(call);
    call.work(0);
    close(call);
    if (const auto left = [&call] { return call.inside.load(std::memory_order_acquire) == 0; }; !soon(left)) {
      std::unique_lock lock(mutex_);
      left_.wait(lock, left);
    }
    call.failure.rethrow();
  }

 private:
  struct open_call {
    open_call(index_type n, index_type most, task_ref f) noexcept : task(f), tasks(n), helpers(most) {}

    void work(index_type worker) noexcept {
      failure.guard([&]() {
        for (index_type i; (i = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) task(i, worker);
      });
      if (failure.thrown()) next.store(tasks, std::memory_order_relaxed);
    }

    const task_ref task;
    const index_type tasks, helpers;     // helpers: at most so many
    index_type joined = 0;               // how many of them did; under the lock
    open_call* opened_before = nullptr;  // under the lock
    std::atomic<index_type> next{0};     // task to begin
    std::atomic<index_type> inside{0};   // helpers; more of them under the lock only
    first_exception failure;
  };

  void open(open_call& call) {
    index_type sleepers = 0;
    {
      const std::lock_guard lock(mutex_);
      call.opened_before = last_opened_, last_opened_ = &call;
      wanted_.store(true, std::memory_order_relaxed);
      sleepers = asleep_;
    }
    if (sleepers <= call.helpers) {
      if (sleepers > 0) wake_.notify_all();
    } else {
      for (index_type i = 0; i < call.helpers; ++i) wake_.notify_one();
    }
  }

  /// No helper joins from here on.
  void close(open_call& call) {
    const std::lock_guard lock(mutex_);
    for (open_call** at = &last_opened_; *at != nullptr; at = &(*at)->opened_before)
      if (*at == &call) {
        *at = call.opened_before;
        break;
      }
    wanted_.store(ends_ || last_opened_ != nullptr, std::memory_order_relaxed);
  }

  /// The call that was opened last, with one more helper inside: number call->joined; or none. Under the
  /// lock.
  open_call* join_one() noexcept {
    open_call* const call = last_opened_;
    if (call == nullptr) return nullptr;
    call->inside.fetch_add(1, std::memory_order_relaxed);
    if (++call->joined == call->helpers) last_opened_ = call->opened_before;
    wanted_.store(ends_ || last_opened_ != nullptr, std::memory_order_relaxed);
    return call;
  }

  /// What a helper does.
  template <class Unit>
  void serve() {
    std::unique_lock lock(mutex_);
    while (!ends_) {
      if (open_call* const call = join_one()) {
        const index_type worker = call->joined;
        lock.unlock();
        call->work(worker);
        lock.lock();
        // Its caller may return as soon as nobody is inside: the call is not touched after that.
        if (call->inside.fetch_sub(1, std::memory_order_release) == 1) left_.notify_all();
      } else {
        lock.unlock();
        const auto wanted = [this] { return wanted_.load(std::memory_order_relaxed); };
        const bool at_once = soon(wanted);
        lock.lock();
        if (at_once) continue;
        ++asleep_;
        wake_.wait(lock, wanted);
        --asleep_;
      }
    }
  }

  /// So long a thread looks for what it waits for before it sleeps: about as long as falling asleep and
  /// waking takes. It does not yield meanwhile: where other programs run, that may cost milliseconds.
  static constexpr std::chrono::microseconds patience{50};

  /// Whether `happened` becomes true within that time.
  template <class Happened>
  static bool soon(const Happened& happened) {
    using clock = std::chrono::steady_clock;
    if (happened()) return true;
    for (const auto until = clock::now() + patience; clock::now() < until;)
      if (happened()) return true;
    return happened();
  }

  std::mutex mutex_;
  std::condition_variable wake_, left_;  // helpers: there is something to do; callers: nobody is inside
  open_call* last_opened_ = nullptr;     // of those that more helpers may join
  index_type asleep_ = 0;                // helpers that wait on wake_
  bool ends_ = false;
  std::atomic<bool> wanted_{false};  // whether a call is open, or the pool ends; written under the lock
  std::vector<std::thread> helpers_;
};

FOVEA_NAMESPACE_END
