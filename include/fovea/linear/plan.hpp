// fovea/linear/plan.hpp - who computes what of a call of linear attention, in which memory.
#pragma once

#include <fovea/executor/concept.hpp>
#include <fovea/linear/options.hpp>
#include <fovea/linear/tokens.hpp>
#include <fovea/plan/working_memory.hpp>

FOVEA_NAMESPACE_BEGIN

/// A task is a state: all tokens and query heads of a key/value head of a sequence.
struct linear_attention_plan {
  index_type batches = 0, heads = 0, kv_heads = 0, tokens = 0, dim = 0, value_dim = 0;
  linear_engine engine =
      linear_engine::recurrence;  // of sequences of at least chunked_from tokens, if chunked
  index_type chunked_from = 0;
  index_type jobs = 0, workers = 1, numbers = 0, compute_bytes = 4;
  bool scratch_a_task = false;
  index_type chunks_kept = 0;  // backward: those whose states are kept at a time; more are made again

  /// Bytes that a worker works in.
  index_type scratch_bytes() const noexcept { return kernel::part_bytes(numbers * compute_bytes); }
  index_type workspace_bytes() const noexcept {
    return jobs == 0 ? 0 : workers * scratch_bytes() + workspace_alignment - 1;
  }
};

namespace linear {

/// Sizes of a task, in numbers of T.
template <class Arch, class T>
struct task_sizes {
  static constexpr index_type n = lanes<Arch, T>;
  index_type dim, value_dim, group;
  bool decays_channels;

  index_type dim_step() const noexcept { return std::max<index_type>(round_up(dim, n), n); }
  index_type width() const noexcept { return std::max<index_type>(round_up(value_dim, n), n); }
  index_type state() const noexcept { return round_up(dim, 16) * width(); }
};

/// A plan that knows the sizes of a call, and nothing else yet.
template <class Call>
linear_attention_plan sizes_of(const Call& c) noexcept {
  linear_attention_plan p;
  p.batches = c.q.batches(), p.heads = c.q.heads(), p.kv_heads = c.k.heads(), p.tokens = c.q.max_tokens();
  p.dim = c.k.dim(), p.value_dim = c.v.dim(), p.compute_bytes = sizeof(typename Call::compute);
  return p;
}

/// f(job, its worker's memory) for all jobs of a plan.
template <class F>
void each_task(const linear_attention_plan& plan, executor_ref executor, std::span<std::byte> given,
               const F& f) {
  const working_memory memory(plan, given);
  if (plan.workers == 1) executor = executor_ref();
  executor.for_each(plan.jobs, [&](index_type job, index_type worker) {
    f(job, memory.scratch(scratch_number(plan, job, worker)));
  });
}

}  // namespace linear
FOVEA_NAMESPACE_END
