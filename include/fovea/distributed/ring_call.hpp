// fovea/distributed/ring_call.hpp - the arguments of a call over ranks, checked on all of them together.
#pragma once

#include <fovea/check_types.hpp>
#include <fovea/distributed/agreement.hpp>
#include <fovea/distributed/key_blocks.hpp>
#include <fovea/distributed/slice_rules.hpp>
#include <fovea/distributed/trace.hpp>
#include <fovea/plan/heads.hpp>

#include <optional>
#include <vector>

FOVEA_NAMESPACE_BEGIN

/// What an object that works over ranks is told once; the same on all ranks but for `executor` and `trace`.
struct ring_attention_options {
  std::optional<double> scale = {};    // of Q K^T; 1 / sqrt(dim) without
  index_type heads = 0, kv_heads = 0;  // where the type leaves them dynamic_heads; kv_heads: 0 means heads
  executor_ref executor = {};          // who does this rank's work; must outlive the object
  token_layout layout = token_layout::contiguous;  // which tokens a rank holds: queries and keys alike
  // Above 0: results and gradients have the same bits for any number of ranks whose slices begin at multiples
  // of so many tokens. Keys then come in blocks of that size, in the order of the sequence, to all ranks at a
  // time.
  index_type reproducible_block = 0;
  // Where q, k and v are some heads of a model: the first one's number and how many query heads there are in
  // all (0: these). Masks, scores, sinks and dropout are asked about those.
  index_type first_head = 0, heads_in_all = 0;
  exchange_trace* trace = nullptr;  // where each call notes what it did, if wanted
};

namespace distributed {

/// The sizes of a call over ranks and who holds what.
struct ring_sizes {
  index_type batches = 0, heads = 0, kv_heads = 0, dim = 0, value_dim = 0;
  index_type first_head = 0, heads_in_all = 0;           // of the model whose heads these are
  std::vector<slices_of_ranks> queries = {}, keys = {};  // of each sequence

  slice_place place_of(index_type b) const noexcept {
    const auto i = static_cast<std::size_t>(b);
    return {b, batches, first_head, heads_in_all, queries[i].tokens(), keys[i].tokens()};
  }
  /// How many tokens a rank holds in the sequences before b (of all: b = batches).
  static index_type held_before(const std::vector<slices_of_ranks>& of, int rank, index_type b) noexcept {
    index_type sum = 0;
    for (index_type i = 0; i < b; ++i) sum += of[static_cast<std::size_t>(i)].held(rank);
    return sum;
  }
  index_type keys_before(int rank, index_type b) const noexcept { return held_before(keys, rank, b); }
  index_type keys_of(int rank) const noexcept { return held_before(keys, rank, batches); }
  /// Of the longest sequence.
  index_type longest_keys() const noexcept {
    index_type most = 0;
    for (const slices_of_ranks& of : keys) most = std::max(most, of.tokens());
    return most;
  }
  index_type most_keys(int ranks) const noexcept {
    index_type most = 0;
    for (int r = 0; r < ranks; ++r) most = std::max(most, keys_of(r));
    return most;
  }
};

/// What a call reads, as it lies on this rank, and its sizes.
template <class QE, class KE, class VE>
struct ring_call {
  sequences<const QE> q;
  sequences<const KE> k;
  sequences<const VE> v;
  ring_sizes sizes = {};
};

/// What a backward call reads beside them.
template <class O, class L, class G>
struct ring_results {
  sequences<O> out;
  sequences<L> lse;
  sequences<G> d_out;
  sequences<L> d_lse = {};
};

/// Whether what this rank holds fits itself, and the numbers that all ranks must have.
template <class Operands>
ring_sizes check_own_operands(const Operands& x, const ring_attention_options& options, index_type heads,
                              index_type kv_heads) {
  const auto& [q, k, v, none] = x;
  check_same("q", "sequences", q.batches(), "k", k.batches());
  check_same("k", "sequences", k.batches(), "v", v.batches());
  check_same("q", "dimensions a head", q.dim(), "k", k.dim());
  for (index_type b = 0; b < k.batches(); ++b) check_same("k", "tokens", k.tokens(b), "v", v.tokens(b));
  check_countable(q.batches(), heads, q.all.tokens, k.all.tokens, q.dim(), v.dim());
  if (options.reproducible_block < 0)
    reject("the option reproducible_block is ", options.reproducible_block, ", below 0");
  if (options.scale && !is_finite(*options.scale))
    reject("scale is ", *options.scale, ", not a finite number");
  const index_type in_all = options.heads_in_all > 0 ? options.heads_in_all : heads;
  if (options.first_head < 0 || options.first_head + heads > in_all)
    reject("the option first_head is ", options.first_head, ", but ", heads,
           " heads from there on are not among ", in_all);
  return {q.batches(), heads, kv_heads, q.dim(), v.dim(), options.first_head, in_all};
}

/// What all ranks must have alike, but for what the slices are.
template <class QE, class KE, class VE>
agreement agreement_of(const ring_sizes& sizes, const ring_attention_options& options) {
  agreement all;
  all.add("the number of sequences", sizes.batches), all.add("the number of query heads", sizes.heads);
  all.add("the number of key/value heads", sizes.kv_heads);
  all.add("the option first_head", sizes.first_head);
  all.add("the option heads_in_all (0: the query heads)", sizes.heads_in_all);
  all.add("the dimension of q and k", sizes.dim), all.add("the dimension of v", sizes.value_dim);
  all.add_name("the element of q", name_of_element<QE>());
  all.add_name("the element that k travels in", name_of_element<KE>());
  all.add_name("the element that v travels in", name_of_element<VE>());
  all.add("the option layout (1: balanced)", static_cast<index_type>(options.layout));
  all.add("the option reproducible_block", options.reproducible_block);
  all.add_real("the option scale (0: 1 / sqrt(dim))", options.scale.value_or(0));
  return all;
}

/// Who holds what: of each sequence how many queries and keys a rank has.
template <class Operands>
void gather_slices(const communicator& processes, const Operands& x, token_layout layout, ring_sizes& sizes) {
  std::vector<std::int64_t> own;
  for (index_type b = 0; b < sizes.batches; ++b) own.push_back(x.q.tokens(b)), own.push_back(x.k.tokens(b));
  const numbers_of_ranks all(processes, own);
  for (index_type b = 0; b < sizes.batches; ++b) {
    sizes.queries.emplace_back(layout, processes.ranks(), "q", [&](int r) { return all.at(r, 2 * b); });
    sizes.keys.emplace_back(layout, processes.ranks(), "k", [&](int r) { return all.at(r, 2 * b + 1); });
  }
}

/// Whether all slices begin at multiples of the block.
inline void check_blocks(const ring_sizes& sizes, int ranks, index_type block) {
  if (block == 0) return;
  const auto check = [&](const char* name, const slices_of_ranks& of) {
    for (int r = 0; r < ranks; ++r)
      for (const slice& part : of.of(r))
        if (part.count > 0 && part.first % block != 0)
          reject("reproducible_block is ", block, " but a slice of ", name, " on rank ", r,
                 " begins at token ", part.first, ", not at a multiple of it");
  };
  for (std::size_t b = 0; b < sizes.queries.size(); ++b)
    check("q", sizes.queries[b]), check("k", sizes.keys[b]);
}

}  // namespace distributed
FOVEA_NAMESPACE_END
