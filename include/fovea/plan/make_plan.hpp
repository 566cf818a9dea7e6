// fovea/plan/make_plan.hpp - the plan of a call: jobs, block sizes, bytes of scratch.
#pragma once

#include <fovea/kernel/forward/attend_group.hpp>
#include <fovea/kernel/forward/attend_heads.hpp>
#include <fovea/kernel/forward/attend_rows.hpp>
#include <fovea/plan/jobs.hpp>
#include <fovea/plan/receive.hpp>

FOVEA_NAMESPACE_BEGIN

/// Work below which a call stays on its thread: waking another one costs about as much (some 10 us).
inline constexpr double worth_waking = 1e6;

/// Operations of a call without a mask: 2 Lq Lk (d + dv) a head.
template <class Inputs>
double operations(const Inputs& p) noexcept {
  double cells = 0;
  for (index_type b = 0; b < p.q.batches(); ++b)
    cells += static_cast<double>(p.q.tokens(b)) * static_cast<double>(p.k.tokens(b));
  return 2 * cells * static_cast<double>(p.heads() * (p.dim() + p.value_dim()));
}

/// The plan of a call that attends; `dots`: its logits are dot products; `may_group`: heads may share lanes.
/// (Compiled once for all rules and results.)
template <class Arch, class T, class QE, class Keys, class Values>
FOVEA_NOINLINE plan plan_to_attend(const kernel::inputs<T, QE, Keys, Values>& p, bool dots,
                                   bool may_group) noexcept {
  constexpr bool may_pair = kernel::pairs_channels_of<Arch, kernel::inputs<T, QE, Keys, Values>>;
  using shape = kernel::geometry<Arch>;
  constexpr index_type n = kernel::lanes<Arch, T>;
  plan plan{.batches = p.q.batches(),
            .heads = p.heads(),
            .kv_heads = p.k.heads(),
            .queries = p.q.max_tokens(),
            .keys = p.k.max_tokens(),
            .dim = p.dim(),
            .value_dim = p.value_dim(),
            .lanes = n,
            .compute_bytes = static_cast<index_type>(sizeof(T)),
            .tile_rows = shape::tile_rows,
            .tile_vectors = shape::tile_vectors};
  const auto operand = [&](const auto& x, index_type width) {
    return kernel::operand_of<Arch>(x.head(0, 0), width, static_cast<T*>(nullptr));
  };
  for (index_type b = 0; b < plan.batches; ++b) {
    const auto jobs = job_list_of<Arch>(p, b, may_group);
    if (jobs.count() == 0) continue;
    plan.jobs_a_sequence = std::max(plan.jobs_a_sequence, jobs.count());
    plan.row_blocks_a_sequence = std::max(plan.row_blocks_a_sequence, jobs.split_blocks());
    if (jobs.lane_jobs() > 0) {
      const index_type at_once = kernel::short_block<Arch, T>(plan.value_dim),
                       block = p.k.tokens(b) <= at_once ? at_once : index_type(shape::key_block);
      const index_type registers = jobs.lanes_a_job / n;
      plan.queries_form = true;
      plan.rows_a_job = std::max(plan.rows_a_job, jobs.lanes_a_job);
      plan.key_block = std::max(plan.key_block, block);
      plan.scratch.include(
          {.panels = kernel::query_panel<Arch, T>::bytes(registers, plan.dim, plan.value_dim,
                                                         kernel::lane_softmax<Arch, T>::columns),
           .logits = kernel::logit_block<Arch, T>::bytes(
               std::min(block, p.k.tokens(b)), std::min(index_type(shape::tile_vectors), registers)),
           .keys = dots ? kernel::operand_in_lanes<Arch, may_pair>(p.k.head(0, 0), plan.dim,
                                                                   static_cast<T*>(nullptr))
                              .bytes_for_read(block)
                        : operand(p.k, plan.dim).bytes_for_read(block),
           .values = operand(p.v, plan.value_dim).bytes_for_columns(block),
           .stages = jobs.grouped ? kernel::turned_bytes<Arch, T>(std::min(block, p.k.tokens(b))) : 0});
      plan.grouped = plan.grouped || jobs.grouped;
    }
    if (jobs.row_jobs() > 0) {
      using panel = kernel::row_panel<Arch, T>;
      constexpr index_type block = shape::few_rows_block;
      plan.rows_form = true;
      plan.rows_a_job = std::max(plan.rows_a_job, jobs.rows_a_job);
      plan.key_block = std::max(plan.key_block, block);
      plan.scratch.include({.panels = jobs.state_a_job() + panel::work_bytes(jobs.rows_a_job, plan.dim),
                            .keys = operand(p.k, kernel::read_width<Arch, T>(plan.dim))
                                        .template bytes_for_rows<kernel::scaled::by_channel>(block),
                            .values = operand(p.v, kernel::read_width<Arch, T>(plan.value_dim))
                                          .template bytes_for_rows<kernel::scaled::by_token>(block)});
    }
    if (jobs.grouped || jobs.row_jobs() > 0) {
      plan.key_splits = std::max(plan.key_splits, jobs.key_splits);
      plan.states += jobs.all_states();
    }
  }
  plan.copies_keys = plan.scratch.keys > 0;
  plan.copies_values = plan.scratch.values > 0;
  plan.jobs = plan.batches * plan.jobs_a_sequence;
  return plan;
}

/// Key/value heads whose jobs are one task: those that short pages hold together, where K and V come from
/// memory and each head's rows are one panel; fewer where that leaves workers without a task. No result
/// depends on it.
template <class Arch, class Problem>
index_type heads_a_task_of(const Problem& p, const plan& plan, index_type workers) noexcept {
  if constexpr (kernel::may_share_pages<Problem>) {
    constexpr index_type n = kernel::lanes<Arch, typename Problem::compute>;
    const bool shares = p.from_memory && plan.rows_form && !plan.queries_form &&
                        plan.rows_a_job <= kernel::geometry<Arch>::few_rows &&
                        std::min(plan.dim, plan.value_dim) >= n && plan.value_dim <= plan.dim &&
                        std::max(p.k.page_tokens(), p.v.page_tokens()) <= kernel::short_page_tokens;
    index_type heads = shares ? std::min(plan.kv_heads, kernel::most_heads_a_task) : 1;
    while (heads > 1 && plan.batches * ceil_div(plan.kv_heads, heads) * plan.key_splits < workers)
      heads = ceil_div(heads, index_type(2));
    return heads;
  }
  return 1;
}

template <class Arch, class Problem>
plan make_plan(const Problem& p, index_type workers) noexcept {
  plan plan = plan_to_attend<Arch>(p, Problem::scores_dots, kernel::may_group<Problem>);
  plan.heads_a_task = heads_a_task_of<Arch>(p, plan, workers);
  if (plan.heads_a_task > 1) plan.scratch.panels *= plan.heads_a_task;
  if (plan.queries_form) plan.scratch.include({.stages = stage_bytes<Arch>(p)});
  index_type tasks = plan.jobs;
  if constexpr (Problem::receives) {
    plan_to_receive<Arch>(p, plan);
    tasks = std::max(tasks, swept_sums(plan));
  }
  share_scratch(plan, plan.jobs > 1 && operations(p) > worth_waking ? workers : 1, tasks);
  return plan;
}

/// Adds to a plan how many blocks of a job's rows x key_block keys the mask shows whole, in part, or not at
/// all.
template <class Arch, class Problem>
void count_coverage(const Problem& p, plan& plan) noexcept {
  index_type seen[3] = {0, 0, 0};
  plan.shortest_span = plan.keys;
  for (index_type b = 0; b < plan.batches; ++b)
    for (index_type h = 0; h < plan.heads; ++h) {
      const auto rules = p.rules.bind(p.at(b, h));
      const index_type queries = p.q.tokens(b), keys = p.k.tokens(b),
                       step = std::max<index_type>(1, plan.rows_a_job);
      for (index_type i = 0; i < queries; i += step) {
        range seen_keys{keys, 0};
        for (index_type j = 0; j < keys; j += plan.key_block) {
          const range rows{i, std::min(i + step, queries)}, block{j, std::min(j + plan.key_block, keys)};
          const bool out = intersect(block, reach_of(rules.mask, rows, keys)).empty();
          const coverage covered = out ? coverage::none : cover_of(rules.mask, rows, block);
          ++seen[static_cast<int>(covered)];
          if (covered != coverage::none) seen_keys = {std::min(seen_keys.first, j), block.last};
        }
        plan.shortest_span = std::min(plan.shortest_span, seen_keys.size());
        plan.longest_span = std::max(plan.longest_span, seen_keys.size());
      }
    }
  plan.hidden_blocks = seen[0], plan.partial_blocks = seen[1], plan.full_blocks = seen[2];
}

FOVEA_NAMESPACE_END
