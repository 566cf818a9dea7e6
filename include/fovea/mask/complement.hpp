// fovea/mask/complement.hpp - what a mask hides.
#pragma once

#include <fovea/mask/concept.hpp>

FOVEA_NAMESPACE_BEGIN

/// Visible is what the mask hides: !m. (A key_padding_mask that is true where keys are padding is
/// !boolean_mask(padding).) A causal mask inside names its diagonal to windows of the call as it does
/// outside.
template <class Mask>
struct mask_complement {
  using is_mask = void;
  static constexpr int matrices = matrices_of<Mask>;
  static constexpr bool unsure = is_unsure<Mask>;
  Mask mask;

  void each_mask(const auto& f) const noexcept { f(mask); }

  void check(const place& at) const { check_at(mask, at); }
  auto bind(const place& at) const noexcept {
    return mask_complement<decltype(bind_to(mask, at))>{bind_to(mask, at)};
  }
  auto staged(auto& block) const noexcept {
    return mask_complement<decltype(staged_of<Mask>(mask, block))>{staged_of<Mask>(mask, block)};
  }
  void each_matrix(const auto& f) const noexcept { each_matrix_of(mask, f); }
  auto visible(const auto& cells) const noexcept { return !cells.truth(visible_at(mask, cells)); }

  /// What lies outside of the mask's reach is visible: there is no reach to tell of.
  coverage cover(range rows, range keys) const noexcept {
    const coverage hidden = cover_of(mask, rows, keys);
    return hidden == coverage::full   ? coverage::none
           : hidden == coverage::none ? coverage::full
                                      : coverage::partial;
  }
};

template <class Mask>
mask_complement(Mask) -> mask_complement<Mask>;

template <mask_like Mask>
auto operator!(Mask&& mask) {
  return mask_complement<std::remove_cvref_t<Mask>>{std::forward<Mask>(mask)};
}

FOVEA_NAMESPACE_END
