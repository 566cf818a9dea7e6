// fovea/kernel/forward/row_sigmoid.hpp - sigmoids as the state of a walk with dim in lanes, which keeps
// nothing.
#pragma once

#include <fovea/kernel/forward/row_job.hpp>
#include <fovea/kernel/softmax.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Each row: P = sigmoid(S + bias); what was summed so far stays. `finite`: see absorb_rows.
template <class Arch, unit_of Units, class T>
FOVEA_NOINLINE void weigh_rows(const row_panel<Arch, T>& s, index_type keys, bool finite, T bias) noexcept {
  using V = vec<Arch, T>;
  const V least = least_exponent<Arch, T>(finite), all(bias);
  for (index_type r = 0; r < s.count(); ++r) {
    T* const logits = s.logits(r);
    for (index_type j = 0; j < keys; j += s.n)
      sigmoid_weights<Arch, T, Units>::template weight<true>(V::load_aligned(logits + j), all, least)
          .store_aligned(logits + j);
    V(T(1)).store_aligned(s.factor(r));
  }
}

/// See row_softmax.hpp, in the place of which it stands.
template <class Arch, class T>
struct row_sigmoid {
  using V = vec<Arch, T>;
  using panel = row_panel<Arch, T>;
  static constexpr bool normalises = false;
  bool natural;  // units of the logits
  T bias;        // in these

  void open(const panel&) const noexcept {}
  void absorb(const panel& s, row_key_blocks<Arch, T>& block) const noexcept {
    const bool finite = block.finite_values();
    natural ? weigh_rows<Arch, unit_of::natural>(s, block.keys.size(), finite, bias)
            : weigh_rows<Arch, unit_of::log2>(s, block.keys.size(), finite, bias);
  }
  /// Takes in the same rows' sums of other keys.
  FOVEA_NOINLINE void merge(const panel& rows, const panel& other) const noexcept {
    for (index_type r = 0; r < rows.count(); ++r)
      for (index_type i = 0; i < rows.registers.sums; ++i)
        rows.add(r, i, V(T(1)), V::load_aligned(other.sum(r, i)));
  }
  /// By which sums are multiplied in the end.
  V reciprocal(const panel&, index_type) const noexcept { return V(T(1)); }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
