// fovea/mask.hpp - WHICH keys a query sees.
//
//   causal                                  k <= q, where Lq == Lk
//   causal_top_left, causal_bottom_right    k <= q, k <= q + Lk - Lq
//   causal_offset{n}                        k <= q + n
//   sliding_window{.left = l, .right = r}   q + n - l <= k <= q + n + r; -1 leaves a side open. n: as .offset
//                                           or .from say, or a causal mask of the call, or a cache; or 0
//   key_lengths{lengths}                    right padding: k < lengths[b]
//   left_padding{starts}                    left padding: k >= starts[b]
//   prefix{lengths}                         k < lengths[b] or k <= q: a prefix that all see, causal behind it
//   documents{ids}                          ids[q] == ids[k]: documents packed in one sequence
//   block_diffusion{size}                   k / size <= q / size: blocks, one after another
//   chunked{size}                           k / size == q / size
//   draft_tree{words}                       k before the drafts, an ancestor of draft q, or itself
//   global_tokens{positions, n}             q + n or k is one of them; n: as of a window, here and below
//   dilated{.step = s, .offset = n}         (q + n - k) % s == 0
//   neighbourhood<D>{.sizes, .kernel}       the nearest in a picture of D dimensions
//   big_bird{.side, .window, .global, .random, .seed}  blocks: neighbours, the first ones, some at random
//   boolean_mask(m)                         m(q, k) != 0; broadcasts to batch x heads x Lq x Lk
//   block_map(m, {.queries = r, .keys = c})  m(q / r, k / c) != 0: blocks that it hides are not walked over
//   mask(f)                                 f(q, k), any function of the positions, or f(b, h, q, k)
//   a & b, a | b                            what both show, what either shows
//   !a                                      what a hides
//
// A mask of your own is a struct with visible(q, k) (see mask/concept.hpp); cover and reach let whole blocks
// be skipped.
#pragma once

#include <fovea/mask/big_bird.hpp>
#include <fovea/mask/block_map.hpp>
#include <fovea/mask/boolean.hpp>
#include <fovea/mask/causal.hpp>
#include <fovea/mask/complement.hpp>
#include <fovea/mask/dilated.hpp>
#include <fovea/mask/documents.hpp>
#include <fovea/mask/draft_tree.hpp>
#include <fovea/mask/global_tokens.hpp>
#include <fovea/mask/intersection.hpp>
#include <fovea/mask/lengths.hpp>
#include <fovea/mask/neighbourhood.hpp>
#include <fovea/mask/predicate.hpp>
#include <fovea/mask/prefix.hpp>
#include <fovea/mask/row_intervals.hpp>
#include <fovea/mask/sliding_window.hpp>
#include <fovea/mask/union.hpp>
#include <fovea/view.hpp>

FOVEA_NAMESPACE_BEGIN

/// A mask from booleans (bool, or integers that count as true where not zero) in memory: an Eigen matrix Lq x
/// Lk, or a tensor_view whose sizes are each 1 or the full batch, heads, Lq, Lk. True keeps. Elements are
/// read during the call.
template <viewable M>
auto boolean_mask(M&& m) {
  static_assert(outlives_call<M>,
                "fovea: boolean_mask keeps a view; give it a named matrix, not a temporary");
  static_assert(
      std::is_integral_v<element_of<M>>,
      "fovea: boolean_mask is of bool or integers, true keeps; a mask of real numbers that are added "
      "to the logits, 0 and -inf, is bias(m)");
  return boolean_matrix<broadcast<const element_of<M>>>{broadcast_of(m, "boolean_mask")};
}

/// A mask from a map of blocks: key k is visible to query q where m(q / sides.queries, k / sides.keys) is
/// not zero. m: bool or integers, an Eigen matrix of blocks of queries x blocks of keys, or a tensor_view of
/// batch x heads x these; batch and heads are each 1 or the full one, blocks of queries and of keys 1
/// (repeated) or as many as hold the tokens, or more. Sides are any from 16 on, the last blocks may be cut
/// off. Query rows are those of the call, with a cache as well. The map is read during the call. Throws
/// std::invalid_argument, with both numbers, where sides are smaller or the map is.
///
/// Hidden blocks are skipped: work is cut at the edges of blocks, of 16 queries or more; backward of 32
/// queries and 48 keys. Of 8,192 tokens, 4 heads of dim 64, a tenth of the blocks visible: of 64 x 64, a call
/// takes 0.12 of the time without a mask, backward 0.145; of 128 x 128 0.115 and 0.135; of 16 x 16 0.29 and
/// 0.31. A query over 32,768 keys of dim 128, blocks of 64: 0.08.
template <viewable M>
auto block_map(M&& m, block_sides sides) {
  static_assert(outlives_call<M>, "fovea: block_map keeps a view; give it a named matrix, not a temporary");
  static_assert(std::is_integral_v<element_of<M>>,
                "fovea: block_map is of bool or integers, a block each, true keeps");
  return block_map_mask<broadcast<const element_of<M>>>{broadcast_of(m, "block_map"), sides};
}

FOVEA_NAMESPACE_END
