// fovea/plan/make_plan.hpp - the plan of a call: jobs, block sizes, bytes of scratch.
#pragma once

#include <fovea/kernel/forward/attend_lanes.hpp>
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

/// The plan of a call that attends. (Compiled once for all rules and results.)
template <class Arch, class T, class QE, class Keys, class Values>
FOVEA_NOINLINE plan plan_to_attend(const kernel::inputs<T, QE, Keys, Values>& p) noexcept {
  using shape = kernel::geometry<Arch>;
  constexpr index_type n = kernel::lanes<Arch, T>;
  plan made{.batches = p.q.batches(),
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
  const auto needs = [&](index_type kept, index_type logits, index_type key_copy, index_type value_copy) {
    made.kept = std::max(made.kept, kept);
    made.logits = std::max(made.logits, logits);
    made.key_copy = std::max(made.key_copy, key_copy);
    made.value_copy = std::max(made.value_copy, value_copy);
  };
  for (index_type b = 0; b < made.batches; ++b) {
    const auto cut = cut_of<Arch>(p, b);
    if (cut.count() == 0) continue;
    made.jobs_a_sequence = std::max(made.jobs_a_sequence, cut.count());
    made.row_blocks_a_sequence = std::max(made.row_blocks_a_sequence, cut.row_blocks());
    if (cut.lane_jobs() > 0) {
      const index_type block =
          p.k.tokens(b) <= shape::short_block ? index_type(shape::short_block) : index_type(shape::key_block);
      const index_type registers = cut.lanes_a_job / n;
      made.queries_form = true;
      made.rows_a_job = std::max(made.rows_a_job, cut.lanes_a_job);
      made.key_block = std::max(made.key_block, block);
      needs(registers * kernel::query_panel<Arch, T>::kept_elements(made.dim, made.value_dim,
                                                                    kernel::lane_softmax<Arch, T>::columns),
            std::min(block, p.k.tokens(b)) * n * std::min(index_type(shape::tile_vectors), registers),
            operand(p.k, made.dim).copies_for_read(block),
            operand(p.v, made.value_dim).copies_for_columns(block));
    }
    if (cut.row_jobs() > 0) {
      using panel = kernel::row_products<Arch, T>;
      constexpr index_type block = shape::few_rows_block;
      made.rows_form = true;
      made.rows_a_job = std::max(made.rows_a_job, cut.rows_a_job);
      made.key_block = std::max(made.key_block, block);
      needs(cut.state_a_job() + panel::work_elements(cut.rows_a_job, made.dim), 0,
            operand(p.k, panel::read_width(made.dim))
                .template copies_for_rows<kernel::scaled::by_channel>(block),
            operand(p.v, panel::read_width(made.value_dim))
                .template copies_for_rows<kernel::scaled::by_token>(block));
      made.spans = std::max(made.spans, cut.spans);
      made.states += cut.all_states();
    }
  }
  made.copies_keys = made.key_copy > 0;
  made.copies_values = made.value_copy > 0;
  made.jobs = made.batches * made.jobs_a_sequence;
  return made;
}

template <class Arch, class Problem>
plan make_plan(const Problem& p, index_type workers) noexcept {
  plan made = plan_to_attend<Arch>(p);
  if (made.queries_form) made.stages = stage_elements<Arch>(p);
  index_type tasks = made.jobs;
  if constexpr (Problem::receives) {
    plan_to_receive<Arch>(p, made);
    tasks = std::max(tasks, swept_sums(made));
  }
  share_scratch(made, made.jobs > 1 && operations(p) > worth_waking ? workers : 1, tasks);
  return made;
}

/// Adds to a plan how many blocks of a job's rows x key_block keys the mask shows whole, in part, or not at
/// all.
template <class Arch, class Problem>
void count_coverage(const Problem& p, plan& made) noexcept {
  index_type seen[3] = {0, 0, 0};
  made.shortest_span = made.keys;
  for (index_type b = 0; b < made.batches; ++b)
    for (index_type h = 0; h < made.heads; ++h) {
      const auto rules = p.rules.bind(p.at(b, h));
      const index_type queries = p.q.tokens(b), keys = p.k.tokens(b),
                       step = std::max<index_type>(1, made.rows_a_job);
      for (index_type i = 0; i < queries; i += step) {
        range span{keys, 0};
        for (index_type j = 0; j < keys; j += made.key_block) {
          const range rows{i, std::min(i + step, queries)}, block{j, std::min(j + made.key_block, keys)};
          const bool out = intersect(block, reach_of(rules.mask, rows, keys)).empty();
          const coverage covered = out ? coverage::none : cover_of(rules.mask, rows, block);
          ++seen[static_cast<int>(covered)];
          if (covered != coverage::none) span = {std::min(span.first, j), block.last};
        }
        made.shortest_span = std::min(made.shortest_span, span.size());
        made.longest_span = std::max(made.longest_span, span.size());
      }
    }
  made.hidden_blocks = seen[0], made.partial_blocks = seen[1], made.full_blocks = seen[2];
}

FOVEA_NAMESPACE_END
