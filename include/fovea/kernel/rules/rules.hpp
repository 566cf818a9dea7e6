// fovea/kernel/rules/rules.hpp - what happens to a logit between Q K^T and the softmax: the scores in
// order, then the mask.
#pragma once

#include <fovea/kernel/rules/cells.hpp>
#include <fovea/mask/concept.hpp>
#include <fovea/score/concept.hpp>
#include <fovea/value_list.hpp>

#include <limits>
#include <numbers>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

template <class Mask, class... Scores>
struct rules;
template <class Mask, class Scores>
struct rules_with;
template <class Mask, class... Scores>
struct rules_with<Mask, value_list<Scores...>> {
  using type = rules<Mask, Scores...>;
};

/// The mask and the scores of a call (or, once bound, of one head of one sequence): references to what the
/// user gave, and what that is bound to.
template <class Mask, class... Scores>
struct rules {
  /// Scores act on logits in natural units. Without any, log2(e) is part of Q's scale and logits are powers
  /// of two.
  static constexpr bool natural = sizeof...(Scores) > 0;
  /// Whether a score may turn a visible cell into a hidden one: of its type, and of this call.
  static constexpr bool hide = (score_hides<Scores> || ...);
  bool may_hide() const noexcept {
    bool may = false;
    scores.each([&](const auto& s) { may = may || score_may_hide(s); });
    return may;
  }

  /// Whether anything is asked of positions.
  static constexpr bool asks = natural || !shows_all<std::remove_cvref_t<Mask>>;

  /// How many matrices are read a cell.
  static constexpr int matrices = (matrices_of<Mask> + ... + matrices_of<Scores>);

  Mask mask;
  value_list<Scores...> scores;

  void check(const place& at) const {
    check_at(mask, at);
    scores.each([&](const auto& s) { check_score_at(s, at); });
  }
  template <class T>
  void check_numbers() const {
    scores.each([&](const auto& s) { check_numbers_of<T>(s); });
  }

  auto bind(const place& at) const noexcept {
    const auto bound = [&]<class>(const auto& s) -> decltype(auto) { return bind_score(s, at); };
    using all = rules_with<decltype(bind_to(mask, at)), decltype(scores.map(bound))>;
    return typename all::type{bind_to(mask, at), scores.map(bound)};
  }

  /// The same with this mask, and with what is read from memory in a block of cells staged.
  template <class Here, class Block>
  auto staged(const Here& here, Block& block) const noexcept {
    const auto staged = [&]<class Kept>(const auto& s) -> decltype(auto) {
      return staged_of<Kept>(s, block);
    };
    using all = rules_with<decltype(staged_of<Here>(here, block)), decltype(scores.map(staged))>;
    return typename all::type{staged_of<Here>(here, block), scores.map(staged)};
  }

  /// f(rules), once: the same, where a mask or a sole score is of several kinds as what it is.
  void of_kind(const auto& f) const noexcept {
    if constexpr (requires { mask.of_kind([](const auto&) {}); })
      mask.of_kind([&](const auto& known) { scores_of_kind(known, f); });
    else
      scores_of_kind(mask, f);
  }

  /// f(matrix_view) for each matrix that is read.
  void each_matrix(const auto& f) const noexcept {
    each_matrix_of(mask, f);
    scores.each([&](const auto& s) { each_matrix_of(s, f); });
  }

  template <class V, class Cells>
  FOVEA_INLINE V score(V s, const Cells& at) const noexcept {
    scores.each([&](const auto& f) FOVEA_INLINE_LAMBDA { s = apply_score(f, s, at); });
    return s;
  }

  /// The same with its derivative: the product of the slopes of the scores from number `From` on.
  template <int From = 0, class V, class Cells>
  FOVEA_INLINE std::pair<V, V> score_and_slope(V s, const Cells& at) const noexcept {
    V slope(1);
    scores.each_numbered([&](auto i, const auto& f) FOVEA_INLINE_LAMBDA {
      if constexpr (i() >= From) slope = slope * slope_of_score(f, s, at);
      s = apply_score(f, s, at);
    });
    return {s, slope};
  }

 private:
  template <class M>
  void scores_of_kind(const M& known_mask, const auto& f) const noexcept {
    constexpr bool same_mask = std::is_same_v<M, std::remove_cvref_t<Mask>>;
    if constexpr (requires { scores.first.of_kind([](const auto&) {}); } && sizeof...(Scores) == 1)
      scores.first.of_kind([&]<class S>(const S& known) { f(rules<const M&, S>{known_mask, {known, {}}}); });
    else if constexpr (same_mask)
      f(*this);
    else
      f(rules<const M&, const Scores&...>{
          known_mask, scores.map([]<class>(const auto& s) -> decltype(auto) { return (s); })});
  }
};

template <class T>
inline constexpr T hidden = -std::numeric_limits<T>::infinity();

/// The logits of a register, scored and hidden; `covered` is what the mask said of the block around.
template <class Arch, class V, class Rules, class Cells>
FOVEA_INLINE V with_rules(const Rules& rules, coverage covered, V s, const Cells& at) noexcept {
  using T = typename V::value_type;
  s = rules.score(s, at);
  if (covered == coverage::partial) s = xsimd::select(at.truth(visible_at(rules.mask, at)), s, V(hidden<T>));
  return s;
}

}  // namespace kernel
FOVEA_NAMESPACE_END
