// fovea/mask/union.hpp - masks join.
#pragma once

#include <fovea/mask/concept.hpp>

#include <limits>

FOVEA_NAMESPACE_BEGIN

/// Visible is what either mask shows: a | b. Blocks of keys between those that one and those that the other
/// shows are skipped, and what both hide at the ends of a block. A causal mask inside names its diagonal to
/// windows of the call as it does outside.
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
    return around(reach_of(a, rows, every), reach_of(b, rows, every));
  }
  index_type next(range rows, index_type key) const noexcept {
    const index_type first = next_in_reach(a, rows, key);
    return first == key ? key : std::min(first, next_in_reach(b, rows, key));
  }
  /// What each reaches lies within the reach of both, and may be far less of it.
  range shown(range rows, range keys) const noexcept {
    return around(seen(a, rows, keys), seen(b, rows, keys));
  }

  index_type row_edge(index_type row) const noexcept
    requires(tells_edges<A> || tells_edges<B>)
  {
    return edge([&](const auto& m) { return m.row_edge(row); });
  }
  index_type key_edge(index_type key) const noexcept
    requires(tells_edges<A> || tells_edges<B>)
  {
    return edge([&](const auto& m) { return m.key_edge(key); });
  }
  bool has_edges() const noexcept { return fovea::has_edges(a) || fovea::has_edges(b); }

 private:
  static constexpr index_type every = std::numeric_limits<index_type>::max();

  static range around(range x, range y) noexcept {
    if (x.empty() || y.empty()) return x.empty() ? y : x;
    return {std::min(x.first, y.first), std::max(x.last, y.last)};
  }
  /// The nearer one of those that tell.
  index_type edge(const auto& of) const noexcept {
    index_type nearest = most_positions;
    each_mask([&](const auto& m) {
      if constexpr (tells_edges<decltype(m)>) nearest = std::min(nearest, of(m));
    });
    return nearest;
  }
  template <class M>
  static range seen(const M& m, range rows, range keys) noexcept {
    const range reached = intersect(keys, reach_of(m, rows, every));
    return reached.empty() ? range{} : shown_of(m, rows, reached);
  }

  /// What a mask says of keys within its reach, full where these are all keys.
  template <class M>
  static coverage covered(const M& m, range rows, range keys) noexcept {
    const range reached = intersect(keys, reach_of(m, rows, every));
    if (reached.empty()) return coverage::none;
    const coverage of_these = cover_of(m, rows, reached);
    return of_these == coverage::full && !(reached == keys) ? coverage::partial : of_these;
  }
  template <class M>
  static index_type next_in_reach(const M& m, range rows, index_type key) noexcept {
    const range reach = reach_of(m, rows, every);
    const index_type first = next_of(m, rows, std::max(key, reach.first));
    return first < reach.last ? first : every;
  }
};

template <mask_like A, mask_like B>
auto operator|(A&& a, B&& b) {
  return mask_union<std::remove_cvref_t<A>, std::remove_cvref_t<B>>{std::forward<A>(a), std::forward<B>(b)};
}

FOVEA_NAMESPACE_END
