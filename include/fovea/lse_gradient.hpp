// fovea/lse_gradient.hpp - a gradient that enters a backward call by way of the LSE.
#pragma once

#include <fovea/plan/operands.hpp>
#include <fovea/value_list.hpp>

FOVEA_NAMESPACE_BEGIN

/// d loss / d LSE, as with_lse gives the LSE: a matrix tokens x heads, or a tensor with dim 1. Made by
/// lse_gradient(d_lse).
template <class X>
struct lse_gradient_of {
  using is_lse_gradient = void;
  stored<const X> values;
};

template <class M>
concept lse_gradient_like = requires { typename std::remove_cvref_t<M>::is_lse_gradient; };

/// For a backward call of a loss that the LSE is part of, as when partial results are merged or attention is
/// distilled. `d_lse` must outlive the call.
template <viewable X>
lse_gradient_of<std::remove_cvref_t<X>> lse_gradient(X&& d_lse) noexcept {
  static_assert(outlives_call<X>,
                "fovea: lse_gradient keeps a view; give it a named matrix or a tensor_view, not a temporary");
  return {d_lse};
}

/// The LSE's gradient among `mods`; without data, where there is none.
template <class T, class... Mods>
sequences<const T> view_of_lse_gradient(index_type heads, const Mods&... mods) {
  static_assert((0 + ... + int(lse_gradient_like<Mods>)) <= 1, "fovea: a call has at most one lse_gradient");
  sequences<const T> found{};
  [[maybe_unused]] const auto find = [&](const auto& m) {
    if constexpr (lse_gradient_like<decltype(m)>) {
      static_assert(std::is_same_v<element_of<decltype(m.values)>, T>,
                    "fovea: the LSE's gradient is float, or double where q, k or v is double");
      found = read_only(as_sequences(m.values, heads, "d_lse"));
    }
  };
  (find(mods), ...);
  return found;
}

FOVEA_NAMESPACE_END
