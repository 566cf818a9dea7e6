// fovea/score/concept.hpp - what a score function answers.
#pragma once

#include <fovea/score/dual.hpp>

FOVEA_NAMESPACE_BEGIN

/// When a score acts: softcap before everything else, then the others in the order they are listed.
enum class score_stage { softcap, bias };

/// A score changes the logit s = scale * q.k of a cell. It has `stage` and one of
///   apply(s, q, k) const        q and k are the positions, as numbers of the type of s; all are scalars or
///                               SIMD batches
///   apply(s, cells) const       cells.load(matrix_view) gives the elements at the cells in question; as in a
///                               mask, a view with a stride of 0 repeats a number a token
/// and may have
///   check(place) const          throws std::invalid_argument where it does not fit a sequence
///   check_numbers<T>() const    throws it where a parameter is not a number of T, in which logits are made
///   bind(place) const           the score of one head of one sequence (by default the score itself, which is
///                               referred to, never copied)
///   staged(block) const         the score with its elements in a block of cells copied, each matrix by
///                               block.copy(matrix_view). `matrices` says how many it copies (static
///                               constexpr int), each_matrix(f) calls f with each.
///   derivative(s, q, k) const   d apply / d s, for gradients, also of (s, cells); without it, apply is
///                               called with a dual number (score/dual.hpp)
///   hides                       static constexpr bool: whether it can make s -inf, which hides the cell
///                               (default true); may_hide() const: the same, of one that is of several kinds
///   of_kind(f) const            f(score), once: the same as what it is, of one that is of several kinds, in
///                               a type that is compiled: its blocks are then asked in a loop of their own
///   each_operand(f) const       f(name, view or list) for what it reads of the user's: where a result shares
///                               memory with that, the call is refused
/// Nothing is asked about positions outside of the score matrix; none of these but the checks throws (that
/// ends the program), and several threads may ask at once.
template <class S>
concept score_like = requires {
  { std::remove_cvref_t<S>::stage } -> std::convertible_to<score_stage>;
};

template <class S>
void check_score_at(const S& score, const place& at) {
  if constexpr (requires { score.check(at); }) score.check(at);
}

template <class T, class S>
void check_numbers_of(const S& score) {
  if constexpr (requires { score.template check_numbers<T>(); }) score.template check_numbers<T>();
}

template <class S>
decltype(auto) bind_score(const S& score, const place& at) noexcept {
  if constexpr (requires { score.bind(at); })
    return score.bind(at);
  else
    return (score);
}

template <class S, class V, class Cells>
V apply_score(const S& score, const V& s, const Cells& cells) noexcept {
  if constexpr (requires { score.apply(s, cells.row(), cells.col()); })
    return score.apply(s, cells.row(), cells.col());
  else
    return score.apply(s, cells);
}

/// The slope of a score at s: d apply / d s.
template <class S, class V, class Cells>
V slope_of_score(const S& score, const V& s, const Cells& cells) noexcept {
  if constexpr (requires { score.derivative(s, cells.row(), cells.col()); }) {
    return score.derivative(s, cells.row(), cells.col());
  } else if constexpr (requires { score.derivative(s, cells); }) {
    return score.derivative(s, cells);
  } else {
    const dual<V> x(s, V(1));
    static_assert(
        requires { score.apply(x, dual<V>(cells.row()), dual<V>(cells.col())); },
        "fovea: gradients need derivative(s, q, k) of a score that takes no dual numbers");
    return dual<V>(score.apply(x, dual<V>(cells.row()), dual<V>(cells.col()))).slope;
  }
}

/// Where the gradient of a score's parameters goes: batch x heads x queries x keys, each size 1 (summed over)
/// or the full one. No data: it is not wanted.
template <class E>
struct parameter_gradient {
  E* data = nullptr;
  index_type batch = 1, heads = 1, queries = 1, keys = 1;
  index_type batch_stride = 0, head_stride = 0, query_stride = 0, key_stride = 0;
};

/// A score with parameters to learn has gradient() -> parameter_gradient and, once bound, may have
///   parameter_slope(s, q, k) const      d apply / d parameter; 1 without it
template <class S>
concept learning_score = requires(const std::remove_cvref_t<S>& s) { s.gradient().data; };

/// What bound scores that add a number have in common.
struct added_number {
  static constexpr score_stage stage = score_stage::bias;
  static constexpr bool hides = false;
  template <class V>
  V derivative(const V&, const auto&) const noexcept {
    return V(1);
  }
};

/// What errors call the gradient of its parameters.
template <class S>
inline constexpr const char* gradient_name = "the gradient of a score";
template <class S>
  requires requires { S::gradient_name; }
inline constexpr const char* gradient_name<S> = S::gradient_name;

template <class S, class V, class Cells>
V slope_of_parameter(const S& score, const V& s, const Cells& cells) noexcept {
  if constexpr (requires { score.parameter_slope(s, cells.row(), cells.col()); })
    return score.parameter_slope(s, cells.row(), cells.col());
  else
    return V(1);
}

/// One head's numbers of a table: slot i is up[i] and down[-i]. A register more of numbers lies on each side,
/// whatever they are.
template <class E>
struct slot_list {
  const E *up = nullptr, *down = nullptr;
  index_type slots = 0;

  constexpr bool holds(index_type slot) const noexcept { return slot >= 0 && slot < slots; }
};

/// Numbers by the difference d = k - q - offset: up[d] and down[-d]. Beyond `reach` they are the last ones,
/// which lie there `differences` times more.
template <class E>
struct difference_list {
  const E *up = nullptr, *down = nullptr;
  index_type reach = 0, offset = 0;
};
inline constexpr index_type differences = 64;

/// A score that learns a table through an index has slots(), a tensor_view of slots x heads (or x 1, for all)
/// where a backward call writes their gradient (no data: it is not wanted), and, once bound,
///   slot(cells) const      the slot of each lane, as positions are: its number is added there. Other numbers
///                          than those of slots stand for none.
template <class S>
concept slot_learning_score = requires(const std::remove_cvref_t<S>& s) { s.slots().data; };

/// A score of numbers of each query row has row_sums(), a tensor_view of batch x heads x queries x columns of
/// the numbers that logits are made in, rows one after another, where a backward call writes their gradient
/// (no data: it is not wanted), and, once bound,
///   add_to_row(cells, ds, row) const      adds dS of a register of keys to those of its query
/// and may have
///   sums_heads                            static constexpr bool: whether it sums numbers of a head as well:
///                                         its rows then come in order, those of all sequences
template <class S>
concept row_learning_score = requires(const std::remove_cvref_t<S>& s) { s.row_sums().data; };

/// Whether the gradient of a score's parameters is wanted.
template <class S>
bool wants_gradient(const S& score) noexcept {
  bool wanted = false;
  if constexpr (learning_score<S>) wanted = wanted || score.gradient().data != nullptr;
  if constexpr (slot_learning_score<S>) wanted = wanted || score.slots().data != nullptr;
  if constexpr (row_learning_score<S>) wanted = wanted || score.row_sums().data != nullptr;
  return wanted;
}

template <class S>
inline constexpr bool score_sums_heads = false;
template <class S>
  requires requires { std::remove_cvref_t<S>::sums_heads; }
inline constexpr bool score_sums_heads<S> = std::remove_cvref_t<S>::sums_heads;

template <class S>
inline constexpr bool score_hides = true;
template <class S>
  requires requires { std::remove_cvref_t<S>::hides; }
inline constexpr bool score_hides<S> = std::remove_cvref_t<S>::hides;

template <class S>
constexpr bool score_may_hide(const S& score) noexcept {
  if constexpr (requires { score.may_hide(); })
    return score.may_hide();
  else
    return score_hides<S>;
}

/// A sink is a logit a head that takes part in the softmax and has no value: it has logit(head), and may have
/// set_gradient(head, double) const.
template <class S>
concept sink_like = requires(const std::remove_cvref_t<S>& s, index_type head) { s.logit(head); } &&
                    !requires { typename std::remove_cvref_t<S>::is_scorer; };  // it has a logit() too

/// Whether a call's sink takes part: of a type that stands for none as well, as its absent() says.
template <class S>
constexpr bool has_sink(const S& sink) noexcept {
  if constexpr (requires { sink.absent(); })
    return !sink.absent();
  else
    return sink_like<S>;
}

/// Dropout acts on the weights after the softmax: it has bind(place), which has kept(cells), a truth value,
/// and scale, by which what is kept is multiplied; or factor(cells), the number that a weight is multiplied
/// by in their place.
template <class D>
concept dropout_like = requires { requires std::remove_cvref_t<D>::drops; };

/// Whether a dropout, bound or not, drops anything in this call: one that may not has active(), which says.
template <class D>
constexpr bool is_active(const D& dropout) noexcept {
  if constexpr (requires { dropout.active(); })
    return dropout.active();
  else
    return D::drops;
}

FOVEA_NAMESPACE_END
