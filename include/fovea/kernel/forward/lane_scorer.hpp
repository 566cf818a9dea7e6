// fovea/kernel/forward/lane_scorer.hpp - how logits are made with queries in lanes, asked through a pointer once a
// block of keys.
#pragma once

#include <fovea/kernel/forward/lane_products.hpp>
#include <fovea/kernel/operand/prefetch.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// How a panel's logits are made of Q^T, [dim][width], and keys. By default S = Q K^T, scale being part of Q.
template <class Arch, class T>
class scorer_ref {
 public:
  scorer_ref() noexcept
      : scorer_(nullptr),
        dot_([](const void*, const T* q, index_type dim, const rows_of<T>& k, logit_block<Arch, T>& s,
                bool wants_largest, prefetch& soon) noexcept {
          in_registers<Arch>(s.registers(),
                             [&](auto w) { dot_keys<Arch, w()>(q, dim, k, s, wants_largest, soon); });
        }) {}

  /// Fills s.s and, where wanted, s.largest.
  void dot(const T* q, index_type dim, const rows_of<T>& k, logit_block<Arch, T>& s, bool wants_largest,
           prefetch& soon) const noexcept {
    dot_(scorer_, q, dim, k, s, wants_largest, soon);
  }

 private:
  const void* scorer_;
  void (*dot_)(const void*, const T*, index_type, const rows_of<T>&, logit_block<Arch, T>&, bool,
               prefetch&) noexcept;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
