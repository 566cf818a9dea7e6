// fovea/linear/options.hpp - what linear attention is told: options, and what a call says beside q, k and v.
#pragma once

#include <fovea/plan/options.hpp>
#include <fovea/view/sequences.hpp>

FOVEA_NAMESPACE_BEGIN

/// How a call computes: the same results but for rounding.
///   recurrence   token by token: decode, short sequences
///   chunked      products of matrices over 16 or 32 tokens: prefill
///   fastest      as measured: the plan says which
enum class linear_engine { fastest, recurrence, chunked };

struct linear_attention_options {
  std::optional<double> scale = {};    // of o; 1 / sqrt(d) without
  index_type heads = 0, kv_heads = 0;  // where the type leaves them dynamic_heads; kv_heads: 0 means heads
  bool l2_norm = false;                // q and k to length 1 first: x / sqrt(sum x^2 + 1e-6), as FLA does
  linear_engine engine = linear_engine::fastest;
  executor_ref executor = {};               // who does the work; must outlive the attention object
  borrowed_span<std::byte> workspace = {};  // at least plan_for(...).workspace_bytes(): nothing is allocated
};

/// Stands where no gradient is asked for.
struct no_gradient {};
template <>
inline constexpr bool is_view<no_gradient> = true;

/// What log_decay, delta_rule and linear_state have in common: views of the caller's that outlive the call;
/// the second one, which may be left out, is where backward's gradient goes.
template <class M, class D>
struct linear_operand {
  stored<M> numbers;
  stored<D> gradient;

  template <class X>
  explicit linear_operand(X&& x) noexcept : numbers(x), gradient() {
    static_assert(outlives_call<X>, "fovea: this is a view; give a named matrix, tensor or tensor_view");
  }
  template <class X, class Y>
  linear_operand(X&& x, Y&& d_x) noexcept : numbers(x), gradient(d_x) {
    static_assert(outlives_call<X> && outlives_call<Y>,
                  "fovea: these are views; give named matrices, tensors or tensor_views");
  }
};

/// The decay of the state before each token, as its natural logarithm g <= 0: a number a head, tokens x
/// kv_heads, or one a channel of k, tokens x (kv_heads * d). Of the kind of k. Minus infinity forgets all;
/// its gradient is 0.
template <class M, class D = no_gradient>
struct log_decay : linear_operand<M, D> {
  using is_log_decay = void;
  using linear_operand<M, D>::linear_operand;
};
template <class X>
explicit log_decay(X&&) -> log_decay<std::remove_reference_t<X>>;
template <class X, class Y>
log_decay(X&&, Y&&) -> log_decay<std::remove_reference_t<X>, std::remove_reference_t<Y>>;

/// How far each token moves the state from what it recalls for k to v, 0 to 1 (2): tokens x kv_heads. The
/// delta rule, where it is given.
template <class M, class D = no_gradient>
struct delta_rule : linear_operand<M, D> {
  using is_delta_rule = void;
  using linear_operand<M, D>::linear_operand;
};
template <class X>
explicit delta_rule(X&&) -> delta_rule<std::remove_reference_t<X>>;
template <class X, class Y>
delta_rule(X&&, Y&&) -> delta_rule<std::remove_reference_t<X>, std::remove_reference_t<Y>>;

/// The state, sequences x kv_heads x d x dv: read before the first token, and replaced by what is left
/// after the last. Without it a call starts from 0. float, or double where q, k or v is; fovea::bf16
/// halves what decode reads and writes: then each call rounds it once, by at most 2^-8 of each number.
///
/// backward reads the state before the first token, and writes nothing there; the gradient is read as that by
/// the state after the last token, and replaced by that before the first.
template <class M, class D = no_gradient>
struct linear_state : linear_operand<M, D> {
  using is_linear_state = void;
  using linear_operand<M, D>::linear_operand;
};
template <class X>
explicit linear_state(X&&) -> linear_state<std::remove_reference_t<X>>;
template <class X, class Y>
linear_state(X&&, Y&&) -> linear_state<std::remove_reference_t<X>, std::remove_reference_t<Y>>;

/// The states after each `every` tokens, L / every of them a sequence of the longest's length L: a tensor
/// of (sequences * (L / every)) x kv_heads x d x dv, of any element. The one after (i + 1) * every tokens
/// of sequence b is at b * (L / every) + i; what a shorter sequence does not reach stays as it was. To go
/// on from the last draft that was accepted: every = 1. Chunks end where a state is kept: below 32
/// (16 where the state is small), fewer tokens a chunk.
template <class M>
struct linear_snapshots {
  using is_linear_snapshots = void;
  stored<M> states;
  index_type every;
  template <class X>
  linear_snapshots(X&& to, index_type tokens) noexcept : states(to), every(tokens) {
    static_assert(outlives_call<X>, "fovea: this is a view; give a named tensor or tensor_view");
  }
};
template <class X>
linear_snapshots(X&&, index_type) -> linear_snapshots<std::remove_reference_t<X>>;

template <class M>
concept log_decay_like = requires { typename std::remove_cvref_t<M>::is_log_decay; };
template <class M>
concept delta_rule_like = requires { typename std::remove_cvref_t<M>::is_delta_rule; };
template <class M>
concept linear_state_like = requires { typename std::remove_cvref_t<M>::is_linear_state; };
template <class M>
concept linear_snapshots_like = requires { typename std::remove_cvref_t<M>::is_linear_snapshots; };

FOVEA_NAMESPACE_END
