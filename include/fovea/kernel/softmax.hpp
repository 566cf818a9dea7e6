// fovea/kernel/softmax.hpp - how logits become weights: by the running state of an online softmax, a maximum
// and a sum a row; or by sigmoids, without one.
//
// Milakov & Gimelshein, arXiv:1805.02867; Rabe & Staats, arXiv:2112.05682. For rows seen block by block,
//   m' = max(m, max s)      P = exp(s - m')      l' = l * exp(m - m') + sum P      O' = O * exp(m - m') + P V
// The state of no key is (m, l) = (-inf, 0), with O = 0: the neutral element.
#pragma once

#include <fovea/kernel/arch.hpp>
#include <fovea/kernel/rules/rules.hpp>
#include <fovea/kernel/tile/sigmoid.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Logits in natural units, or times log2(e).
enum class unit_of { natural, log2 };

/// A register of rows: maximum and sum, in whichever units.
template <class Arch, class T>
struct softmax_sums {
  using V = vec<Arch, T>;
  V m, l;

  static softmax_sums empty() noexcept { return {V(hidden<T>), V(T(0))}; }

  /// Takes in the sum of a block's probabilities. One rounding, whatever the compiler would contract.
  FOVEA_INLINE void add(const V& shrink, const V& sum) noexcept { l = isa<Arch>::fma(l, shrink, sum); }

  V subtrahend() const noexcept { return xsimd::select(m == V(hidden<T>), V(T(0)), m); }

  /// 1 / l, and 0 for a row that saw no key.
  V reciprocal() const noexcept { return xsimd::select(l == V(T(0)), V(T(0)), V(T(1)) / l); }
};

/// The same, and how logits enter.
template <class Arch, class T, unit_of Units>
struct softmax_state : softmax_sums<Arch, T> {
  static constexpr unit_of units = Units;
  static constexpr bool normalises = true;
  using V = vec<Arch, T>;
  using sums = softmax_sums<Arch, T>;
  using sums::m, sums::l, sums::add, sums::subtrahend;

  /// exp(x) for x <= 0. Differences are taken before units change: a logit of -1e38 stays finite.
  FOVEA_INLINE static V exp(const V& x) noexcept { return exp(x, V(exp2_limits<T>::zero)); }
  FOVEA_INLINE static V exp(const V& x, const V& least) noexcept {
    if constexpr (Units == unit_of::natural)
      return isa<Arch>::exp2_or_zero(x * V(static_cast<T>(std::numbers::log2e)), least);
    else
      return isa<Arch>::exp2(x, least);
  }

  /// Takes in the largest logits of a block; returns exp(m - m'), by which what was summed so far shrinks.
  /// Where no key was visible yet the subtrahend is 0 instead of -inf, which keeps -inf - -inf from being
  /// NaN.
  FOVEA_INLINE V raise(const V& largest) noexcept {
    const V before = m;
    m = xsimd::max(m, largest);
    return exp(before - subtrahend());
  }

  /// Whether hidden logits need be told from others: -inf has the exponent 0 by itself, unless what is small
  /// may not be 0 (not `finite`), or the maximum is NaN. (Asked of each logit, it took up to a sixth of the
  /// softmax's time in blocks that a mask shows in part; Zen 5.)
  bool must_hide(bool finite) const noexcept { return !finite || !xsimd::all(m == m); }

  /// P = exp(S - m) for a register of logits, 0 where it is too small for a normal number; `least`: or that
  /// number, see exp2_limits. Hides: hidden ones become exactly 0, whatever m and `least` are.
  template <bool Hides>
  FOVEA_INLINE V probability(const V& s, const V& least = V(exp2_limits<T>::zero)) const noexcept {
    const V p = exp(s - subtrahend(), least);
    if constexpr (Hides) return xsimd::select(s == V(hidden<T>), V(T(0)), p);
    return p;
  }

  /// Takes in the state of other keys; returns the factors of what this and the other one summed.
  std::pair<V, V> merge(const softmax_state& other) noexcept {
    const V mine = raise(other.m), theirs = exp(other.m - subtrahend());
    add(mine, other.l * theirs);
    return {mine, theirs};
  }

  /// The state after a sink: a logit (in these units) without a value. Returns the factor for O.
  V absorb_sink(const V& logit) noexcept {
    const V shrink = raise(logit);
    add(shrink, probability<true>(logit));
    return shrink;
  }

  /// The natural logarithm of the sum of exponents: -inf for a row that saw no key. (A multiply-add, not a
  /// product and a sum, which compilers join or not, as they inline.)
  V lse() const noexcept {
    const V in_nats(Units == unit_of::log2 ? static_cast<T>(std::numbers::ln2) : T(1));
    return xsimd::select(l == V(T(0)), V(hidden<T>), isa<Arch>::fma(m, in_nats, isa<Arch>::log(l)));
  }
};

/// Weights that are no softmax: P = sigmoid(S + bias), each by itself, so that a walk keeps neither a maximum
/// nor a sum, and what was summed never shrinks.
template <class Arch, class T, unit_of Units>
struct sigmoid_weights {
  static constexpr unit_of units = Units;
  static constexpr bool normalises = false;
  using V = vec<Arch, T>;

  /// {P, 1 - P} of a register of logits, bias included, none of them hidden; `least`: see exp2_limits.
  static std::pair<V, V> of(const V& s, const V& least) noexcept {
    if constexpr (Units == unit_of::natural)
      return logistic<Arch, T>(s * V(static_cast<T>(std::numbers::log2e)), least);
    else
      return logistic<Arch, T>(s, least);
  }
  /// P, exactly 0 where s is hidden.
  template <bool Hides>
  FOVEA_INLINE static V weight(const V& s, const V& bias, const V& least) noexcept {
    const V p = of(s + bias, least).first;
    if constexpr (Hides) return xsimd::select(s == V(hidden<T>), V(T(0)), p);
    return p;
  }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
