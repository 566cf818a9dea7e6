// fovea/plan/receive.hpp - the second part of a call that sums what each key receives: jobs over keys, each
// of which adds all query rows in order, so that the sums are the same bits whoever runs them.
#pragma once

#include <fovea/executor/concept.hpp>
#include <fovea/kernel/receive.hpp>
#include <fovea/plan/jobs.hpp>
#include <fovea/plan/look.hpp>

FOVEA_NAMESPACE_BEGIN

/// Keys of a job. (With 128, packing the queries again for each took MEASURE.)
inline constexpr index keys_a_sum = 512;

/// Adds to a plan what the sums need.
template <class Arch, class Problem>
FOVEA_INLINE void plan_to_receive(const Problem& p, plan& made) noexcept {
  made.receives = true;
  made.rows_lse = p.wants_lse() ? 0 : made.batches * made.heads * made.queries;
  made.value_copy = std::max(made.value_copy, keys_a_sum + made.lanes);
  for (index b = 0; b < made.batches; ++b)
    if (cut_of<Arch>(p, b).queries_in_lanes() == 0) {
      made.row_logits = std::max(made.row_logits, p.logits_elements(b));
    } else {
      const plan looks = plan_of_looks<Arch>(p);
      made.kept = std::max(made.kept, looks.kept), made.logits = std::max(made.logits, looks.logits);
      made.key_copy = std::max(made.key_copy, looks.key_copy);
    }
}

/// A call with the memory that it keeps logits and LSE in; other calls, as they are.
template <class Problem>
FOVEA_INLINE const Problem& in_memory(const Problem& p, const plan&, const workspace&) noexcept {
  return p;
}
template <class Problem, class E>
FOVEA_INLINE kernel::receiving<Problem, E> in_memory(kernel::receiving<Problem, E> p, const plan& made,
                                                     const workspace& memory) noexcept {
  using T = typename Problem::compute;
  std::byte* const first = memory.shared() + made.state_bytes();
  p.logits = reinterpret_cast<T*>(first);
  p.logits_a_sequence = made.row_logits;
  T* const lse = reinterpret_cast<T*>(first + made.part_bytes(made.batches * made.row_logits));
  const index rows = made.queries;
  if (!p.wants_lse()) p.lse = {{lse, made.batches, made.heads, rows, 1, made.heads * rows, rows, 1, 1}};
  return p;
}

/// received += the sums, once the LSE of all rows is known.
template <class Arch, class Problem>
FOVEA_INLINE void receive(const Problem& p, const plan& made, executor_ref who, const workspace& memory) {
  using T = typename Problem::compute;
  static_assert(keys_a_sum % kernel::geometry<Arch>::few_rows_block == 0 &&
                keys_a_sum % kernel::geometry<Arch>::key_block == 0);
  const index parts = ceil_div(made.keys, keys_a_sum);
  who.for_each(made.jobs == 0 ? 0 : made.batches * made.kv_heads * parts, [&](index i, index worker) {
    const index b = i / parts / made.kv_heads, kv_head = i / parts % made.kv_heads;
    const index first = i % parts * keys_a_sum, queries = p.q.tokens(b);
    const range keys{first, std::min(first + keys_a_sum, p.k.tokens(b))};
    if (keys.empty() || queries == 0) return;
    const auto scratch = scratch_of<T>(made, memory, worker);
    T* const sums = scratch.values;
    std::fill_n(sums, keys_a_sum + made.lanes, T(0));
    if (cut_of<Arch>(p, b).queries_in_lanes() == 0)
      kernel::receive_rows<Arch>(p, {b, kv_head, {0, queries}, {0, p.rows(b)}}, keys, sums);
    else
      kernel::receive_queries<Arch>(p, b, kv_head, keys, rows_of_a_look<Arch, T>, scratch, sums);
    const auto to = p.received.head(b, kv_head);
    for (index j = keys.first; j < keys.last; ++j) {
      auto& sum = to(j, 0);
      sum = static_cast<std::remove_reference_t<decltype(sum)>>(sum + sums[j - keys.first]);
    }
  });
}

FOVEA_NAMESPACE_END
