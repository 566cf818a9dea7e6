// tests/linear/rules.hpp - the update rules that tests of linear attention go through.
#pragma once

namespace linear_test {

enum class rule { linear, gated, gated_channels, delta, gated_delta, gated_delta_channels };
inline constexpr rule all_rules[] = {rule::linear, rule::gated,       rule::gated_channels,
                                     rule::delta,  rule::gated_delta, rule::gated_delta_channels};
inline bool gated(rule r) { return r != rule::linear && r != rule::delta; }
inline bool by_channel(rule r) { return r == rule::gated_channels || r == rule::gated_delta_channels; }
inline bool delta(rule r) { return r >= rule::delta; }

}  // namespace linear_test
