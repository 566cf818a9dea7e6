// fovea/received.hpp - the attention that each key receives: what caches decide by which tokens to let go of.
//
//   received_jg += sum_(i, h) P_hij,   the query heads h of the group of key/value head g, all query rows i
//
// The sums over the tokens of a text say which keys are heavy hitters; a cache that keeps these and the
// newest tokens serves a long text in little memory (Zhang et al., "H2O: Heavy-Hitter Oracle",
// arXiv:2306.14048):
//
//   Eigen::MatrixXf received = Eigen::MatrixXf::Zero(cache.capacity(), kv_heads);
//   for (;;) {                                                        // a prompt, then token by token
//     cache.append(k, v, table.angles());
//     attend.into(o, q, cache, fovea::causal, fovea::add_received(received));
//     if (cache.tokens() > budget) {
//       const std::vector<int> kept = heaviest_and_newest(received.rowwise().sum(), cache.tokens());
//       cache.keep(kept);                                             // ascending
//       for (std::size_t i = 0; i < kept.size(); ++i) received.row(i) = received.row(kept[i]);
//       received.bottomRows(received.rows() - cache.tokens()).setZero();
//     }
//   }
#pragma once

#include <fovea/plan/modifiers.hpp>
#include <fovea/plan/operands.hpp>

FOVEA_NAMESPACE_BEGIN

/// Made by add_received(sums).
template <class X>
struct received_in {
  using is_received = void;
  stored<X> sums;
};

/// Among what follows q, k, v in attend(...), into, with_lse and with_lse_into: adds to `sums` what each key
/// receives. P are the probabilities as attend.weights gives them: after mask and sink, before dropout. A row
/// that sees no key and a masked cell add nothing; a row with a NaN makes the sums of the keys it sees NaN.
///
/// `sums`: float or double, one column a key/value head and one row a key: a matrix tokens x kv_heads, a
/// ragged one, or a tensor with dim 1. It may have more tokens than there are keys (as many as a cache has
/// room for): the others are left alone. The numbers of one call are summed in float, or in double where an
/// element is double, in an order that depends on the sequence alone.
///
/// Cost: where query rows are few (decoding), K is read once, and the logits of a key/value head's rows are
/// kept until their LSE is known: memory O(Lk), 5 % more time for 32/8 heads x 4096 x 128; a job is then a
/// key/value head, however long, so that threads share no head. For more queries Q K^T is computed a second
/// time once the LSE are known: memory O(Lq), 60 % more time for 1x8x1024x64, causal or not.
///
/// Throws std::invalid_argument as the call does, where `sums` has other heads or sequences, fewer tokens
/// than k, or can not be written. weights, scores, statistics and backward do not take it.
template <class X>
  requires viewable<X>
received_in<std::remove_reference_t<X>> add_received(X&& sums) noexcept {
  static_assert(std::is_floating_point_v<element_of<X>>, "fovea: what keys receive is float or double");
  static_assert(
      outlives_call<X>,
      "fovea: add_received writes to a view; give it a named matrix or a tensor_view, not a temporary");
  return {sums};
}

/// The one among them that is received_like.
template <class M, class... Rest>
const auto& the_received(const M& m, const Rest&... rest) noexcept {
  if constexpr (received_like<M>)
    return m;
  else
    return the_received(rest...);
}

/// The call `p`, which also sums what keys receive if one of `mods` says where.
template <class Problem, class... Mods>
auto with_received(const Problem& p, const Mods&... mods) {
  constexpr int wanted = (0 + ... + int(received_like<Mods>));
  static_assert(wanted <= 1, "fovea: a call has at most one add_received");
  if constexpr (wanted == 0) {
    return p;
  } else {
    auto& sums = the_received(mods...).sums;
    const auto to = view_of(sums, p.k.heads(), "received");
    check_same("received", "sequences", to.batches(), "k", p.k.batches());
    for (index_type b = 0; b < to.batches(); ++b)
      if (to.tokens(b) < p.k.tokens(b))
        reject("received has ", to.tokens(b), " tokens, fewer than the ", p.k.tokens(b), " of k");
    if (to.dim() != 1) reject("received has ", to.dim(), " columns a head, not 1");
    check_writable("received", to.all);
    return kernel::with_key_mass<Problem, element_of<decltype(sums)>>{p, to};
  }
}

FOVEA_NAMESPACE_END
