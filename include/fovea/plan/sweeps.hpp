// fovea/plan/sweeps.hpp - sweeps over the logits of all query rows, run by an executor: score matrices,
// statistics, and states and mixers of one's own.
#pragma once

#include <fovea/executor/concept.hpp>
#include <fovea/kernel/sweep/lane_folds.hpp>
#include <fovea/kernel/sweep/row_folds.hpp>
#include <fovea/kernel/sweep/score_matrix.hpp>
#include <fovea/kernel/sweep/statistics.hpp>
#include <fovea/plan/make_plan.hpp>

FOVEA_NAMESPACE_BEGIN

/// A plan of jobs that sweep over logits, with so much scratch each; how many there are is yet to be said.
template <class Problem>
plan plan_of_sweep(const Problem&, const kernel::scratch_parts& scratch) noexcept {
  return {.compute_bytes = static_cast<index_type>(sizeof(typename Problem::compute)), .scratch = scratch};
}

/// Shares a plan among workers: of its jobs, or of a later part of so many tasks.
template <class Problem>
void share_sweep(const Problem& p, plan& sweep, index_type workers, index_type later_tasks = 0) noexcept {
  share_scratch(sweep, sweep.jobs > 1 && operations(p) > worth_waking ? workers : 1,
                std::max(sweep.jobs, later_tasks));
}

/// f(task, scratch) for each of a plan's jobs, from several threads where the executor has them.
template <class T, class F>
void run_sweep(const plan& sweep, const working_memory& memory, executor_ref executor, const F& f) {
  if (sweep.workers == 1) executor = executor_ref();
  executor.for_each(sweep.jobs, [&](index_type task, index_type worker) {
    f(task, scratch_of<T>(sweep, memory, task, worker));
  });
}
template <class Problem, class F, class T = typename Problem::compute>
void run_sweep(const Problem& p, executor_ref executor, plan& sweep, const F& f) {
  share_sweep(p, sweep, executor.workers());
  run_sweep<T>(sweep, working_memory(sweep, {}), executor, f);
}

/// f(batch, head, rows, scratch) for each few query rows of some query heads; `own`: bytes of scratch that it
/// wants for such rows in place of values.
template <class Arch, class Problem, class F, class T = typename Problem::compute>
void each_few_rows(const Problem& p, executor_ref executor, range query_heads, index_type own, const F& f) {
  constexpr index_type rows = rows_a_sweep<Arch, T>;
  const index_type blocks = ceil_div(p.q.max_tokens(), rows), heads = query_heads.size();
  plan sweep = plan_of_sweep(p, scratch_of_sweep<Arch>(p));
  sweep.scratch.values = own;
  sweep.jobs = p.q.batches() * heads * blocks;
  run_sweep(p, executor, sweep, [&](index_type i, const auto& memory) {
    const index_type b = i / blocks / heads, h = query_heads.first + i / blocks % heads;
    const index_type first = i % blocks * rows;
    const range few{first, std::min(first + rows, p.q.tokens(b))};
    if (!few.empty()) f(b, h, few, memory);
  });
}

/// Score matrices of the query heads `heads`, to to(batch, head - heads.first, query, key): probabilities, or
/// logits; 0, or hidden, where a sequence has no such query or key. See kernel/sweep/score_matrix.hpp.
template <class Arch, class Problem, class T = typename Problem::compute>
void write_score_matrices(const Problem& p, executor_ref executor, range heads, const sequences<T>& to,
                          bool probabilities) {
  each_few_rows<Arch>(p, executor, heads, 0, [&](index_type b, index_type h, range rows, const auto& memory) {
    const auto lse = p.lse.head(b, h);
    kernel::emit_queries<Arch>(p, b, h, rows, memory, to.head(b, h - heads.first),
                               probabilities ? &lse : nullptr);
  });
  for (index_type b = 0; b < to.batches(); ++b)
    for (index_type h = 0; h < to.heads(); ++h)
      kernel::fill_rows(to.head(b, h), {p.q.tokens(b), to.tokens(b)},
                        probabilities ? T(0) : kernel::hidden<T>);
}

/// write(batch, head, row, kernel::row_measures) for each row of each query head: see
/// kernel/sweep/statistics.hpp.
template <class Arch, class Problem, class Write, class T = typename Problem::compute>
void measure_all(const Problem& p, executor_ref executor, const Write& write) {
  each_few_rows<Arch>(p, executor, {0, p.heads()}, kernel::row_states_bytes(rows_a_sweep<Arch, T>),
                      [&](index_type b, index_type h, range rows, const auto& memory) {
                        kernel::measure_queries<Arch>(
                            p, b, h, rows, memory,
                            [&](index_type row, const kernel::row_measures& of) { write(b, h, row, of); });
                      });
}

/// The jobs of a sequence are those of a call, but for splits of keys.
template <class Arch, class Problem>
auto fold_jobs_of(const Problem& p, index_type b) noexcept {
  auto jobs = job_list_of<Arch>(p, b);
  jobs.key_splits = 1;
  return jobs;
}

/// Their plan; `lane_columns`: registers that a register of queries stores, `registers`: that a row does.
template <class Arch, class Problem>
plan plan_of_folds(const Problem& p, index_type lane_columns, kernel::row_registers registers) noexcept {
  using T = typename Problem::compute;
  using panel = kernel::row_panel<Arch, T>;
  plan plan = plan_of_sweep(p, scratch_of_sweep<Arch>(p));
  for (index_type b = 0; b < p.q.batches(); ++b) {
    const auto jobs = fold_jobs_of<Arch>(p, b);
    plan.jobs_a_sequence = std::max(plan.jobs_a_sequence, jobs.count());
    plan.scratch.include(
        {.panels = kernel::query_panel<Arch, T>::bytes(jobs.lanes_a_job / jobs.n, p.dim(), 0, lane_columns)});
    plan.scratch.include({.panels = panel::state_bytes(jobs.rows_a_job, registers) +
                                    panel::work_bytes(jobs.rows_a_job, p.dim())});
  }
  const index_type width = kernel::read_width<Arch, T>(p.dim());
  plan.scratch.include({.keys = kernel::copy_bytes<T>(kernel::geometry<Arch>::few_rows_block, width)});
  plan.batches = p.q.batches(), plan.heads = p.heads(), plan.kv_heads = p.k.heads();
  plan.queries = p.q.max_tokens(), plan.keys = p.k.max_tokens(), plan.dim = p.dim();
  plan.lanes = kernel::lanes<Arch, T>;
  plan.jobs = p.q.batches() * plan.jobs_a_sequence;
  return plan;
}

/// f(batch, job, scratch) for each job of each sequence.
template <class Arch, class Problem, class F, class T = typename Problem::compute>
void each_fold_job(const Problem& p, const plan& plan, const working_memory& memory, executor_ref executor,
                   const F& f) {
  run_sweep<T>(plan, memory, executor, [&](index_type i, const auto& scratch) {
    const index_type b = i / plan.jobs_a_sequence, j = i % plan.jobs_a_sequence;
    const auto jobs = fold_jobs_of<Arch>(p, b);
    if (j < jobs.count()) f(b, jobs.at(j), scratch);
  });
}

/// The plan of a state's fold, yet to be shared among workers.
template <class Arch, class State, class Problem>
plan plan_to_fold(const Problem& p) noexcept {
  using T = typename Problem::compute;
  return plan_of_folds<Arch>(p, State::columns, kernel::row_fold<Arch, T, State>::registers);
}

/// to(batch, head, query, column): what a state stored of each row, by a plan that is shared.
template <class Arch, class Problem, class State, class T = typename Problem::compute>
void fold(const Problem& p, const plan& plan, const working_memory& memory, executor_ref executor,
          const State& state, const sequences<T>& to) {
  each_fold_job<Arch>(p, plan, memory, executor, [&](index_type b, const job& rows, const auto& scratch) {
    if (rows.dim_in_lanes)
      kernel::fold_rows<Arch>(p, {b, rows.head, rows.queries, rows.rows}, scratch, state, to);
    else
      kernel::fold_queries<Arch>(p, b, rows.head, rows.rows, scratch, state, to.head(b, rows.head));
  });
}
template <class Arch, class Problem, class State, class T = typename Problem::compute>
void fold_all(const Problem& p, executor_ref executor, const State& state, const sequences<T>& to) {
  plan plan = plan_to_fold<Arch, State>(p);
  share_sweep(p, plan, executor.workers());
  fold<Arch>(p, plan, working_memory(plan, {}), executor, state, to);
}

/// to(batch, head, query, column): what a mixer summed with each row's weights.
template <class Arch, class Problem, class Mixer, class T = typename Problem::compute>
void mix_all(const Problem& p, executor_ref executor, const Mixer& mixer, const sequences<T>& to) {
  plan plan = plan_of_folds<Arch>(p, Mixer::columns + kernel::lane_softmax<Arch, T>::columns,
                                  kernel::row_mixer<Arch, T, Mixer>::registers);
  share_sweep(p, plan, executor.workers());
  const working_memory memory(plan, {});
  each_fold_job<Arch>(p, plan, memory, executor, [&](index_type b, const job& rows, const auto& scratch) {
    if (rows.dim_in_lanes)
      kernel::mix_rows<Arch>(p, {b, rows.head, rows.queries, rows.rows}, scratch, mixer, to);
    else
      kernel::mix_queries<Arch>(p, b, rows.head, rows.rows, scratch, mixer, to.head(b, rows.head));
  });
}

FOVEA_NAMESPACE_END
