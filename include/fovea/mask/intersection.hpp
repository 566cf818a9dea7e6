// fovea/mask/intersection.hpp - masks intersect.
#pragma once

#include <fovea/mask/concept.hpp>
#include <fovea/value_list.hpp>

#include <limits>

FOVEA_NAMESPACE_BEGIN

template <class... Masks>
struct mask_intersection;
template <class List>
struct intersection_of;
template <class... Masks>
struct intersection_of<value_list<Masks...>> {
  using type = mask_intersection<Masks...>;
};

/// Visible is what each of the masks shows; with no mask at all, everything.
template <class... Masks>
struct mask_intersection {
  using is_mask = void;
  static constexpr int matrices = (0 + ... + matrices_of<Masks>);
  static constexpr bool unsure = (is_unsure<Masks> || ...);
  static constexpr bool all = sizeof...(Masks) == 0;
  static constexpr int parts = (0 + ... + parts_of<Masks>);
  value_list<Masks...> masks;

  void each_mask(const auto& f) const noexcept { masks.each(f); }

  void check(const place& at) const {
    const place named = with_diagonals(at);
    masks.each([&](const auto& m) { check_at(m, named); });
  }
  auto bind(const place& at) const noexcept {
    const place named = with_diagonals(at);
    return all_of_map([&]<class>(const auto& m) -> decltype(auto) { return bind_to(m, named); });
  }
  auto staged(auto& block) const noexcept {
    return all_of_map([&]<class Kept>(const auto& m) -> decltype(auto) { return staged_of<Kept>(m, block); });
  }
  void each_matrix(const auto& f) const noexcept {
    masks.each([&](const auto& m) { each_matrix_of(m, f); });
  }
  void of_kind(const auto& f) const noexcept
    requires(sizeof...(Masks) == 1) && requires { masks.first.of_kind(f); }
  {
    masks.first.of_kind(f);
  }
  void each_operand(const auto& f) const {
    masks.each([&](const auto& m) { each_operand_of(m, f); });
  }
  auto visible(const auto& cells) const noexcept {
    auto seen = cells.truth(true);
    masks.each([&](const auto& m) { seen = seen & cells.truth(visible_at(m, cells)); });
    return seen;
  }
  /// The intersection of f(mask) for each of them, those of intersections among them too; as value_list::map.
  auto map_parts(const auto& f) const noexcept {
    return all_of_map([&]<class Kept>(const auto& m) -> decltype(auto) {
      if constexpr (requires { m.map_parts(f); })
        return m.map_parts(f);
      else
        return f.template operator()<Kept>(m);
    });
  }
  /// Of those that say so the largest.
  key_step every() const noexcept
    requires(tells_step<Masks> || ...)
  {
    key_step by;
    masks.each([&](const auto& m) {
      if constexpr (tells_step<decltype(m)>)
        if (const key_step of_part = m.every(); of_part.step > by.step) by = of_part;
    });
    return by;
  }
  coverage cover(range rows, range keys) const noexcept {
    coverage least = coverage::full;
    masks.each([&](const auto& m) {
      if (least != coverage::none) least = std::min(least, cover_of(m, rows, keys));
    });
    return least;
  }
  range reach(range rows) const noexcept {
    constexpr index_type every = std::numeric_limits<index_type>::max();
    range seen{0, every};
    masks.each([&](const auto& m) { seen = intersect(seen, reach_of(m, rows, every)); });
    return seen;
  }
  index_type next(range rows, index_type key) const noexcept
    requires(tells_next<Masks> || ...)
  {
    masks.each([&](const auto& m) { key = next_of(m, rows, key); });
    return key;
  }
  range shown(range rows, range keys) const noexcept
    requires(tells_shown<Masks> || ...)
  {
    masks.each([&](const auto& m) { keys = shown_of(m, rows, keys); });
    return keys;
  }
  index_type row_edge(index_type row) const noexcept
    requires(tells_edges<Masks> || ...)
  {
    index_type edge = most_positions;
    masks.each([&](const auto& m) {
      if constexpr (tells_edges<decltype(m)>) edge = std::min(edge, m.row_edge(row));
    });
    return edge;
  }
  index_type key_edge(index_type key) const noexcept
    requires(tells_edges<Masks> || ...)
  {
    index_type edge = most_positions;
    masks.each([&](const auto& m) {
      if constexpr (tells_edges<decltype(m)>) edge = std::min(edge, m.key_edge(key));
    });
    return edge;
  }
  bool has_edges() const noexcept {
    return any_of([](const auto& m) { return fovea::has_edges(m); });
  }
  bool has_gaps() const noexcept {
    return any_of([](const auto& m) { return fovea::has_gaps(m); });
  }

 private:
  bool any_of(const auto& holds) const noexcept {
    bool any = false;
    masks.each([&](const auto& m) { any = any || holds(m); });
    return any;
  }
  /// The place with the diagonals that these masks name; those of a larger intersection around count first.
  place with_diagonals(place at) const noexcept {
    if (at.diagonal.name == nullptr) name_diagonals(*this, at);
    return at;
  }
  template <class F>
  auto all_of_map(const F& f) const noexcept {
    return typename intersection_of<decltype(masks.map(f))>::type{masks.map(f)};
  }
};

template <mask_like A, mask_like B>
auto operator&(A&& a, B&& b) {
  using both = mask_intersection<std::remove_cvref_t<A>, std::remove_cvref_t<B>>;
  return both{{std::forward<A>(a), {std::forward<B>(b), {}}}};
}

FOVEA_NAMESPACE_END
