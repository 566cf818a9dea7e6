// fovea/plan/run.hpp - the jobs of a plan, run by an executor.
#pragma once

#include <fovea/executor/concept.hpp>
#include <fovea/kernel/forward/one_row.hpp>
#include <fovea/kernel/sweep/kept_weights.hpp>
#include <fovea/plan/make_plan.hpp>

FOVEA_NAMESPACE_BEGIN

/// A job of rows: all of their keys, or one split of them, the state of which waits for the others.
template <class Arch, class Problem, class T, class Weights>
void run_rows(const Problem& p, const job_list<Arch, T>& jobs, index_type b, const job& mine,
              const kernel::scratch<T>& memory, T* states, const Weights& weights,
              T* logits = nullptr) noexcept {
  kernel::row_block at{b, mine.head, mine.queries, mine.rows};
  if (!Weights::kept && jobs.keys == 1 && logits == nullptr)
    at.rows.first = kernel::attend_lone_key<Arch>(p, at);
  if (at.rows.empty()) return;
  const bool splits = jobs.key_splits > 1;
  T* const near = splits ? memory.panels : kernel::after(memory.panels, jobs.state_a_job());
  const kernel::row_memory<T> rows{splits ? kernel::after(states, jobs.state_of(mine)) : memory.panels, near,
                                   logits};
  const range span = jobs.key_split(splits ? mine.key_split : 0);
  if (!Weights::kept && logits == nullptr && kernel::is_one_row<Arch>(p, at)) {
    if (kernel::attend_one_row<Arch>(p, at, span, rows)) return;
  } else {
    kernel::attend_rows<Arch>(p, at, span, rows, memory, weights);
  }
  if (!splits) kernel::close_rows<Arch>(p, at, 1, 0, rows, weights);
}

/// The jobs of several key/value heads over the same split of their keys.
template <class Arch, class Problem, class T>
void run_heads(const Problem& p, const job_list<Arch, T>& jobs, index_type b, range heads,
               index_type key_split, const kernel::scratch<T>& memory, T* states) noexcept {
  if (key_split >= jobs.key_splits || jobs.row_jobs() == 0) return;
  const auto job_of = [&](index_type head) { return jobs.at(head * jobs.key_splits + key_split); };
  const kernel::row_block first{b, heads.first, jobs.queries_in_rows(), {0, jobs.rows}};
  if (!kernel::see_all_keys<Arch>(p, first, heads.size())) {
    for (index_type h = heads.first; h < heads.last; ++h)
      run_rows<Arch>(p, jobs, b, job_of(h), memory, states, kernel::no_weights());
    return;
  }
  const bool splits = jobs.key_splits > 1;
  kernel::row_memory<T> of_head[std::size_t{kernel::most_heads_a_task}];
  T* near = memory.panels;
  for (index_type h = 0; h < heads.size(); ++h) {
    T* const work = kernel::after(near, jobs.state_a_job());
    of_head[h] = {splits ? kernel::after(states, jobs.state_of(job_of(heads.first + h))) : near, work};
    near = kernel::after(work, kernel::row_panel<Arch, T>::work_bytes(jobs.rows_a_job, p.dim()));
  }
  kernel::attend_heads<Arch>(p, first, heads.size(), jobs.key_split(key_split), of_head);
  if (splits) return;
  for (index_type h = 0; h < heads.size(); ++h)
    kernel::close_rows<Arch>(p, {b, heads.first + h, first.queries, first.rows}, 1, 0, of_head[h]);
}

/// A job of queries in lanes, cut into runs of rows at edges of the mask, from one register on. (Documents of
/// 256 tokens in one sequence: 1.26 times as long as calls for each without, 1.05 with it.)
template <class Arch, class Problem, class T, class Weights>
void run_lanes(const Problem& p, index_type b, index_type head, range rows, const kernel::scratch<T>& memory,
               const kernel::next_job& next, const Weights& weights) noexcept {
  const auto attend = [&](range run) {
    const bool is_last = run.last == rows.last;
    kernel::attend_queries<Arch>(p, b, head, run, memory, is_last ? next : kernel::next_job{}, weights);
  };
  if constexpr (tells_edges<decltype(p.rules.bind(place()).mask)>) {
    const auto rules = p.rules.bind(p.at(b, head));
    for (range run = rows; !run.empty(); run = {run.last, rows.last}) {
      run.last = end_of_part(run, kernel::lanes<Arch, T>, run.size(), 1,
                             [&](index_type row) { return rules.mask.row_edge(row); });
      attend(run);
    }
  } else {
    attend(rows);
  }
}

/// A job of a group's rows in lanes: all of their keys, or one split of them.
template <class Arch, class Problem, class T>
void run_group(const Problem& p, const job_list<Arch, T>& jobs, index_type b, const job& mine,
               const kernel::scratch<T>& memory, T* states) noexcept {
  kernel::attend_group<Arch>(p, b, mine.head, mine.rows, jobs.key_split(mine.key_split), memory,
                             jobs.key_splits > 1 ? kernel::after(states, jobs.state_of(mine)) : nullptr);
}

/// Merges what the jobs over key splits left of a block of rows; `first`: one of them.
template <class Arch, class Problem, class T, class Weights>
void merge_splits(const Problem& p, const job_list<Arch, T>& jobs, index_type b, const job& first,
                  const kernel::scratch<T>& memory, T* states, const Weights& weights) noexcept {
  if constexpr (kernel::may_group<Problem>)
    if (jobs.grouped)
      return kernel::merge_group<Arch>(p, b, first.head, first.rows, jobs.key_splits, memory,
                                       kernel::after(states, jobs.state_of(first)), jobs.state_a_job());
  const kernel::row_block at{b, first.head, first.queries, first.rows};
  const kernel::row_memory<T> rows{kernel::after(states, jobs.state_of(first)), memory.panels};
  kernel::close_rows<Arch>(p, at, jobs.key_splits, jobs.state_a_job(), rows, weights);
}

/// All jobs of a key/value head where these are of rows alone, and what its keys receive.
template <class Arch, class Problem, class T, class Weights>
void run_and_receive(const Problem& p, const job_list<Arch, T>& jobs, index_type b, index_type kv_head,
                     const kernel::scratch<T>& memory, T* states, const Weights& weights) noexcept {
  const typename Problem::plain& plain = p;
  const range of_head{kv_head * jobs.row_jobs_a_head(), (kv_head + 1) * jobs.row_jobs_a_head()};
  for (index_type j = of_head.first; j < of_head.last; ++j)
    run_rows<Arch>(plain, jobs, b, jobs.at(j), memory, states, weights, memory.logits);
  if (jobs.key_splits > 1)
    for (index_type j = of_head.first; j < of_head.last; j += jobs.key_splits)
      merge_splits<Arch>(plain, jobs, b, jobs.at(j), memory, states, weights);
  receive_kept<Arch>(p, b, kv_head, memory);
}

/// Job i of a plan, for the one before it on the same worker to ask for what it reads.
template <class Arch, class Problem>
kernel::next_job job_after(const Problem& p, const plan& plan, index_type i) noexcept {
  if (i >= plan.jobs || plan.rows_a_job < kernel::next_job::enough_rows) return {};
  const index_type b = i / plan.jobs_a_sequence, j = i % plan.jobs_a_sequence;
  const auto jobs = job_list_of<Arch>(p, b, kernel::may_group<Problem>);
  if (j >= jobs.lane_jobs() || jobs.grouped) return {};
  const job then = jobs.at(j);
  return {b, then.head, then.rows};
}

/// Where a call's weights go that it keeps.
template <class Problem>
auto weights_kept(const Problem& p) noexcept {
  if constexpr (Problem::keeps_weights)
    return kernel::kept_weights<typename Problem::compute>(p.weights, p.kept);
  else
    return kernel::no_weights();
}

/// The whole call.
template <class Arch, class Problem>
void run(const Problem& call, const plan& plan, executor_ref executor, std::span<std::byte> given) {
  using T = typename Problem::compute;
  stack_memory near;
  const working_memory memory(plan, given, near.bytes);
  if (plan.workers == 1) executor = executor_ref();
  const shared_parts<T> shared(plan, memory);
  const auto& p = with_own_rows(call, plan, executor, shared);
  const typename Problem::plain& plain = p;  // compiled once, whether or not keys' sums are wanted
  const auto weights = weights_kept(p);
  constexpr bool may_group = kernel::may_group<Problem>;
  if (plan.key_splits > 1)
    for (index_type b = 0, start = 0; b < plan.batches;
         start += job_list_of<Arch>(p, b++, may_group).all_states())
      shared.starts[b] = start;
  const auto states_of = [&](index_type b) {
    return plan.key_splits > 1 ? kernel::after(shared.states, shared.starts[b]) : shared.states;
  };

  const auto run_job = [&](const job_list<Arch, T>& jobs, index_type b, index_type j, index_type task,
                           index_type worker) {
    if (j >= jobs.count()) return;
    const auto scratch = scratch_of<T>(plan, memory, task, worker);
    if constexpr (Problem::receives)
      if (keeps_logits(jobs)) {
        const index_type each = jobs.row_jobs_a_head();
        if (j % each == 0) run_and_receive<Arch>(p, jobs, b, j / each, scratch, states_of(b), weights);
        return;
      }
    const job mine = jobs.at(j);
    if constexpr (may_group)
      if (jobs.grouped) return run_group<Arch>(plain, jobs, b, mine, scratch, states_of(b));
    if (mine.dim_in_lanes)
      run_rows<Arch>(plain, jobs, b, mine, scratch, states_of(b), weights);
    else
      run_lanes<Arch>(plain, b, mine.head, mine.rows, scratch, job_after<Arch>(p, plan, task + plan.workers),
                      weights);
  };
  const auto run_heads_of_pages = [&](index_type i, index_type worker) {
    const index_type tasks = ceil_div(plan.kv_heads, plan.heads_a_task), b = i / (tasks * plan.key_splits),
                     first = i % tasks * plan.heads_a_task;
    if constexpr (kernel::may_share_pages<Problem>)
      run_heads<Arch>(p, job_list_of<Arch>(p, b, may_group), b,
                      {first, std::min(first + plan.heads_a_task, plan.kv_heads)},
                      i / tasks % plan.key_splits, scratch_of<T>(plan, memory, i, worker), states_of(b));
  };
  // Of a call of one sequence its jobs are counted once: its divisions took 3 % of 4 heads of 16 x 16 cells.
  if (plan.heads_a_task > 1) {
    executor.for_each(plan.batches * ceil_div(plan.kv_heads, plan.heads_a_task) * plan.key_splits,
                      run_heads_of_pages);
  } else if (plan.batches == 1) {
    const auto jobs = job_list_of<Arch>(p, 0, may_group);
    executor.for_each(plan.jobs, [&](index_type i, index_type worker) { run_job(jobs, 0, i, i, worker); });
  } else {
    executor.for_each(plan.jobs, [&](index_type i, index_type worker) {
      const index_type b = i / plan.jobs_a_sequence, j = i % plan.jobs_a_sequence;
      run_job(job_list_of<Arch>(p, b, may_group), b, j, i, worker);
    });
  }

  if (plan.key_splits > 1)
    executor.for_each(plan.batches * plan.row_blocks_a_sequence, [&](index_type i, index_type worker) {
      const index_type b = i / plan.row_blocks_a_sequence, j = i % plan.row_blocks_a_sequence;
      const auto jobs = job_list_of<Arch>(p, b, may_group);
      const bool done = Problem::receives && keeps_logits(jobs);
      if (jobs.key_splits == 1 || j >= jobs.split_blocks() || done) return;
      merge_splits<Arch>(plain, jobs, b, jobs.split_block(j), scratch_of<T>(plan, memory, i, worker),
                         states_of(b), weights);
    });
  if constexpr (Problem::receives)
    if (plan.queries_form) receive_swept<Arch>(p, plan, executor, memory);
}

FOVEA_NAMESPACE_END
