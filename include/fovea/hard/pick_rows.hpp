// fovea/hard/pick_rows.hpp - the picks of all rows of a call: what its plan is, and who makes them.
#pragma once

#include <fovea/hard/finish.hpp>
#include <fovea/plan/sweeps.hpp>
#include <fovea/view/tensor.hpp>

FOVEA_NAMESPACE_BEGIN

/// The plan of a call with values of so many columns, and sums of exponents: what each row stores is shared
/// by all, a worker has room for two rows of values.
template <class Arch, class Choice, class Problem>
plan plan_to_pick(const Problem& p, index_type value_dim, index_type workers) {
  using compute = typename Problem::compute;
  using state = state_of_choice<Choice, true>;
  plan plan = plan_to_fold<Arch, state>(p);
  plan.value_dim = value_dim;
  plan.states = size_product("what hard attention stores", plan.batches, plan.heads, plan.queries,
                             state::columns, sizeof(compute));
  plan.scratch.include({.values = kernel::bytes_of<compute>(2 * value_dim)});
  share_sweep(p, plan, workers, plan.batches * plan.heads);
  return plan;
}

/// f(batch, head, query, row_picks, room) for each row; room: for two rows of values.
template <class Arch, bool Sum, class Problem, class Choice, class F>
void pick_rows(const Problem& p, const plan& plan, std::span<std::byte> given, executor_ref executor,
               const Choice& choice, const F& f) {
  using compute = typename Problem::compute;
  using state = state_of_choice<Choice, Sum>;
  stack_memory near;
  const working_memory memory(plan, given, near.bytes);
  kernel::memory_parts parts(memory.shared());
  const auto stored = bhsd(parts.take<compute>(plan.states), plan.batches, plan.heads, plan.queries,
                           index_type(state::columns));
  fold<Arch>(p, plan, memory, executor, state{choice}, sequences<compute>{stored});
  const auto finish = [&](index_type task, index_type worker) {
    const index_type b = task / plan.heads, h = task % plan.heads;
    compute* const room = scratch_of<compute>(plan, memory, task, worker).values;
    const place at = p.at(b, h);
    double logit = 0;
    const double* sink = nullptr;
    if constexpr (sink_like<decltype(p.sink)>) logit = static_cast<double>(p.sink.logit(h)), sink = &logit;
    for (index_type i = 0; i < at.queries; ++i)
      f(b, h, i, finish_row<Sum>(choice, at, i, &stored(b, h, i, 0), sink), room);
  };
  (plan.workers > 1 ? executor : executor_ref()).for_each(plan.batches * plan.heads, finish);
}

FOVEA_NAMESPACE_END
