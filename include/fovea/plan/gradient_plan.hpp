// fovea/plan/gradient_plan.hpp - how a backward call is cut into jobs, and how much memory they need.
#pragma once

#include <fovea/kernel/backward/gradient_problem.hpp>
#include <fovea/kernel/backward/gradient_shape.hpp>
#include <fovea/plan/make_plan.hpp>

FOVEA_NAMESPACE_BEGIN

/// How the keys of one sequence become jobs: by key/value head, by parts of its query heads, by splits of its
/// keys; as many as a few workers can share. It depends on this sequence alone, so that it gets the same bits
/// whether it comes alone or in a batch, and whoever runs the jobs. What parts add to dK and dV, and key
/// splits to dQ, lies side by side and is summed in order.
struct gradient_job_list {
  static constexpr index_type jobs_wanted = 16;

  index_type queries, keys, heads, kv_heads, superblock;

  index_type group() const noexcept { return kv_heads == 0 ? 0 : heads / kv_heads; }
  index_type parts() const noexcept {
    return std::clamp<index_type>(ceil_div(jobs_wanted, std::max<index_type>(kv_heads, 1)), 1,
                                  std::max<index_type>(group(), 1));
  }
  index_type key_splits() const noexcept {
    const index_type wanted = jobs_wanted / std::max<index_type>(kv_heads * parts(), 1);
    return std::clamp<index_type>(wanted, 1, std::max<index_type>(ceil_div(keys, superblock), 1));
  }
  index_type count() const noexcept { return kv_heads * parts() * key_splits(); }

  /// Early keys come first: under a causal mask most queries see them.
  kernel::gradient_job at(index_type b, index_type i) const noexcept {
    const index_type kv_head = i % kv_heads, part = i / kv_heads % parts(),
                     key_split = i / kv_heads / parts();
    const index_type heads_a_part = ceil_div(group(), parts());
    const index_type first = kv_head * group(), last = first + group();
    const index_type each = round_up(ceil_div(keys, key_splits()), superblock);
    return {b,
            kv_head,
            part,
            key_split,
            {std::min(first + part * heads_a_part, last), std::min(first + (part + 1) * heads_a_part, last)},
            {std::min(key_split * each, keys), std::min((key_split + 1) * each, keys)}};
  }
};

/// Where a sequence's parts of the shared memory begin, in elements.
struct gradient_starts {
  index_type terms, d_q, d_kv;
};

/// Who computes what of a backward call, with how much memory beyond the arguments: a value, which depends on
/// sizes, strides and the executor alone.
struct gradient_plan {
  using is_plan = void;

  index_type batches = 0, heads = 0, kv_heads = 0, queries = 0, keys = 0, dim = 0,
             value_dim = 0;  // tokens: the most of any sequence
  index_type lanes = 0;      // of a register
  index_type workers = 1, jobs = 0, jobs_a_sequence = 0;
  bool scratch_a_task = false;  // the executor has more workers than there are tasks
  index_type rows_a_block = 0, keys_a_group = 0, keys_a_superblock = 0;
  index_type compute_bytes = 4;
  index_type panels = 0, key_sums = 0, value_sums = 0, cells = 0;  // elements of a worker's scratch, by use
  index_type query_copy = 0, d_out_copy = 0, key_copy = 0, table = 0;
  index_type terms = 0, d_q = 0, d_kv = 0;  // elements that all workers share

  /// Tasks that the queries of a learnt table of so many queries a head make: 1 has the sum over all of them.
  index_type row_blocks_of(index_type table_queries) const noexcept {
    return table_queries == 1 ? 1 : ceil_div(queries, rows_a_block);
  }

  index_type part_bytes(index_type elements) const noexcept {
    return round_up(elements * compute_bytes, workspace_alignment);
  }
  /// Bytes of scratch memory of one worker.
  index_type scratch_bytes() const noexcept {
    index_type bytes = 0;
    for (const index_type part :
         {panels, key_sums, value_sums, cells, cells, query_copy, d_out_copy, key_copy, table})
      bytes += part_bytes(part);
    return bytes;
  }
  index_type shared_bytes() const noexcept {
    return part_bytes(terms) + part_bytes(d_q) + part_bytes(d_kv) +
           round_up(batches * heads * index_type(sizeof(double)), workspace_alignment) +
           batches * index_type(sizeof(gradient_starts));
  }
  /// Bytes of a workspace that serves the call, wherever it starts: with so many given, the call allocates
  /// nothing.
  index_type workspace_bytes() const noexcept {
    return jobs == 0 && table == 0 ? 0 : workers * scratch_bytes() + shared_bytes() + workspace_alignment - 1;
  }

  /// f(name, number, the other's) for each number that plans of calls of the same sizes have in common.
  template <class F>
  void each_number(const gradient_plan& other, const F& f) const {
    const auto both = [&](const char* name, auto gradient_plan::*number) {
      f(name, static_cast<index_type>(this->*number), static_cast<index_type>(other.*number));
    };
    using self = gradient_plan;
    both("sequences", &self::batches), both("query heads", &self::heads);
    both("key/value heads", &self::kv_heads), both("queries", &self::queries), both("keys", &self::keys);
    both("dimensions a head", &self::dim), both("columns of values a head", &self::value_dim);
    both("numbers a register", &self::lanes), both("bytes a number", &self::compute_bytes);
    both("workers", &self::workers), both("scratches a task", &self::scratch_a_task);
    both("jobs", &self::jobs), both("jobs a sequence", &self::jobs_a_sequence);
    both("queries a block", &self::rows_a_block), both("keys a group", &self::keys_a_group);
    both("keys a superblock", &self::keys_a_superblock), both("numbers in its panels", &self::panels);
    both("numbers in its sums of dK", &self::key_sums), both("numbers in its sums of dV", &self::value_sums);
    both("numbers in its cells", &self::cells), both("numbers in its copy of queries", &self::query_copy);
    both("numbers in its copy of dO", &self::d_out_copy),
        both("numbers in its copy of keys", &self::key_copy);
    both("numbers in its table of a parameter", &self::table), both("numbers in its row terms", &self::terms);
    both("numbers in its parts of dQ", &self::d_q), both("numbers in its parts of dK and dV", &self::d_kv);
  }

  /// The plan in words.
  std::string explain() const {
    const auto n = [](index_type i) { return std::to_string(i); };
    return n(jobs) + " jobs over keys, in superblocks of " + n(keys_a_superblock) + ": " + n(keys_a_group) +
           " keys in lanes x " + n(rows_a_block) +
           " queries at a time; scores are computed again from the LSE\n" +
           "partial sums: " + n(part_bytes(d_q)) + " bytes of dQ, " + n(part_bytes(d_kv)) +
           " of dK and dV\n" + n(scratch_bytes()) + " bytes of scratch a worker, " + n(workers) +
           (workers == 1 ? " worker" : " workers");
  }
};

/// Whether sums of rows can be made where the result lies: registers of its own element, side by side.
template <class Arch, class T, class E>
bool sums_in_place(const sequences<E>& x) noexcept {
  return std::is_same_v<T, E> && x.all.dim_stride == 1 && x.all.dim % kernel::lanes<Arch, T> == 0;
}

template <class Arch, class Gradients>
gradient_job_list gradient_job_list_of(const Gradients& g, index_type b) noexcept {
  const auto& p = g.forward;
  return {p.q.tokens(b), p.k.tokens(b), p.heads(), p.k.heads(),
          kernel::gradient_shape<Arch, typename Gradients::compute>::keys};
}

/// Elements of the partial sums of one sequence.
template <class Arch, class Gradients>
index_type partial_d_q(const Gradients& g, const gradient_job_list& jobs) noexcept {
  using T = typename Gradients::compute;
  if (jobs.key_splits() == 1 && sums_in_place<Arch, T>(g.d_q)) return 0;
  return jobs.heads * jobs.key_splits() * jobs.queries * round_up(g.forward.dim(), kernel::lanes<Arch, T>);
}
template <class Arch, class Gradients>
index_type partial_d_kv(const Gradients& g, const gradient_job_list& jobs) noexcept {
  constexpr index_type n = kernel::lanes<Arch, typename Gradients::compute>;
  if (jobs.parts() == 1) return 0;
  return jobs.kv_heads * jobs.parts() * jobs.keys *
         (round_up(g.forward.dim(), n) + round_up(g.forward.value_dim(), n));
}

template <class Arch, class Gradients>
gradient_plan make_gradient_plan(const Gradients& g, index_type workers) noexcept {
  using T = typename Gradients::compute;
  constexpr index_type n = kernel::lanes<Arch, T>;
  const auto& p = g.forward;
  const kernel::gradient_shape<Arch, T> shape(p.dim());
  const index_type width = round_up(p.dim(), n), value_width = round_up(p.value_dim(), n);
  gradient_plan plan{.batches = p.q.batches(),
                     .heads = p.heads(),
                     .kv_heads = p.k.heads(),
                     .queries = p.q.max_tokens(),
                     .keys = p.k.max_tokens(),
                     .dim = p.dim(),
                     .value_dim = p.value_dim(),
                     .lanes = n,
                     .rows_a_block = shape.rows,
                     .keys_a_group = shape.lanes_a_group,
                     .keys_a_superblock = shape.keys,
                     .compute_bytes = static_cast<index_type>(sizeof(T))};
  const index_type keys = std::min(shape.keys, round_up(plan.keys, shape.lanes_a_group));
  plan.panels = keys * (plan.dim + plan.value_dim);
  plan.key_sums = keys * width, plan.value_sums = keys * value_width;
  plan.cells = shape.cells();
  plan.query_copy = shape.rows * std::max(width, value_width), plan.d_out_copy = shape.rows * value_width;
  if (plan.batches > 0)
    plan.key_copy =
        kernel::operand_of<Arch>(p.k.head(0, 0), width, static_cast<T*>(nullptr)).copies_for_read(keys);
  index_type table_tasks = 0;
  p.rules.scores.each([&](const auto& score) {
    if constexpr (learning_score<decltype(score)>)
      if (const auto table = score.gradient(); table.data != nullptr) {
        plan.table = std::max(plan.table, std::min(table.queries, shape.rows) * round_up(table.keys, n));
        table_tasks = std::max(table_tasks, table.batch * table.heads * plan.row_blocks_of(table.queries));
      }
  });
  for (index_type b = 0; b < plan.batches; ++b) {
    const auto jobs = gradient_job_list_of<Arch>(g, b);
    plan.jobs_a_sequence = std::max(plan.jobs_a_sequence, jobs.count());
    plan.terms += 2 * jobs.heads * jobs.queries;
    plan.d_q += partial_d_q<Arch>(g, jobs), plan.d_kv += partial_d_kv<Arch>(g, jobs);
  }
  plan.jobs = plan.batches * plan.jobs_a_sequence;
  const index_type tasks = std::max({plan.jobs, plan.batches * plan.heads, table_tasks});
  share_scratch(plan, plan.jobs > 1 && operations(p) > worth_waking ? workers : 1, tasks);
  return plan;
}

FOVEA_NAMESPACE_END
