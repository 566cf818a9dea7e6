// fovea/plan/receive.hpp - the part of a call that sums what each key receives: all query rows in order, so
// that sums are the same bits whoever runs the jobs.
#pragma once

#include <fovea/executor/concept.hpp>
#include <fovea/kernel/sweep/key_mass.hpp>
#include <fovea/plan/jobs.hpp>
#include <fovea/plan/logit_sweep.hpp>

FOVEA_NAMESPACE_BEGIN

/// Keys whose sums are made together.
inline constexpr index_type keys_a_sum = 512;

/// Where the query rows of a sequence all go with dim in lanes, one job attends with those of a key/value
/// head and keeps their logits until their LSE is known: K is read once. Elsewhere logits are computed again.
template <class Cut>
bool keeps_logits(const Cut& jobs) noexcept {
  return jobs.queries_in_lanes == 0;
}

/// Of all elements of sequences, see copied().
template <class E>
index_type bytes_of_copy(const sequences<const E>& x) noexcept {
  return kernel::bytes_of<E>(x.all.batch * x.all.heads * x.all.tokens * x.all.dim);
}

/// Adds to a plan what the sums need.
template <class Arch, class Problem>
void plan_to_receive(const Problem& p, plan& plan) noexcept {
  using T = typename Problem::compute;
  plan.receives = true;
  if (plan.queries_form && same_view(p.out, p.q)) plan.query_copy = bytes_of_copy(p.q);
  plan.received_lse = p.wants_lse() ? 0 : kernel::bytes_of<T>(plan.batches * plan.heads * plan.queries);
  plan.scratch.include({.values = kernel::key_sums_bytes<Arch, T>(keys_a_sum)});
  for (index_type b = 0; b < plan.batches; ++b)
    if (const auto jobs = job_list_of<Arch>(p, b); keeps_logits(jobs))
      plan.scratch.include({.logits = kernel::kept_logits_bytes<T>(jobs.queries * jobs.group, jobs.keys)});
    else
      plan.scratch.include(scratch_of_sweep<Arch>(p));
}

/// What all workers share, after the scratches: what jobs over key splits leave to be merged, and where each
/// sequence's begins there, in bytes; the LSE for what keys receive, and a copy of Q.
template <class T>
struct shared_parts {
  T* states;
  index_type* starts;
  T* received_lse;
  std::byte* query_copy;

  shared_parts(const plan& plan, const working_memory& memory) noexcept {
    kernel::memory_parts parts(memory.shared());
    states = parts.take<T>(plan.states), starts = parts.take<index_type>(plan.start_bytes());
    received_lse = parts.take<T>(plan.received_lse);
    query_copy = parts.take<std::byte>(plan.query_copy);
  }
};

/// The same sequences with elements of their own at `to`.
template <class E>
sequences<const E> copied(const sequences<const E>& from, std::byte* to, executor_ref executor) {
  auto* const first = reinterpret_cast<E*>(to);
  const auto& all = from.all;
  const index_type a_head = all.tokens * all.dim;
  sequences<const E> own = from;
  own.all = {first, all.batch, all.heads, all.tokens, all.dim, all.heads * a_head, a_head, all.dim, 1};
  executor.for_each(from.batches() * all.heads, [&](index_type i, index_type) {
    const auto source = from.head(i / all.heads, i % all.heads);
    E* const head = first + (own.head(i / all.heads, i % all.heads).data - first);
    for (index_type t = 0; t < source.rows; ++t)
      for (index_type c = 0; c < source.cols; ++c) head[t * all.dim + c] = source(t, c);
  });
  return own;
}

/// A call that sums what keys receive, with memory for the LSE, and for Q where O is Q; other calls, as they
/// are.
template <class Problem, class T>
const Problem& with_own_rows(const Problem& p, const plan&, executor_ref, const shared_parts<T>&) {
  return p;
}
template <class Problem, class E, class T>
auto with_own_rows(kernel::with_key_mass<Problem, E> p, const plan& plan, executor_ref executor,
                   const shared_parts<T>& own) {
  const index_type rows = plan.queries, a_sequence = plan.heads * rows;
  if (!p.wants_lse()) p.lse = {{own.received_lse, plan.batches, plan.heads, rows, 1, a_sequence, rows, 1, 1}};
  if (plan.query_copy > 0) p.q = copied(p.q, own.query_copy, executor);
  return p;
}

/// received += what `keys` receive, which sum(sums) adds to keys_a_sum zeros, and room for one register more.
template <class Arch, class Problem, class T, class Sum>
void add_sums(const Problem& p, index_type b, index_type kv_head, range keys, T* sums, const Sum& sum) {
  std::fill_n(sums, keys_a_sum + kernel::lanes<Arch, T>, T(0));
  sum(sums);
  const auto to = p.received.head(b, kv_head);
  for (index_type j = keys.first; j < keys.last; ++j) {
    auto& received = to(j, 0);
    using sum_of_calls = std::remove_reference_t<decltype(received)>;
    using wide = std::common_type_t<sum_of_calls, T>;
    received =
        static_cast<sum_of_calls>(static_cast<wide>(received) + static_cast<wide>(sums[j - keys.first]));
  }
}

/// What the keys of a key/value head receive, from the logits that were kept of its rows.
template <class Arch, class Problem, class T>
void receive_kept(const Problem& p, index_type b, index_type kv_head,
                  const kernel::scratch<T>& memory) noexcept {
  const index_type queries = p.q.tokens(b), all = p.k.tokens(b);
  const kernel::row_block at{b, kv_head, {0, queries}, {0, queries * p.group()}};
  for (range keys{0, 0}; keys.first < all; keys.first = keys.last) {
    keys.last = std::min(keys.first + keys_a_sum, all);
    add_sums<Arch>(p, b, kv_head, keys, memory.values,
                   [&](T* sums) { kernel::receive_rows<Arch>(p, at, keys, memory.logits, sums); });
  }
}

/// Tasks of the second sweep, keys_a_sum keys each.
inline index_type swept_sums(const plan& plan) noexcept {
  return plan.queries_form ? plan.batches * plan.kv_heads * ceil_div(plan.keys, keys_a_sum) : 0;
}

/// What all other keys receive, once the LSE of all rows is known.
template <class Arch, class Problem>
void receive_swept(const Problem& p, const plan& plan, executor_ref executor, const working_memory& memory) {
  using T = typename Problem::compute;
  static_assert(keys_a_sum % kernel::geometry<Arch>::few_rows_block == 0 &&
                keys_a_sum % kernel::geometry<Arch>::key_block == 0);
  const index_type parts = ceil_div(plan.keys, keys_a_sum);
  executor.for_each(swept_sums(plan), [&](index_type i, index_type worker) {
    const index_type b = i / parts / plan.kv_heads, kv_head = i / parts % plan.kv_heads;
    const index_type first = i % parts * keys_a_sum;
    const range keys{first, std::min(first + keys_a_sum, p.k.tokens(b))};
    if (keys.empty() || keeps_logits(job_list_of<Arch>(p, b))) return;
    const auto scratch = scratch_of<T>(plan, memory, i, worker);
    add_sums<Arch>(p, b, kv_head, keys, scratch.values, [&](T* sums) {
      kernel::receive_queries<Arch>(p, b, kv_head, keys, rows_a_sweep<Arch, T>, scratch, sums);
    });
  });
}

FOVEA_NAMESPACE_END
