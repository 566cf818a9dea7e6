// fovea/plan/workspace.hpp - the memory that a plan's workers work in.
#pragma once

#include <fovea/index.hpp>

#include <cstdint>
#include <memory>
#include <span>

FOVEA_NAMESPACE_BEGIN

/// How every part of a workspace is aligned.
inline constexpr index_type workspace_alignment = 64;

/// A scratch for each worker of a plan, then what all share: the user's memory where given (at least
/// workspace_bytes(), checked by the API), else own; on the stack where it is little, as allocating took a
/// tenth of a call of a few microseconds.
class workspace {
 public:
  static constexpr index_type on_stack = 20 * 1024;

  template <class Plan>
  FOVEA_INLINE workspace(const Plan& made, std::span<std::byte> given)
      : bytes_a_worker_(made.scratch_bytes()), workers_(made.workers) {
    const index_type bytes = made.workspace_bytes();
    if (given.empty() && bytes > on_stack)
      own_ = std::make_unique_for_overwrite<std::byte[]>(static_cast<std::size_t>(bytes));
    std::byte* const memory = !given.empty() ? given.data() : own_ ? own_.get() : near_;
    const auto start = reinterpret_cast<std::uintptr_t>(memory);
    first_ =
        memory +
        (static_cast<std::uintptr_t>(round_up(static_cast<index_type>(start), workspace_alignment)) - start);
  }

  workspace(const workspace&) = delete;
  FOVEA_INLINE ~workspace() = default;

  FOVEA_INLINE std::byte* of_worker(index_type worker) const noexcept {
    return first_ + worker * bytes_a_worker_;
  }
  FOVEA_INLINE std::byte* shared() const noexcept { return of_worker(workers_); }

 private:
  alignas(workspace_alignment) std::byte near_[on_stack];
  index_type bytes_a_worker_, workers_;
  std::unique_ptr<std::byte[]> own_;
  std::byte* first_ = nullptr;
};

FOVEA_NAMESPACE_END
