// fovea/weights_into.hpp - the weights of chosen heads, written while O is made: a call that looks at a few
// of its heads stays the call that it was.
//
//   Matrix w(q.rows(), 2 * k.rows());                                  // Lq x Lk of head 3, then of head 6
//   Matrix o = attend(q, k, v, fovea::causal, fovea::weights_into(w, 3, 6));
//
// Such heads tell when each word of a recording is said: the weights of a speech decoder's alignment heads
// (Radford et al., "Robust speech recognition via large-scale weak supervision", arXiv:2212.04356) are
// followed from the first token to the last by dynamic time warping (Giorgino, 2009).
#pragma once

#include <fovea/plan/modifiers.hpp>
#include <fovea/plan/operands.hpp>

#include <array>

FOVEA_NAMESPACE_BEGIN

/// Made by weights_into. Heads: a list of them, or a view of one.
template <class X, class Heads>
struct weights_in {
  using is_weights = void;
  stored<X> to;
  Heads heads;
};

/// Among what follows q, k, v in attend(...), into, with_lse and with_lse_into: writes P = softmax(S) of the
/// query heads `heads` to `m`, in the order in which they are listed: after mask and sink, before dropout, as
/// attend.weights has them, and within the same bound. A masked cell is 0, and so is a row that sees no key.
///
/// `m`: Lq x (n Lk) for n heads, or a ragged one of n times as many columns as the longest sequence has keys;
/// a tensor batch x n x Lq x Lk; Lk: the tokens of k, or of a cache. In float, or in double where an element
/// of the call is double. Columns from a sequence's number of keys on, and rows of no sequence, are 0.
/// `heads`: numbers from 0 to heads - 1, none twice; or one list of them, which outlives the call.
///
/// O, LSE and their bits are those of the call without it; the weights' bits are the same for any executor.
/// Cost: logits of these heads are written as they are made, and an exponential each is taken again. Of one
/// head of eight, more time than without, on a Zen 3 with AVX2 (1024 x 1024 x 64, 1500 x 1500 x 64): 4 and 4
/// %, causal 6 and 5; 300 x 77 x 40 6 %. With AVX-512, where all else takes less, 7 and 9 %, causal 9 and 11
/// to 14; 300 x 77 x 40 11 to 14 (attend and then attend.weights_of, 1500 x 1500 x 64, 70 %); on a Zen 5 4.5
/// and 4.3 %, causal 4.9 and 5.5, 300 x 77 x 64 5.3, a query of 1,500 keys 1.6. One of 32 and a query against
/// 4,096 keys: below 1 %. No memory beyond `m`.
///
/// Throws std::invalid_argument as the call does, where a head is none of the call's or listed twice, or `m`
/// has other sizes or can not be written. weights, scores, statistics and backward do not take it.
template <class X, class... N>
  requires viewable<X> && (std::is_integral_v<N> && ...)
auto weights_into(X&& m, N... heads) noexcept {
  static_assert(sizeof...(N) > 0, "fovea: weights_into(m, heads...) names the heads: weights_into(m, 3, 6)");
  static_assert(
      outlives_call<X>,
      "fovea: weights_into writes to a view; give it a named matrix or a tensor_view, not a temporary");
  using list = std::array<index_type, sizeof...(N)>;
  return weights_in<std::remove_reference_t<X>, list>{m, list{static_cast<index_type>(heads)...}};
}
template <class X, class List>
  requires viewable<X> && (!std::is_integral_v<std::remove_cvref_t<List>>)
auto weights_into(X&& m, List&& heads) noexcept {
  static_assert(
      outlives_call<X>,
      "fovea: weights_into writes to a view; give it a named matrix or a tensor_view, not a temporary");
  using list = list_view<index_type>;
  return weights_in<std::remove_reference_t<X>, list>{m, list(std::forward<List>(heads))};
}

/// The call `p`, which also writes weights if one of `mods` says where.
template <class Problem, class... Mods>
decltype(auto) with_weights_into(const Problem& p, const Mods&... mods) {
  constexpr int wanted = (0 + ... + int(weights_like<Mods>));
  static_assert(wanted <= 1, "fovea: a call has at most one weights_into");
  if constexpr (wanted == 0) {
    return (p);
  } else {
    const auto& given = keep<is_weights_into>(mods...).first;
    static_assert(std::is_same_v<element_of<decltype(given.to)>, typename Problem::compute>,
                  "fovea: weights are float, or double where q, k or v is double");
    const list_view<index_type> heads(given.heads);
    if (heads.empty()) reject("weights_into names no head");
    for (index_type i = 0; i < heads.size(); ++i) {
      if (heads[i] < 0 || heads[i] >= p.heads())
        reject("weights_into names head ", text_of(heads, i), ", which is not one of ", p.heads());
      for (index_type j = 0; j < i; ++j)
        if (heads[i] == heads[j]) reject("weights_into names head ", heads[i], " twice");
    }
    return kernel::with_weights<Problem>{p, view_of(given.to, heads.size(), "weights"), heads};
  }
}

FOVEA_NAMESPACE_END
