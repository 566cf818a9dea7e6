// fovea/kv_cache/shared_prefix.hpp - many sequences that begin with the same tokens read those once (cascade
// inference: Ye et al., FlashInfer, arXiv:2501.01005; Hydragen, arXiv:2402.05099).
#pragma once

#include <fovea/attention.hpp>
#include <fovea/kv_cache/cached.hpp>

#include <array>

FOVEA_NAMESPACE_BEGIN
namespace caching {

/// Some tokens of a cache.
template <class Cache>
struct part_of {
  const Cache& cache;
  range tokens;
  auto keys() const noexcept { return cached<Cache, side::keys>{nullptr, &cache, 1, tokens}; }
  auto values() const noexcept { return cached<Cache, side::values>{nullptr, &cache, 1, tokens}; }
};

}  // namespace caching

/// attend(q, batch, causal), where the first `prefix` tokens of all caches are the same (of forks, the same
/// pages): those are read from the first cache, once for the queries of all sequences, then each sequence's
/// own; the two results are merged. The same as the plain call up to rounding, for about
/// (prefix + sum of the rest) / (sum of all tokens) of its time where reading is the limit.
///
/// q: the newest tokens of each sequence, packed in the rows of a matrix, without lengths; none of them lies
/// in the prefix.
/// Throws std::invalid_argument where a sequence has fewer tokens than that.
template <class T, int Heads, int KVHeads, class Arch, class M, class Cache>
auto attend_shared_prefix(const attention<T, Heads, KVHeads, Arch>& attend, const ragged<M>& q,
                          const cache_batch<Cache>& batch, index_type prefix) {
  if (q.lengths)
    reject("q has ", q.lengths.size(),
           " lengths, but attend_shared_prefix reads all rows of its sequences as "
           "those of one: offsets alone say where they lie");
  if (q.offsets.size() != batch.size() + 1)
    reject("q has ", q.offsets.size() - 1, " sequences but the batch has ", batch.size());
  for (index_type b = 0; b < batch.size(); ++b) {
    const index_type own = q.offsets[b + 1] - q.offsets[b];
    if (prefix < 0 || batch.tokens(b) - own < prefix)
      reject("the prefix is ", prefix, " tokens, but cache ", b, " has ", batch.tokens(b), " with the ", own,
             " that ask");
  }
  auto all = attend.with_lse(q, batch.after(prefix), causal);
  if (prefix > 0 && batch.size() > 0) {
    const std::array<index_type, 2> together{q.offsets[0], q.offsets[batch.size()]};
    const caching::part_of<Cache> first{batch[0], {batch.skipped(), batch.skipped() + prefix}};
    merge_into(all, attend.with_lse(ragged<M>{q.tokens, together}, first));
  }
  return all.out;
}

FOVEA_NAMESPACE_END
