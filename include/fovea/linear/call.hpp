// fovea/linear/call.hpp - the arguments of a call of linear attention, as sequences.
#pragma once

#include <fovea/linear/options.hpp>
#include <fovea/plan/operands.hpp>

FOVEA_NAMESPACE_BEGIN
namespace linear {

/// The arguments of a call as sequences; decay, beta and state have a null pointer where they are not
/// given.
template <class T, class Q, class K, class V, class O, class G, class B, class S, class P>
struct call {
  using compute = T;
  using state_element = S;
  sequences<const Q> q;
  sequences<const K> k;
  sequences<const V> v;
  sequences<O> out;
  sequences<const G> decay;
  sequences<const B> beta;
  sequences<S> state;
  sequences<P> snapshots;
  index_type every = 0;  // tokens from one to the next; 0: none
  bool has_decay = false, has_beta = false, has_state = false, has_snapshots = false, l2_norm = false;
  T scale = T(1);

  index_type group() const noexcept { return k.heads() == 0 ? 1 : q.heads() / k.heads(); }
  bool decays_channels() const noexcept { return has_decay && decay.dim() != 1; }
};

template <class X>
struct element_in_sequences;
template <class E>
struct element_in_sequences<sequences<E>> {
  using type = E;
};
template <class X>
using element_in = std::remove_const_t<typename element_in_sequences<std::remove_cvref_t<X>>::type>;
/// The same, const where it can only be read.
template <class X>
using readable_in = typename element_in_sequences<std::remove_cvref_t<X>>::type;

enum class operand { decay, beta, state, snapshots };

/// The view of the modifier that is such an operand; without one an empty view of `Otherwise`.
template <operand Which, class Otherwise>
sequences<Otherwise> operand_of(index_type) noexcept {
  return {};
}
template <operand Which, class Otherwise, class M, class... Mods>
auto operand_of(index_type heads, const M& m, const Mods&... mods) {
  if constexpr (Which == operand::decay && log_decay_like<M>)
    return read_only(view_of(m.numbers, heads, "log_decay"));
  else if constexpr (Which == operand::beta && delta_rule_like<M>)
    return read_only(view_of(m.numbers, heads, "delta_rule"));
  else if constexpr (Which == operand::state && linear_state_like<M>)
    return view_of(m.numbers, heads, "linear_state");
  else if constexpr (Which == operand::snapshots && linear_snapshots_like<M>)
    return view_of(m.states, heads, "linear_snapshots");
  else
    return operand_of<Which, Otherwise>(heads, mods...);
}

/// Where the gradient of such an operand goes; nowhere: an empty view of `Otherwise`.
template <operand Which, class Otherwise>
sequences<Otherwise> gradient_of(index_type) noexcept {
  return {};
}
template <operand Which, class Otherwise, class M, class... Mods>
auto gradient_of(index_type heads, const M& m, const Mods&... mods) {
  constexpr bool here = Which == operand::decay  ? log_decay_like<M>
                        : Which == operand::beta ? delta_rule_like<M>
                                                 : linear_state_like<M>;
  if constexpr (!here)
    return gradient_of<Which, Otherwise>(heads, mods...);
  else if constexpr (std::is_same_v<std::remove_cvref_t<decltype(m.gradient)>, no_gradient>)
    return sequences<Otherwise>{};
  else
    return view_of(m.gradient, heads,
                   Which == operand::decay  ? "d_log_decay"
                   : Which == operand::beta ? "d_delta_rule"
                                            : "d_linear_state");
}

/// The arguments of a backward call; of `forward` out is none, and the state is only read. Gradients that
/// nobody asked for have no data.
template <class Call, class G, class DQ, class DK, class DV, class DD, class DB, class DS>
struct gradient_call {
  using forward_call = Call;
  Call forward;
  sequences<const G> d_out;
  sequences<DQ> d_q;
  sequences<DK> d_k;
  sequences<DV> d_v;
  sequences<DD> d_decay;
  sequences<DB> d_beta;
  sequences<DS> d_state;
};

}  // namespace linear
FOVEA_NAMESPACE_END
