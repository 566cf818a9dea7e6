// fovea/roles/concept.hpp - what one plugs into the walk over keys: a scorer, a state, a mixer of one's own.
//
// Attention walks blocks of keys for a block of queries, and asks in this order
//   a scorer           for logits             s_ij = scale * q_i . k_j
//   scores and masks   as always              s_ij = score(s_ij), hidden: -inf
//   a state            for what a row stores  m_i = max_j s_ij, l_i = sum_j exp(s_ij - m_i)
//   a mixer            for what weights sum   o_i = sum_j p_ij v_j, p_ij = exp(s_ij - m_i) / l_i
// Each of the three may be a type of one's own. Its functions are templates over V, which is a number or a
// SIMD batch of them: they are written once, with operators and functions that both have. They do not throw,
// keep nothing, and are called from several threads at once.
#pragma once

#include <fovea/index.hpp>

#include <concepts>
#include <type_traits>

FOVEA_NAMESPACE_BEGIN

/// a where `which` is true, else b: for a bool and numbers, and for SIMD batches of them.
template <class Truth, class V>
V choose(const Truth& which, const V& a, const V& b) noexcept {
  if constexpr (std::is_same_v<Truth, bool>)
    return which ? a : b;
  else
    return select(which, a, b);
}

/// A scorer makes a logit of a query and a key, channel by channel, and replaces scale * q . k:
///   attend(q, k, v, scorer, mods...), among the modifiers, in any order.
/// It has
///   using is_scorer = void;
///   V add(V sum, V q, V k) const        the sum, which starts at 0, after one more channel: (q_c, k_c), c
///                                       from 0 to dim - 1
/// and may have
///   V logit(V sum) const                the logit, in natural units: scores and masks follow; without it
///                                       the sum
///   bind(place) const                   the scorer of one head of one sequence
///   check(place) const                  throws std::invalid_argument where it does not fit a sequence
///   parameter(c) const                  once bound: a number w_c a channel, which then is add's last
///                                       argument, add(sum, q, k, w)
///   channels() const                    how many of these it has: q's dim, or the call is refused
///   chosen(f) const                     once bound, in place of add and logit: calls f with the scorer that
///                                       it is for this head and sequence, one of several types, each of
///                                       which is compiled
///   chosen(place, f) const              before it is bound, beside that: the same for all heads of a
///                                       sequence, with a scorer to bind
/// The option .scale, which is of q . k, is refused beside a scorer. Cost: Lq Lk d calls of add a head, less
/// what masks hide in whole blocks.
/// backward takes it where V may be a dual number (score/dual.hpp: operators, abs, exp, log, sqrt, tanh, min,
/// max, select) and add adds: add(sum, q, k, w) = sum + f(q, k, w). For that a scorer may have
///   slopes(V q, V k, V w) const         {df / dq, df / dk, df / dw}, in place of dual numbers; no w and no
///                                       third one without parameters
///   set_gradient(head, c, double) const takes dL / dw_c of a head, of all sequences: called by backward once
///                                       for each, in order, on the calling thread, with the same bits for
///                                       any number of workers
/// Cost: 2 Lq Lk d calls of add with numbers (1 without logit), and 2 with dual ones (3 where parameters
/// learn), or 1 of slopes.
template <class S>
concept scorer_like = requires { typename std::remove_cvref_t<S>::is_scorer; };

/// The scorer of one head of one sequence: what it binds, or itself.
template <class S>
decltype(auto) bind_scorer(const S& scorer, const place& at) noexcept {
  if constexpr (requires { scorer.bind(at); })
    return scorer.bind(at);
  else
    return (scorer);
}

/// f(scorer), or f(what it chooses to be); of a bound one, and of one that is not.
template <class S, class F>
void with_chosen(const S& scorer, const F& f) noexcept {
  if constexpr (requires { scorer.chosen(f); })
    scorer.chosen(f);
  else
    f(scorer);
}

template <class S, class F>
void with_chosen(const S& scorer, const place& at, const F& f) noexcept {
  if constexpr (requires { scorer.chosen(at, f); })
    scorer.chosen(at, f);
  else
    f(scorer);
}

/// Whether parameters of a scorer learn, as the call gives it.
template <class S>
concept learning_scorer =
    requires(const std::remove_cvref_t<S>& s) { s.set_gradient(index_type(0), index_type(0), 0.0); };

/// Whether a scorer, as bound, has a parameter a channel.
template <class S>
concept scorer_with_parameters = requires(const S& s) { s.parameter(index_type(0)); };

/// The parameter of a channel as a V, or nothing where a scorer has none.
struct no_parameter {};
template <class V, class S>
auto parameter_of(const S& scorer, index_type c) noexcept {
  if constexpr (scorer_with_parameters<S>)
    return number_as<V>(scorer.parameter(c));
  else
    return no_parameter{};
}

template <class S, class V, class W>
V add_channel(const S& scorer, const V& sum, const V& q, const V& k, const W& w) noexcept {
  if constexpr (std::is_same_v<W, no_parameter>)
    return scorer.add(sum, q, k);
  else
    return scorer.add(sum, q, k, w);
}

template <class S, class V>
V logit_of(const S& scorer, const V& sum) noexcept {
  if constexpr (requires { scorer.logit(sum); })
    return scorer.logit(sum);
  else
    return sum;
}

/// The library's own: q . k, scale being part of q.
struct dot_product {
  using is_scorer = void;
};

/// A state is a fold over the visible logits of a row, in the order of the keys: attend.sweep(state, q, k,
/// mods...). It has
///   static constexpr int columns        numbers that a row stores, stored[0] to stored[columns - 1]
///   void clear(V* stored) const         of no key
///   void absorb(V* stored, V logit, V key) const
///                                       takes in a key: its logit in natural units, its position as a number
///                                       (exact up to 2^24 in float). Hidden logits are -inf, or not shown at
///                                       all: absorbing -inf changes nothing
///   void merge(V* stored, const V* other) const
///                                       takes in what was stored of other keys, V being a number. Lanes may
///                                       be rows or keys: in either form results are those of a fold in any
///                                       grouping
/// and may have
///   bind(place) const                   the state of one head of one sequence, of as many columns; a type
///                                       with absorb() only in what it binds says so by
///                                       `using is_state = void;`
///   using reads_cells = void            absorb(stored, logit, cells) in place of a key: cells.q() and
///                                       cells.k() are where query and key stand, as integers of the width
///                                       of V, exact however many (hard/pick.hpp has such a state)
template <class S>
concept state_like =
    requires {
      { std::remove_cvref_t<S>::columns } -> std::convertible_to<int>;
    } &&
    (
        requires { typename std::remove_cvref_t<S>::is_state; } ||
        requires(const std::remove_cvref_t<S>& s, float* stored, const float* other) {
          s.clear(stored);
          s.absorb(stored, 0.f, 0.f);
          s.merge(stored, other);
        });

/// The state of one head of one sequence: what it binds, or itself.
template <class S>
decltype(auto) bind_state(const S& state, const place& at) noexcept {
  if constexpr (requires { state.bind(at); })
    return state.bind(at);
  else
    return (state);
}

/// Whether a state, as bound, is told the cells of its logits.
template <class S>
concept reads_cells_state = requires { typename std::remove_cvref_t<S>::reads_cells; };

/// A mixer sums the softmax's weights with something that is no stored value: attend.mix(mixer, q, k,
/// mods...). It has
///   static constexpr int columns        of the result
///   V add(V sum, V weight, V key, int column) const
///                                       the sum of a column after one more key: linear in sum and weight, as
///                                       sums shrink when a larger logit comes, and are divided by the sum of
///                                       all weights in the end
template <class M>
concept mixer_like = requires(const std::remove_cvref_t<M>& m) {
  { std::remove_cvref_t<M>::columns } -> std::convertible_to<int>;
  m.add(0.f, 0.f, 0.f, 0);
};

FOVEA_NAMESPACE_END
