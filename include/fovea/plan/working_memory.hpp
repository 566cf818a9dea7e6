// fovea/plan/working_memory.hpp - the memory that a plan's workers work in.
#pragma once

#include <fovea/kernel/scratch.hpp>

#include <cstdint>
#include <memory>
#include <span>

FOVEA_NAMESPACE_BEGIN

/// Gives a plan as many workers as can have a task at a time: no part of the call has more than `tasks`.
/// Where the executor has more workers each task has a scratch, since any of them may take it up.
template <class Plan>
void share_scratch(Plan& plan, index_type workers, index_type tasks) noexcept {
  plan.workers = std::min(workers, std::max<index_type>(tasks, 1));
  plan.scratch_a_task = plan.workers < workers;
}

/// The number of the scratch of a task that the executor gave to `worker`.
template <class Plan>
index_type scratch_number(const Plan& plan, index_type task, index_type worker) {
  if (plan.scratch_a_task) return task;
  if (worker < 0 || worker >= plan.workers)
    reject("the executor gave a task to worker ", worker, ", not one of its ", plan.workers);
  return worker;
}

/// Memory on the stack for a workspace that needs little: allocating took a tenth of a call of a few
/// microseconds. With what kernels take it stays below the 16 KiB of a call.
struct stack_memory {
  static constexpr index_type size = 7 * 1024;
  alignas(workspace_alignment) std::byte bytes[size];
};

/// A scratch for each worker of a plan, then what all share: the user's memory where given (at least
/// workspace_bytes(), checked by the API), else `near` where that is enough, else own.
class working_memory {
 public:
  template <class Plan>
  working_memory(const Plan& plan, std::span<std::byte> given, std::span<std::byte> near = {})
      : bytes_a_worker_(plan.scratch_bytes()), workers_(plan.workers) {
    const index_type bytes = plan.workspace_bytes();
    if (given.empty()) given = near;
    if (static_cast<index_type>(given.size()) < bytes)
      own_ = std::make_unique_for_overwrite<std::byte[]>(static_cast<std::size_t>(bytes));
    std::byte* const memory = own_ ? own_.get() : given.data();
    const auto start = reinterpret_cast<std::uintptr_t>(memory);
    first_ =
        memory +
        (static_cast<std::uintptr_t>(round_up(static_cast<index_type>(start), workspace_alignment)) - start);
  }

  working_memory(const working_memory&) = delete;

  std::byte* scratch(index_type number) const noexcept { return first_ + number * bytes_a_worker_; }
  std::byte* shared() const noexcept { return scratch(workers_); }

 private:
  index_type bytes_a_worker_, workers_;
  std::unique_ptr<std::byte[]> own_;
  std::byte* first_ = nullptr;
};

FOVEA_NAMESPACE_END
