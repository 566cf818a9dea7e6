// fovea/distributed/spread_plan.hpp - how a call is spread over ranks: by tokens, by heads, or by both.
#pragma once

#include <fovea/distributed/head_exchange.hpp>

#include <string>

FOVEA_NAMESPACE_BEGIN

/// The sizes that a plan is made for: one sequence of so many tokens, in all.
struct spread_sizes {
  index_type heads = 1, kv_heads = 1, queries = 0, keys = 0, dim = 0, value_dim = 0;
  index_type query_bytes = 4, key_bytes = 4, value_bytes = 4, result_bytes = 4;  // an element, as it travels
};

/// P = head_ranks x ring_ranks: groups of head_ranks ranks that follow each other exchange tokens for heads;
/// then the keys travel round rings of one rank of each group. Bytes are those that a rank sends, slices
/// being even:
///   exchange   its rows of Q and O, 1 / G of them to each other member, and of K and V those of the heads
///              that the member reads
///   ring       R - 1 blocks of Lk / R keys and values of the rank's share of key/value heads
/// with G = head_ranks, R = ring_ranks. The exchange is waited for; the ring's blocks travel while others are
/// computed with.
struct spread_plan {
  int head_ranks = 1, ring_ranks = 1;
  index_type exchange_bytes = 0, ring_bytes = 0;

  index_type bytes() const noexcept { return exchange_bytes + ring_bytes; }
  std::string text() const {
    return std::to_string(head_ranks) + " ranks share heads x " + std::to_string(ring_ranks) +
           " in a ring: " + std::to_string(exchange_bytes) + " bytes for heads, " +
           std::to_string(ring_bytes) + " round the ring";
  }
};

/// The plan with so many ranks to a group of heads. Throws std::invalid_argument where the ranks are no
/// multiple of these, the heads can not be shared evenly, or there is no rank, no head or a size below 0;
/// std::length_error where its bytes are more than can be counted.
inline spread_plan plan_of_heads(int ranks, int head_ranks, const spread_sizes& s) {
  if (ranks < 1) reject("a plan is for ", ranks, " ranks, fewer than 1");
  const auto at_least = [](const char* name, index_type size, index_type least) {
    if (size < least) reject("a plan's ", name, " is ", size, ", below ", least);
  };
  at_least("heads", s.heads, 1), at_least("kv_heads", s.kv_heads, 1);
  if (s.heads % s.kv_heads != 0)
    reject(s.heads, " query heads can not share ", s.kv_heads, " key/value heads evenly");
  at_least("queries", s.queries, 0), at_least("keys", s.keys, 0);
  at_least("dim", s.dim, 0), at_least("value_dim", s.value_dim, 0);
  for (const index_type bytes : {s.query_bytes, s.key_bytes, s.value_bytes, s.result_bytes}) {
    at_least("bytes an element", bytes, 0);
    size_product("a plan (heads x tokens x dim x bytes)", s.heads, std::max(s.queries, s.keys),
                 std::max(s.dim, s.value_dim), bytes, index_type(4));
  }
  if (head_ranks < 1 || ranks % head_ranks != 0)
    reject("head_ranks is ", head_ranks, ", of which ", ranks, " ranks are no multiple");
  const distributed::head_shares shares{s.heads, s.kv_heads, head_ranks};
  if (!shares.fit())
    reject("head_ranks is ", head_ranks, ", among which ", s.heads, " query heads and ", s.kv_heads,
           " key/value heads can not be shared evenly");
  spread_plan plan{head_ranks, ranks / head_ranks};
  const index_type kv_share = shares.keys_of(0).size(), own_queries = s.queries / ranks,
                   own_keys = s.keys / ranks, others = head_ranks - 1;
  const index_type a_key = s.dim * s.key_bytes + s.value_dim * s.value_bytes;
  plan.exchange_bytes = others * (own_queries * (s.heads / head_ranks) *
                                      (s.dim * s.query_bytes + s.value_dim * s.result_bytes) +
                                  own_keys * kv_share * a_key);
  plan.ring_bytes = (plan.ring_ranks - 1) * (s.keys / plan.ring_ranks) * kv_share * a_key;
  return plan;
}

/// The plan that sends the fewest bytes; of equal ones that with more of them round the ring.
inline spread_plan plan_spread(int ranks, const spread_sizes& s) {
  spread_plan best = plan_of_heads(ranks, 1, s);
  for (int group = 2; group <= ranks; ++group) {
    if (ranks % group != 0 || !distributed::head_shares{s.heads, s.kv_heads, group}.fit()) continue;
    const spread_plan plan = plan_of_heads(ranks, group, s);
    if (plan.bytes() < best.bytes()) best = plan;
  }
  return best;
}

FOVEA_NAMESPACE_END
