// fovea/plan/logit_sweep.hpp - a worker's memory, and what it needs for a sweep over logits.
#pragma once

#include <fovea/kernel/arch/geometry.hpp>
#include <fovea/kernel/forward/lane_panel.hpp>
#include <fovea/kernel/operand/operand.hpp>
#include <fovea/kernel/problem.hpp>
#include <fovea/kernel/rules/cells.hpp>
#include <fovea/plan/plan.hpp>

FOVEA_NAMESPACE_BEGIN

/// Where the scratch of a plan's task lies that the executor gave to `worker`.
template <class T>
kernel::scratch<T> scratch_of(const plan& plan, const working_memory& memory, index_type task,
                              index_type worker) {
  return {memory.scratch(scratch_number(plan, task, worker)), plan.scratch};
}

/// Query rows that see a block of keys together in a sweep over logits.
template <class Arch, class T>
inline constexpr index_type rows_a_sweep =
    kernel::geometry<Arch>::panels * kernel::geometry<Arch>::tile_vectors * kernel::lanes<Arch, T>;

/// Scratch for the cells that the rules of a call read.
template <class Arch, class Problem>
constexpr index_type stage_bytes(const Problem& p) noexcept {
  using rules = decltype(p.rules.bind(p.at(0, 0)));
  return kernel::staging_block<Arch, typename Problem::compute>::bytes(rules::matrices);
}

/// One worker's scratch for rows_a_sweep.
template <class Arch, class Problem>
kernel::scratch_parts scratch_of_sweep(const Problem& p) noexcept {
  using T = typename Problem::compute;
  using shape = kernel::geometry<Arch>;
  const index_type registers = rows_a_sweep<Arch, T> / kernel::lanes<Arch, T>;
  return {.panels = kernel::query_panel<Arch, T>::bytes(registers, p.dim(), 0, 0),
          .logits = kernel::logit_block<Arch, T>::bytes(shape::key_block, shape::tile_vectors),
          .keys = kernel::copy_bytes<T>(shape::key_block, p.dim()),
          .stages = stage_bytes<Arch>(p)};
}

FOVEA_NAMESPACE_END
