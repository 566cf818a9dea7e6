// bench/workload/names.hpp - the words of a workload's choices.
#pragma once

#include "shape.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

namespace bench {

template <class E, std::size_t N = 4>
using names = std::array<std::pair<std::string_view, E>, N>;

inline constexpr names<element, 7> element_names{{{"f32", element::f32},
                                                  {"f64", element::f64},
                                                  {"bf16", element::bf16},
                                                  {"f16", element::f16},
                                                  {"i8", element::i8},
                                                  {"f8", element::f8},
                                                  {"q4", element::q4}}};
inline constexpr names<cache> cache_names{{{"contiguous", cache::contiguous},
                                           {"paged", cache::paged},
                                           {"ring", cache::ring},
                                           {"latent", cache::latent}}};
inline constexpr names<weight_rounding, 2> weights_names{
    {{"exact", weight_rounding::exact}, {"rounded", weight_rounding::rounded}}};
inline constexpr names<layout> layout_names{{{"bhsd", layout::bhsd},
                                             {"bshd", layout::bshd},
                                             {"eigen", layout::eigen},
                                             {"eigen_col", layout::eigen_col}}};

inline constexpr names<modifier, 11> modifier_names{{{"none", modifier::none},
                                                     {"alibi", modifier::alibi},
                                                     {"softcap", modifier::softcap},
                                                     {"bias", modifier::bias},
                                                     {"boolean", modifier::boolean},
                                                     {"lengths", modifier::lengths},
                                                     {"sink", modifier::sink},
                                                     {"function", modifier::function},
                                                     {"t5", modifier::t5},
                                                     {"swin", modifier::swin},
                                                     {"table", modifier::table}}};

inline constexpr names<mask, 11> mask_names{{{"none", mask::none},
                                             {"causal", mask::causal},
                                             {"window", mask::window},
                                             {"blocks", mask::blocks},
                                             {"documents", mask::documents},
                                             {"prefix", mask::prefix},
                                             {"tree", mask::tree},
                                             {"dilated", mask::dilated},
                                             {"longformer", mask::longformer},
                                             {"neighbourhood", mask::neighbourhood},
                                             {"topk", mask::topk}}};
inline constexpr bool has_size(mask m) { return m != mask::none && m != mask::causal; }
inline constexpr bool has_share(mask m) { return m == mask::blocks || m == mask::topk; }
inline constexpr index_type global_tokens = 16;  // of longformer
/// The masks that are timed with every element; those of which a row sees one interval of keys.
inline constexpr bool is_plain(mask m) { return m == mask::none || m == mask::causal || m == mask::window; }
inline constexpr bool has_intervals(mask m) {
  return is_plain(m) || m == mask::documents || m == mask::prefix;
}
inline constexpr bool needs_square(mask m) {
  return m == mask::dilated || m == mask::longformer || m == mask::neighbourhood;
}

inline constexpr names<update_rule, 6> rule_names{
    {{"linear", update_rule::linear},
     {"gated", update_rule::gated},
     {"gated_channels", update_rule::gated_channels},
     {"delta", update_rule::delta},
     {"gated_delta", update_rule::gated_delta},
     {"gated_delta_channels", update_rule::gated_delta_channels}}};
inline bool is_linear(operation op) { return op == operation::linear || op == operation::linear_backward; }
inline bool has_decay(update_rule r) { return r != update_rule::linear && r != update_rule::delta; }
inline bool decays_channels(update_rule r) {
  return r == update_rule::gated_channels || r == update_rule::gated_delta_channels;
}
inline bool has_beta(update_rule r) { return r >= update_rule::delta; }

inline constexpr names<operation, 18> operation_names{{{"forward", operation::forward},
                                                       {"backward", operation::backward},
                                                       {"hard", operation::hard},
                                                       {"hard_sampled", operation::hard_sampled},
                                                       {"additive", operation::additive},
                                                       {"linear", operation::linear},
                                                       {"linear_backward", operation::linear_backward},
                                                       {"decomposed", operation::decomposed},
                                                       {"gate", operation::gate},
                                                       {"differential", operation::differential},
                                                       {"sigmoid", operation::sigmoid},
                                                       {"transformer_xl", operation::transformer_xl},
                                                       {"talking_heads", operation::talking_heads},
                                                       {"cosine", operation::cosine},
                                                       {"luong", operation::luong},
                                                       {"weights_into", operation::weights_into},
                                                       {"feature", operation::feature},
                                                       {"dsa", operation::dsa}}};
inline constexpr index_type index_dim = 128;  // of op=dsa

template <class E, std::size_t N>
std::string_view name_of(const names<E, N>& all, E value) {
  return std::find_if(all.begin(), all.end(), [&](const auto& n) { return n.second == value; })->first;
}

template <class E, std::size_t N>
std::string known_names(const names<E, N>& all, std::string_view between) {
  std::string text;
  for (const auto& n : all) text += (text.empty() ? "" : std::string(between)) + std::string(n.first);
  return text;
}

/// A mask's values in words, as none, window:N and blocks:N:S.
inline std::string known_masks(std::string_view between) {
  std::string text;
  for (const auto& [name, m] : mask_names)
    text += (text.empty() ? "" : std::string(between)) + std::string(name) + (has_size(m) ? ":N" : "") +
            (has_share(m) ? ":S" : "");
  return text;
}

}  // namespace bench
