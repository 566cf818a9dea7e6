// fovea/score/concept.hpp - what a score function answers.
#pragma once

#include <fovea/index.hpp>

#include <type_traits>

FOVEA_NAMESPACE_BEGIN

/// When a score acts: softcap before everything else, then the others in the order they are listed.
enum class score_stage { softcap, bias };

/// A score changes the logit s = scale * q.k of a cell. It has `stage` and one of
///   apply(s, q, k) const       q and k are the positions, as numbers of the type of s; all are scalars or
///   SIMD batches apply(s, cells) const      cells.load(matrix_view) gives the elements at the cells in
///   question
/// and may have
///   check(place) const         throws std::invalid_argument where it does not fit a sequence
///   bind(place) const          the score of one head of one sequence (by default the score itself)
///   near(square) const         the score with its elements in a square of cells copied:
///   square.copy(matrix_view);
///                             `matrices` says how many it copies (static constexpr int), each_matrix(f)
///                             calls f with each
///   hides                      static constexpr bool: whether it can make s -inf, which hides the cell
///   (default true)
template <class S>
concept score_like = requires {
  { std::remove_cvref_t<S>::stage } -> std::convertible_to<score_stage>;
};

template <class S>
FOVEA_INLINE void check_score_at(const S& score, const place& at) {
  if constexpr (requires { score.check(at); }) score.check(at);
}

template <class S>
FOVEA_INLINE auto bind_score(const S& score, const place& at) noexcept {
  if constexpr (requires { score.bind(at); })
    return score.bind(at);
  else
    return score;
}

template <class S, class V, class Cells>
FOVEA_INLINE V apply_score(const S& score, const V& s, const Cells& cells) noexcept {
  if constexpr (requires { score.apply(s, cells.row(), cells.col()); })
    return score.apply(s, cells.row(), cells.col());
  else
    return score.apply(s, cells);
}

template <class S>
inline constexpr bool score_hides = true;
template <class S>
  requires requires { S::hides; }
inline constexpr bool score_hides<S> = S::hides;

/// A sink is a logit a head that takes part in the softmax and has no value: it has logit(head).
template <class S>
concept sink_like = requires(const std::remove_cvref_t<S>& s, index head) { s.logit(head); };

FOVEA_NAMESPACE_END
