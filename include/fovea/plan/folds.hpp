// fovea/plan/folds.hpp - sweeps with a state or a mixer of one's own, run by an executor.
#pragma once

#include <fovea/executor/concept.hpp>
#include <fovea/kernel/sweep/folds.hpp>
#include <fovea/plan/make_plan.hpp>

FOVEA_NAMESPACE_BEGIN

/// f(batch, head, rows, scratch) for each few query rows of each query head, from several threads where the
/// executor has them; `columns`: registers that a register of queries keeps.
template <class Arch, class Problem, class F, class T = typename Problem::compute>
void each_few_rows(const Problem& p, executor_ref executor, index_type columns, const F& f) {
  constexpr index_type rows = rows_a_sweep<Arch, T>;
  const index_type blocks = ceil_div(p.q.max_tokens(), rows);
  plan sweep = plan_of_sweep<Arch>(p, columns);
  sweep.jobs = p.q.batches() * p.heads() * blocks;
  share_scratch(sweep, sweep.jobs > 1 && operations(p) > worth_waking ? executor.workers() : 1, sweep.jobs);
  const workspace memory(sweep, {});
  const executor_ref workers = sweep.workers > 1 ? executor : executor_ref();
  workers.for_each(sweep.jobs, [&](index_type i, index_type worker) {
    const index_type b = i / blocks / p.heads(), h = i / blocks % p.heads(), first = i % blocks * rows;
    const range few{first, std::min(first + rows, p.q.tokens(b))};
    if (!few.empty()) f(b, h, few, scratch_of<T>(sweep, memory, i, worker));
  });
}

/// to(batch, head, query, column): what a state kept of each row.
template <class Arch, class Problem, class State, class T = typename Problem::compute>
void fold_all(const Problem& p, executor_ref executor, const State& state, const sequences<T>& to) {
  each_few_rows<Arch>(p, executor, State::columns,
                      [&](index_type b, index_type h, range rows, const auto& memory) {
                        kernel::fold_queries<Arch>(p, b, h, rows, memory, state, to.head(b, h));
                      });
}

/// to(batch, head, query, column): what a mixer summed with each row's weights.
template <class Arch, class Problem, class Mixer, class T = typename Problem::compute>
void mix_all(const Problem& p, executor_ref executor, const Mixer& mixer, const sequences<T>& to) {
  const index_type columns = Mixer::columns + kernel::lane_softmax<Arch, T>::columns;
  each_few_rows<Arch>(p, executor, columns, [&](index_type b, index_type h, range rows, const auto& memory) {
    kernel::mix_queries<Arch>(p, b, h, rows, memory, mixer, to.head(b, h));
  });
}

FOVEA_NAMESPACE_END
