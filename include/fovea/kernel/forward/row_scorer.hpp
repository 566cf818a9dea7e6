// fovea/kernel/forward/row_scorer.hpp - how logits are made of few queries and keys, dim in lanes.
#pragma once

#include <fovea/kernel/forward/row_products.hpp>
#include <fovea/roles/concept.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// A reference to a scorer and the keys of a head, in whatever pieces, elements and scales.
template <class Arch, class T>
class row_scorer_ref {
  using panels = row_panels<Arch, T>;

 public:
  template <class Scorer, class Operand>
  row_scorer_ref(const Scorer& scorer, const Operand& keys) noexcept
      : scorer_(&scorer), keys_(&keys), of_(&functions_of<Scorer, Operand>) {}

  /// The logits of all rows against a block of keys, each of which is read once. `next`: what is asked for
  /// meanwhile, beside what comes after `these`.
  void dot(const panels& all, range keys, piece_places& next, piece_places& these) const noexcept {
    of_->dot(scorer_, keys_, all, keys, next, these);
  }
  piece_places places(range keys) const noexcept { return of_->places(keys_, keys); }

 private:
  struct functions {
    void (*dot)(const void*, const void*, const panels&, range, piece_places&, piece_places&) noexcept;
    piece_places (*places)(const void*, range) noexcept;
  };
  template <class Scorer, class Operand>
  static constexpr functions functions_of{
      [](const void*, const void* operand, const panels& all, range keys, piece_places& next,
         piece_places& these) noexcept {
        each_pieces<scaled::by_channel>(*static_cast<const Operand*>(operand), keys, [&](auto& k) {
          k.prefetch(next, these);
          for (const auto& q : all) dot_pieces(q, k), k.prefetch_nothing();
        });
      },
      [](const void* operand, range keys) noexcept {
        return piece_places(static_cast<const Operand*>(operand)->all, keys);
      }};

  const void *scorer_, *keys_;
  const functions* of_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
