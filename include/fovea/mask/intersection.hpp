// fovea/mask/intersection.hpp - masks intersect.
#pragma once

#include <fovea/mask/concept.hpp>
#include <fovea/value_list.hpp>

#include <limits>

FOVEA_NAMESPACE_BEGIN

/// Visible is what each of the masks shows; with no mask at all, everything.
template <class... Masks>
struct mask_intersection {
  using is_mask = void;
  static constexpr int matrices = (0 + ... + matrices_of<Masks>);
  static constexpr bool unsure = (is_unsure<Masks> || ...);
  value_list<Masks...> masks;

  FOVEA_INLINE void check(const place& at) const {
    masks.each([&](const auto& m) FOVEA_INLINE_LAMBDA { check_at(m, at); });
  }
  FOVEA_INLINE auto bind(const place& at) const noexcept {
    return of_list(masks.map([&](const auto& m) FOVEA_INLINE_LAMBDA { return bind_to(m, at); }));
  }
  FOVEA_INLINE auto near(auto& square) const noexcept {
    return of_list(masks.map([&](const auto& m) FOVEA_INLINE_LAMBDA { return near_of(m, square); }));
  }
  FOVEA_INLINE void each_matrix(const auto& f) const noexcept {
    masks.each([&](const auto& m) FOVEA_INLINE_LAMBDA { each_matrix_of(m, f); });
  }
  FOVEA_INLINE auto visible(const auto& cells) const noexcept {
    auto seen = cells.truth(true);
    masks.each([&](const auto& m) FOVEA_INLINE_LAMBDA { seen = seen & cells.truth(visible_at(m, cells)); });
    return seen;
  }
  FOVEA_INLINE coverage cover(range rows, range keys) const noexcept {
    coverage least = coverage::full;
    masks.each([&](const auto& m) FOVEA_INLINE_LAMBDA {
      if (least != coverage::none) least = std::min(least, cover_of(m, rows, keys));
    });
    return least;
  }
  FOVEA_INLINE range reach(range rows) const noexcept {
    constexpr index_type every = std::numeric_limits<index_type>::max();
    range seen{0, every};
    masks.each([&](const auto& m) FOVEA_INLINE_LAMBDA { seen = intersect(seen, reach_of(m, rows, every)); });
    return seen;
  }

 private:
  template <class... M>
  FOVEA_INLINE static mask_intersection<M...> of_list(const value_list<M...>& masks) noexcept {
    return {masks};
  }
};

template <mask_like A, mask_like B>
FOVEA_INLINE auto operator&(const A& a, const B& b) noexcept {
  return mask_intersection<A, B>{{a, {b, {}}}};
}

FOVEA_NAMESPACE_END
