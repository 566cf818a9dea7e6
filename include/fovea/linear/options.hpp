// fovea/linear/options.hpp - what linear attention is told: options, and what a call says beside q, k and v.
#pragma once

#include <fovea/plan/options.hpp>
#include <fovea/view/sequences.hpp>

FOVEA_NAMESPACE_BEGIN

/// How a call computes: the same results but for rounding.
///   recurrence   token by token: decode, short sequences
///   chunked      products of matrices over 32 tokens: prefill
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

/// What log_decay, delta_rule and linear_state have in common: a view of the caller's that outlives the call.
template <class M>
struct linear_operand {
  stored<M> numbers;
  template <class X>
  explicit linear_operand(X&& x) noexcept : numbers(x) {
    static_assert(outlives_call<X>,
                  "fovea: log_decay, delta_rule and linear_state are views; give a named matrix, tensor or "
                  "tensor_view, not a temporary");
  }
};

/// The decay of the state before each token, as its natural logarithm g <= 0: a number a head, tokens x
/// kv_heads, or one a channel of k, tokens x (kv_heads * d). Of the kind of k. Minus infinity forgets all.
template <class M>
struct log_decay : linear_operand<M> {
  using is_log_decay = void;
  using linear_operand<M>::linear_operand;
};
template <class X>
explicit log_decay(X&&) -> log_decay<std::remove_reference_t<X>>;

/// How far each token moves the state from what it recalls for k to v, 0 to 1 (2): tokens x kv_heads. The
/// delta rule, where it is given.
template <class M>
struct delta_rule : linear_operand<M> {
  using is_delta_rule = void;
  using linear_operand<M>::linear_operand;
};
template <class X>
explicit delta_rule(X&&) -> delta_rule<std::remove_reference_t<X>>;

/// The state, sequences x kv_heads x d x dv: read before the first token, and replaced by what is left
/// after the last. Without it a call starts from 0. float, or double where q, k or v is; fovea::bf16
/// halves what decode reads and writes: then each call rounds it once, by at most 2^-8 of each number.
template <class M>
struct linear_state : linear_operand<M> {
  using is_linear_state = void;
  using linear_operand<M>::linear_operand;
};
template <class X>
explicit linear_state(X&&) -> linear_state<std::remove_reference_t<X>>;

template <class M>
concept log_decay_like = requires { typename std::remove_cvref_t<M>::is_log_decay; };
template <class M>
concept delta_rule_like = requires { typename std::remove_cvref_t<M>::is_delta_rule; };
template <class M>
concept linear_state_like = requires { typename std::remove_cvref_t<M>::is_linear_state; };

FOVEA_NAMESPACE_END
