// fovea/score/softcap.hpp - logits bounded smoothly.
#pragma once

#include <fovea/score/concept.hpp>

#include <cmath>

FOVEA_NAMESPACE_BEGIN

/// s -> cap * tanh(s / cap), first of all scores. (Gemma 2, arXiv:2408.00118.) A cap of 0 does nothing.
template <class T>
struct softcap {
  static constexpr score_stage stage = score_stage::softcap;
  static constexpr bool hides = false;
  T cap;

  constexpr softcap(T bound) noexcept : cap(bound) {}

  void check(const place&) const {
    if (!is_finite(static_cast<double>(cap)) || !(cap >= 0))
      reject("softcap is ", cap, ", not a finite number >= 0");
  }
  template <class Logit>
  void check_numbers() const {
    const auto used = static_cast<Logit>(cap);
    if (!is_finite(used) || (used == 0 && cap != 0))
      reject("softcap is ", cap, ", which the numbers of logits hold as ", used);
  }
  template <class V>
  V apply(const V& s, const V&, const V&) const noexcept {
    using std::tanh;
    if (cap == 0) return s;
    const V bound = number_as<V>(cap);
    return bound * tanh(s / bound);
  }
  template <class V>
  V derivative(const V& s, const V&, const V&) const noexcept {
    using std::tanh;
    if (cap == 0) return V(1);
    const V t = tanh(s / number_as<V>(cap));
    return V(1) - t * t;
  }
};

FOVEA_NAMESPACE_END
