// fovea/kernel/forward/lane_sigmoid.hpp - sigmoids as the state of a walk with queries in lanes, which keeps
// nothing.
#pragma once

#include <fovea/kernel/forward/lane_panel.hpp>
#include <fovea/kernel/softmax.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// P = sigmoid(S + bias), exactly 0 where hidden; what was summed so far stays.
template <class Arch, class T, unit_of Units, bool Hides>
FOVEA_NOINLINE void weigh_logits(logit_block<Arch, T>& s, T bias) noexcept {
  using V = vec<Arch, T>;
  const V least = least_exponent<Arch, T>(s.finite), all(bias);
  const index_type width = s.width;
  for (int w = 0; w < s.registers(); ++w) {
    s.shrink[w] = V(T(1));
    T* at = s.at(0, w);
    for (index_type j = 0; j < s.keys.size(); ++j, at += width) {
      if (j < s.seen[w])
        sigmoid_weights<Arch, T, Units>::template weight<Hides>(V::load_aligned(at), all, least)
            .store_aligned(at);
      else
        V(T(0)).store_aligned(at);
    }
  }
}

/// See lane_softmax.hpp, in the place of which it stands.
template <class Arch, class T>
struct lane_sigmoid {
  using V = vec<Arch, T>;
  using panel = query_panel<Arch, T>;
  static constexpr int columns = 0;
  static constexpr bool normalises = false;
  bool natural;  // units of the logits
  T bias;        // in these

  void open(const panel&) const noexcept {}
  void absorb(logit_block<Arch, T>& s, const panel&, auto& block) const noexcept {
    s.finite = block.finite_values(s);
    if (natural)
      s.may_hide ? weigh_logits<Arch, T, unit_of::natural, true>(s, bias)
                 : weigh_logits<Arch, T, unit_of::natural, false>(s, bias);
    else
      s.may_hide ? weigh_logits<Arch, T, unit_of::log2, true>(s, bias)
                 : weigh_logits<Arch, T, unit_of::log2, false>(s, bias);
  }
  /// Takes in the sums of other keys.
  void merge(const panel& queries, const T* other, index_type sums) const noexcept {
    for (index_type i = 0; i < sums * queries.width; ++i) queries.sums[i] += other[i];
  }
  /// By which sums are multiplied in the end.
  V reciprocal(const panel&, int) const noexcept { return V(T(1)); }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
