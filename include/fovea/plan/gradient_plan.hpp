// fovea/plan/gradient_plan.hpp - how a backward call is cut into jobs, and how much memory they need.
#pragma once

#include <fovea/kernel/backward/gradient_problem.hpp>
#include <fovea/kernel/backward/gradient_shape.hpp>
#include <fovea/plan/make_plan.hpp>
#include <fovea/plan/slot_jobs.hpp>

FOVEA_NAMESPACE_BEGIN

/// How the keys of one sequence become jobs: by key/value head, by parts of its query heads, by splits of its
/// keys; as many as a few workers can share. It depends on this sequence alone, so that it gets the same bits
/// whether it comes alone or in a batch, and whoever runs the jobs. What parts add to dK and dV, and key
/// splits to dQ, lies side by side and is summed in order.
struct gradient_job_list {
  static constexpr index_type jobs_wanted = 16;

  index_type queries, keys, heads, kv_heads, superblock;

  index_type group() const noexcept { return kv_heads == 0 ? 0 : heads / kv_heads; }
  index_type heads_a_part() const noexcept {
    const index_type wanted = ceil_div(jobs_wanted, std::max<index_type>(kv_heads, 1));
    return std::max<index_type>(ceil_div(group(), wanted), 1);
  }
  index_type parts() const noexcept { return std::max<index_type>(ceil_div(group(), heads_a_part()), 1); }
  index_type key_splits() const noexcept {
    const index_type wanted = jobs_wanted / std::max<index_type>(kv_heads * parts(), 1);
    return std::clamp<index_type>(wanted, 1, std::max<index_type>(ceil_div(keys, superblock), 1));
  }
  index_type count() const noexcept { return kv_heads * parts() * key_splits(); }

  /// Early keys come first: under a causal mask most queries see them.
  kernel::gradient_job at(index_type b, index_type i) const noexcept {
    const index_type kv_head = i % kv_heads, part = i / kv_heads % parts(),
                     key_split = i / kv_heads / parts();
    const index_type end = (kv_head + 1) * group(), first = kv_head * group() + part * heads_a_part();
    return {b,
            kv_head,
            part,
            key_split,
            {first, std::min(first + heads_a_part(), end)},
            this->key_split(key_split)};
  }
  range key_split(index_type i) const noexcept {
    const index_type each = round_up(ceil_div(keys, key_splits()), superblock);
    return {std::min(i * each, keys), std::min((i + 1) * each, keys)};
  }
};

/// Where a sequence's parts of the shared memory begin, in bytes.
struct gradient_starts {
  index_type terms, d_q, d_kv, d_parameters;
};

/// Bytes of a worker's scratch, by use: keys and values packed, sums of their gradients, P and dS; copies of
/// queries, of dO and of keys; a table of the gradients of a parameter.
struct gradient_parts {
  index_type panels = 0, key_sums = 0, value_sums = 0, cells = 0;
  index_type query_copy = 0, d_out_copy = 0, key_copy = 0, table = 0;

  index_type bytes() const noexcept {
    index_type sum = 0;
    for (const index_type part :
         {panels, key_sums, value_sums, cells, cells, query_copy, d_out_copy, key_copy, table})
      sum += kernel::part_bytes(part);
    return sum;
  }
  /// Where they lie.
  template <class T>
  std::pair<kernel::gradient_scratch<T>, T*> at(std::byte* first) const noexcept {
    kernel::memory_parts parts(first);
    const auto take = [&](index_type part) { return parts.take<T>(part); };
    kernel::gradient_scratch<T> s;
    s.panels = take(panels), s.d_k = take(key_sums), s.d_v = take(value_sums);
    s.p = take(cells), s.ds = take(cells);
    s.q_copy = take(query_copy), s.d_out_copy = take(d_out_copy), s.k_copy = take(key_copy);
    return {s, take(table)};
  }
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
  gradient_parts scratch = {};                                           // bytes of a worker's, by use
  index_type terms = 0, d_q = 0, d_kv = 0, d_parameters = 0, slots = 0;  // bytes that all workers share

  /// Tasks that the queries of a learnt table of so many queries a head make: 1 has the sum over all of them.
  index_type row_blocks_of(index_type table_queries) const noexcept {
    return table_queries == 1 ? 1 : ceil_div(queries, rows_a_block);
  }
  /// How the sum over a head's cells, for a table that is read through an index, becomes jobs: by sequences
  /// and by rows; whatever the workers.
  slot_job_list slot_jobs() const noexcept { return {batches, heads, queries, rows_a_block}; }

  /// Bytes of scratch memory of one worker.
  index_type scratch_bytes() const noexcept { return scratch.bytes(); }
  index_type shared_bytes() const noexcept {
    using kernel::part_bytes;
    return part_bytes(terms) + part_bytes(d_q) + part_bytes(d_kv) + part_bytes(d_parameters) +
           part_bytes(slots) + part_bytes(sink_bytes()) + kernel::bytes_of<gradient_starts>(batches);
  }
  /// Of what each head adds to the gradient of a sink.
  index_type sink_bytes() const noexcept { return kernel::bytes_of<double>(batches * heads); }
  /// Bytes of a workspace that serves the call, wherever it starts: with so many given, the call allocates
  /// nothing.
  index_type workspace_bytes() const noexcept {
    return jobs == 0 && scratch.table == 0 && slots == 0
               ? 0
               : workers * scratch_bytes() + shared_bytes() + workspace_alignment - 1;
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
    both("keys a superblock", &self::keys_a_superblock);
    const auto parts = [&](const char* name, index_type gradient_parts::*part) {
      f(name, scratch.*part, other.scratch.*part);
    };
    using of = gradient_parts;
    parts("bytes in its panels", &of::panels), parts("bytes in its sums of dK", &of::key_sums);
    parts("bytes in its sums of dV", &of::value_sums), parts("bytes in its cells", &of::cells);
    parts("bytes in its copy of queries", &of::query_copy);
    parts("bytes in its copy of dO", &of::d_out_copy), parts("bytes in its copy of keys", &of::key_copy);
    parts("bytes in its table of a parameter", &of::table), both("bytes in its row terms", &self::terms);
    both("bytes in its parts of dQ", &self::d_q), both("bytes in its parts of dK and dV", &self::d_kv);
    both("bytes in its sums of a scorer's parameters", &self::d_parameters);
    both("bytes in its sums of slots", &self::slots);
  }

  /// The plan in words.
  std::string explain() const {
    const auto n = [](index_type i) { return std::to_string(i); };
    return n(jobs) + " jobs over keys, in superblocks of " + n(keys_a_superblock) + ": " + n(keys_a_group) +
           " keys in lanes x " + n(rows_a_block) +
           " queries at a time, or fewer; scores are computed again from the LSE\n" +
           "partial sums: " + n(kernel::part_bytes(d_q)) + " bytes of dQ, " + n(kernel::part_bytes(d_kv)) +
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

/// Bytes of the partial sums of one sequence, and of its rows' terms.
template <class Arch, class Gradients>
index_type partial_d_q(const Gradients& g, const gradient_job_list& jobs) noexcept {
  using T = typename Gradients::compute;
  const index_type in_memory = jobs.key_splits() - sums_in_place<Arch, T>(g.d_q);
  return kernel::bytes_of<T>(jobs.heads * in_memory * jobs.queries *
                             round_up(g.forward.dim(), kernel::lanes<Arch, T>));
}
template <class Arch, class Gradients>
index_type partial_d_kv(const Gradients& g, const gradient_job_list& jobs) noexcept {
  using T = typename Gradients::compute;
  constexpr index_type n = kernel::lanes<Arch, T>;
  if (jobs.parts() == 1) return 0;
  return kernel::bytes_of<T>(jobs.kv_heads * jobs.parts() * jobs.keys *
                             (round_up(g.forward.dim(), n) + round_up(g.forward.value_dim(), n)));
}
/// Of what key splits add to the gradient of a scorer's parameters, a number a head and channel.
template <class Gradients>
index_type partial_d_parameters(const Gradients& g, const gradient_job_list& jobs) noexcept {
  if constexpr (learning_scorer<decltype(g.forward.scorer)>)
    return kernel::bytes_of<double>(jobs.heads * jobs.key_splits() * g.forward.dim());
  return 0;
}
template <class T>
index_type row_terms_bytes(const gradient_job_list& jobs) noexcept {
  return kernel::bytes_of<T>(2 * jobs.heads * jobs.queries);
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
  using kernel::bytes_of;
  plan.scratch = {.panels = bytes_of<T>(keys * (plan.dim + plan.value_dim)),
                  .key_sums = bytes_of<T>(keys * width),
                  .value_sums = bytes_of<T>(keys * value_width),
                  .cells = bytes_of<T>(shape.cells()),
                  .query_copy = bytes_of<T>(shape.rows * std::max(width, value_width)),
                  .d_out_copy = bytes_of<T>(shape.rows * value_width)};
  if (plan.batches > 0)
    plan.scratch.key_copy =
        kernel::operand_of<Arch>(p.k.head(0, 0), width, static_cast<T*>(nullptr)).bytes_for_read(keys);
  index_type table_tasks = 0;
  p.rules.scores.each([&](const auto& score) {
    if constexpr (learning_score<decltype(score)>)
      if (const auto table = score.gradient(); table.data != nullptr) {
        const index_type cells = std::min(table.queries, shape.rows) * round_up(table.keys, n);
        plan.scratch.table = std::max(plan.scratch.table, bytes_of<T>(cells));
        table_tasks = std::max(table_tasks, table.batch * table.heads * plan.row_blocks_of(table.queries));
      }
    if constexpr (row_learning_score<decltype(score)>)
      table_tasks = std::max(table_tasks, plan.batches * plan.heads * plan.row_blocks_of(plan.queries));
    if constexpr (slot_learning_score<decltype(score)>)
      if (const auto table = score.slots(); table.data != nullptr && plan.batches > 0) {
        plan.slots = std::max(plan.slots, bytes_of<double>(plan.slot_jobs().count() * table.tokens));
        table_tasks = std::max(table_tasks, plan.slot_jobs().count());
      }
  });
  for (index_type b = 0; b < plan.batches; ++b) {
    const auto jobs = gradient_job_list_of<Arch>(g, b);
    plan.jobs_a_sequence = std::max(plan.jobs_a_sequence, jobs.count());
    plan.terms += row_terms_bytes<T>(jobs);
    plan.d_q += partial_d_q<Arch>(g, jobs), plan.d_kv += partial_d_kv<Arch>(g, jobs);
    plan.d_parameters += partial_d_parameters(g, jobs);
  }
  plan.jobs = plan.batches * plan.jobs_a_sequence;
  const index_type tasks = std::max({plan.jobs, plan.batches * plan.heads, table_tasks});
  share_scratch(plan, plan.jobs > 1 && operations(p) > worth_waking ? workers : 1, tasks);
  return plan;
}

FOVEA_NAMESPACE_END
