// tests/linear/rules.hpp - the update rules that tests of linear attention go through.
#pragma once

#include <cmath>
#include <cstdint>

namespace linear_test {

enum class rule { linear, gated, gated_channels, delta, gated_delta, gated_delta_channels };
inline constexpr rule all_rules[] = {rule::linear, rule::gated,       rule::gated_channels,
                                     rule::delta,  rule::gated_delta, rule::gated_delta_channels};
inline bool gated(rule r) { return r != rule::linear && r != rule::delta; }
inline bool by_channel(rule r) { return r == rule::gated_channels || r == rule::gated_delta_channels; }
inline bool delta(rule r) { return r >= rule::delta; }

/// What an error may be of the sum of absolute values, with the unit roundoff u: u (32 + 2 sqrt(L)).
///
/// Stated of roundings that are independent and uniform in [-u, u] (Higham and Mary, "A New Approach to
/// Probabilistic Rounding Error Analysis", SIAM J. Sci. Comput. 41, 2019, where u sqrt(n) takes the place of
/// u n): a term of the state is rounded twice a token, once multiplied by the decay and once added to, by at
/// most u times what it then is, which is at most the sum of absolute values, M. The variance of all is at most
/// 2 L u^2 M^2 / 3, and 2 sqrt(L) u M are 2.4 standard deviations even if no term ever cancelled another; those
/// of random signs are sqrt(L) times as small as M. 32 u stand for what does not grow with L: e^g within 4
/// units, the scale, a length, and d additions with q, 2.4 sqrt(d / 3) of them up to d = 256. The delta rule
/// adds no more: with |k| = 1 and 0 <= beta <= 1, as here, an error of the state is multiplied by
/// I - beta k k^T, whose norm is 1.
///
/// Proved for any roundings, without the delta rule, is u (7 L + G + d + 2), G the sum of |log decay|; with
/// it the product of 1 + beta |k|^2 over tokens, which bounds nothing. Both are wider than this.
inline double error_share(double unit, std::int64_t tokens) {
  return unit * (32 + 2 * std::sqrt(static_cast<double>(tokens)));
}

}  // namespace linear_test
