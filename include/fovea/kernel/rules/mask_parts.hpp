// fovea/kernel/rules/mask_parts.hpp - the masks of an intersection, each asked for itself.
#pragma once

#include <fovea/mask/concept.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// A mask, for some rows and keys alone: not asked where it shows all of them.
template <class Mask>
struct part_within {
  using reads_cells = void;
  const Mask& mask;
  bool asked;

  auto visible(const auto& cells) const noexcept {
    return asked ? cells.truth(visible_at(mask, cells)) : cells.truth(true);
  }
  coverage cover(range rows, range keys) const noexcept {
    return asked ? cover_of(mask, rows, keys) : coverage::full;
  }
};

/// The mask for some rows and keys alone: of an intersection, without those of its masks that show all of
/// them; others as they are. (16 documents of 256 tokens, causal: 1.18 and 1.22 of 16 calls, forward and
/// backward, where the cells of the diagonal were asked about documents as well, 1.09 and 1.12 so. That
/// gradients ask for the coverage of their tiles so, too, changed nothing.)
template <class M>
decltype(auto) within(const M& m, range rows, range keys) noexcept {
  if constexpr (parts_of<M> > 1)
    return m.map_parts([&]<class>(const auto& part) -> decltype(auto) {
      using mask = std::remove_cvref_t<decltype(part)>;
      if constexpr (matrices_of<mask> > 0 || is_unsure<mask>)
        return (part);
      else
        return part_within<mask>{part, cover_of(part, rows, keys) != coverage::full};
    });
  else
    return (m);
}

}  // namespace kernel
FOVEA_NAMESPACE_END
