// fovea/gate.hpp - an output gate: results times a sigmoid, applied as they are written.
//
//   Y = sigmoid(g) * softmax(S) V        g: one an element of O, or one a query and head
//
//   Matrix y = attend(q, k, v, fovea::causal, fovea::gate(g));    // g: Lq x (heads * dv), or Lq x heads
//   auto [y, lse] = attend.with_lse(q, k, v, fovea::gate(g));     // training: y is what is gated
//   auto [d_q, d_k, d_v] = attend.backward(q, k, v, y, lse, d_y, fovea::gate(g, d_g));
//
// Qiu et al., "Gated attention for large language models", arXiv:2505.06708: after the product with V (their
// position G1).
#pragma once

#include <fovea/kernel/backward/gradient_problem.hpp>
#include <fovea/plan/modifiers.hpp>
#include <fovea/plan/operands.hpp>

FOVEA_NAMESPACE_BEGIN

/// Made by gate.
template <class X>
struct output_gate {
  using is_gate = void;
  stored<const X> g;
  void each_operand(const auto& f) const { f("gate", read_only(as_sequences(g, any_heads, "gate"))); }
};
/// The same with the place of its gradient.
template <class X, class D>
struct learnt_output_gate : output_gate<X> {
  stored<D> d_g;
};

/// Among what follows q, k, v: O is multiplied by sigmoid(g), before it is rounded to its element. `g` has
/// the kind and tokens of q, any element, and heads * dv columns or `heads` (a tensor: dv or 1); it outlives
/// the call. LSE, weights_into and what keys receive are those of the softmax: no gate is in them.
///
/// backward then takes the gated Y, as with_lse gave it, and d_y; `d_g`, of the sizes of g, gets
/// d_y * y * sigmoid(-g), summed over the columns where there is one gate for them; 0 for a row that sees no
/// key.
///
/// The sigmoid has a relative error of at most (2 |g| + 6) u, u = 2^-24 (double: 2^-53), and is exactly 0
/// from -88.1 on down (double: -709.1). Cost: an exponential an element of O, or a query and head, and in
/// backward one more each time that it reads d_y. Of 8 heads of 64, one thread, in percent of the time
/// without:
///   AMD Zen 5    AVX-512: forward, backward    AVX2
///   128 tokens   10 and 5, 9 and 5             8 and 3, 8 and 3
///   16 tokens    53 and 32, 34 and 22          39 and 16, 32 and 18
/// No memory. Throws std::invalid_argument where sizes do not fit. weights, scores and statistics do not take
/// it.
template <viewable X>
output_gate<std::remove_cvref_t<X>> gate(X&& g) noexcept {
  static_assert(outlives_call<X>,
                "fovea: gate keeps a view; give it a named matrix or a tensor_view, not a temporary");
  return {g};
}
template <viewable X, viewable D>
learnt_output_gate<std::remove_cvref_t<X>, std::remove_reference_t<D>> gate(X&& g, D&& d_g) noexcept {
  static_assert(outlives_call<X> && outlives_call<D>,
                "fovea: gate keeps views; give it named matrices or tensor_views, not temporaries");
  return {{.g = g}, d_g};
}

/// A gate's numbers as a call of `queries` reads them: one a query and head has a column stride of 0.
template <class X, class Queries>
auto gates_of(X& x, const char* name, const Queries& queries, index_type value_dim) {
  auto gates = view_of(x, queries.heads(), name);
  if (gates.dim() != value_dim && gates.dim() != 1)
    reject(name, " has ", gates.dim(), " columns a head, neither 1 nor the ", value_dim, " of v");
  check_like(name, gates, "q", queries, gates.dim());
  if (gates.dim() != value_dim) gates.all.dim = value_dim, gates.all.dim_stride = 0;
  return gates;
}

/// The gate among `mods`.
template <class... Mods>
const auto& gate_among(const Mods&... mods) noexcept {
  static_assert((0 + ... + int(gate_like<Mods>)) <= 1, "fovea: a call has at most one gate");
  return keep<is_gate>(mods...).first;
}

/// Results `out`, gated if one of `mods` says by what.
template <class E, class Q, class V, class... Mods>
auto gated_results(const sequences<E>& out, const Q& queries, const V& values, const Mods&... mods) {
  if constexpr ((gate_like<Mods> || ...)) {
    const auto gates = read_only(gates_of(gate_among(mods...).g, "gate", queries, values.dim()));
    using G = std::remove_cvref_t<decltype(*gates.all.data)>;
    return kernel::gated_sequences<E, G>{out, gates};
  } else {
    return out;
  }
}

/// What a backward call needs of the gate among `mods`.
template <class Q, class V, class... Mods>
auto gate_of_gradients(const Q& queries, const V& values, const Mods&... mods) {
  if constexpr ((gate_like<Mods> || ...)) {
    const auto& given = gate_among(mods...);
    const auto gates = read_only(gates_of(given.g, "gate", queries, values.dim()));
    using G = std::remove_cvref_t<decltype(*gates.all.data)>;
    if constexpr (requires { given.d_g; }) {
      const auto d_gates = gates_of(given.d_g, "d_gate", queries, values.dim());
      if ((d_gates.all.dim_stride == 0) != (gates.all.dim_stride == 0))
        reject("d_gate has ", d_gates.all.dim_stride == 0 ? 1 : values.dim(), " columns a head but gate has ",
               gates.all.dim_stride == 0 ? 1 : values.dim());
      using D = std::remove_reference_t<decltype(*d_gates.all.data)>;
      return kernel::gates_and_gradient<G, D>{gates, d_gates};
    } else {
      return kernel::gates_and_gradient<G, float>{gates, {}};
    }
  } else {
    return kernel::no_gates{};
  }
}

FOVEA_NAMESPACE_END
