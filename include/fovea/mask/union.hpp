// fovea/mask/union.hpp - masks join.
#pragma once

#include <fovea/mask/concept.hpp>

#include <limits>

FOVEA_NAMESPACE_BEGIN

/// Visible is what either mask shows: a | b. Blocks that both hide are skipped, the keys between those that
/// one and those that the other shows as well. A causal mask inside names its diagonal to windows of the call
/// as it does outside.
template <class A, class B>
struct mask_union {
  using is_mask = void;
  static constexpr int matrices = matrices_of<A> + matrices_of<B>;
  static constexpr bool unsure = is_unsure<A> || is_unsure<B>;
  A a;
  B b;

  void each_mask(const auto& f) const noexcept { f(a), f(b); }

  void check(const place& at) const { check_at(a, at), check_at(b, at); }
  auto bind(const place& at) const noexcept {
    return mask_union<decltype(bind_to(a, at)), decltype(bind_to(b, at))>{bind_to(a, at), bind_to(b, at)};
  }
  auto staged(auto& block) const noexcept {
    return mask_union<decltype(staged_of<A>(a, block)), decltype(staged_of<B>(b, block))>{
        staged_of<A>(a, block), staged_of<B>(b, block)};
  }
  void each_matrix(const auto& f) const noexcept { each_matrix_of(a, f), each_matrix_of(b, f); }
  void each_operand(const auto& f) const { each_operand_of(a, f), each_operand_of(b, f); }
  auto visible(const auto& cells) const noexcept {
    const auto of_a = cells.truth(visible_at(a, cells)), of_b = cells.truth(visible_at(b, cells));
    return cells.truth(of_a | of_b);
  }

  /// Partial where each shows a part, even if these are the whole.
  coverage cover(range rows, range keys) const noexcept {
    const coverage most = covered(a, rows, keys);
    return most == coverage::full ? most : std::max(most, covered(b, rows, keys));
  }
  range reach(range rows) const noexcept {
    const range x = reach_of(a, rows, every), y = reach_of(b, rows, every);
    if (x.empty() || y.empty()) return x.empty() ? y : x;
    return {std::min(x.first, y.first), std::max(x.last, y.last)};
  }
  index_type next(range rows, index_type key) const noexcept {
    const index_type first = next_in_reach(a, rows, key);
    return first == key ? key : std::min(first, next_in_reach(b, rows, key));
  }
  range shown(range rows, range keys) const noexcept
    requires(tells_shown<std::remove_cvref_t<A>> && tells_shown<std::remove_cvref_t<B>>)
  {
    const range x = shown_of(a, rows, keys), y = shown_of(b, rows, keys);
    if (x.empty() || y.empty()) return x.empty() ? y : x;
    return {std::min(x.first, y.first), std::max(x.last, y.last)};
  }

 private:
  static constexpr index_type every = std::numeric_limits<index_type>::max();

  /// A mask is asked about keys within its reach alone: what it says of others is not promised.
  template <class M>
  static coverage covered(const M& m, range rows, range keys) noexcept {
    const range seen = intersect(keys, reach_of(m, rows, every));
    if (seen.empty()) return coverage::none;
    const coverage of_seen = cover_of(m, rows, seen);
    return of_seen == coverage::full && !(seen == keys) ? coverage::partial : of_seen;
  }
  template <class M>
  static index_type next_in_reach(const M& m, range rows, index_type key) noexcept {
    const range seen = reach_of(m, rows, every);
    const index_type first = next_of(m, rows, std::max(key, seen.first));
    return first < seen.last ? first : every;
  }
};

template <mask_like A, mask_like B>
auto operator|(A&& a, B&& b) {
  return mask_union<std::remove_cvref_t<A>, std::remove_cvref_t<B>>{std::forward<A>(a), std::forward<B>(b)};
}

FOVEA_NAMESPACE_END
