// fovea/plan/logit_sweep.hpp - a worker's memory, and what it needs for a sweep over logits.
#pragma once

#include <fovea/kernel/arch/geometry.hpp>
#include <fovea/kernel/problem.hpp>
#include <fovea/kernel/rules/cells.hpp>
#include <fovea/plan/plan.hpp>

FOVEA_NAMESPACE_BEGIN

/// Where the scratch of a plan's task lies that the executor gave to `worker`.
template <class T>
FOVEA_INLINE kernel::scratch<T> scratch_of(const plan& plan, const working_memory& memory, index_type task,
                                           index_type worker) {
  std::byte* at = memory.scratch(scratch_number(plan, task, worker));
  const auto take = [&](index_type elements) {
    T* part = reinterpret_cast<T*>(at);
    at += plan.part_bytes(elements);
    return part;
  };
  kernel::scratch<T> scratch;
  scratch.panels = take(plan.panels);
  scratch.logits = take(plan.logits);
  scratch.keys = take(plan.key_copy);
  scratch.values = take(plan.value_copy);
  scratch.stages = reinterpret_cast<std::byte*>(take(plan.stages));
  return scratch;
}

/// Query rows that see a block of keys together in a sweep over logits.
template <class Arch, class T>
inline constexpr index_type rows_a_sweep =
    kernel::geometry<Arch>::panels * kernel::geometry<Arch>::tile_vectors * kernel::lanes<Arch, T>;

/// Elements that staged cells of each matrix of the rules take.
template <class Arch, class Problem>
constexpr index_type stage_elements(const Problem& p) noexcept {
  using T = typename Problem::compute;
  using rules = decltype(p.rules.bind(p.at(0, 0)));
  return rules::matrices * kernel::staging_block<Arch, T>::bytes_a_copy / static_cast<index_type>(sizeof(T));
}

/// One worker's scratch for rows_a_sweep.
template <class Arch, class Problem>
plan plan_of_sweep(const Problem& p) noexcept {
  using T = typename Problem::compute;
  using shape = kernel::geometry<Arch>;
  plan plan{.compute_bytes = static_cast<index_type>(sizeof(T)), .jobs = 1};
  plan.panels = rows_a_sweep<Arch, T> * p.dim();
  plan.logits = shape::key_block * shape::tile_vectors * kernel::lanes<Arch, T>;
  plan.key_copy = shape::key_block * p.dim();
  plan.stages = stage_elements<Arch>(p);
  return plan;
}

FOVEA_NAMESPACE_END
