// fovea/plan/options.hpp - what an attention object is told once, and what of it a call may say anew.
#pragma once

#include <fovea/executor/concept.hpp>
#include <fovea/lifetime.hpp>

#include <cstddef>
#include <optional>

FOVEA_NAMESPACE_BEGIN

struct attention_options {
  std::optional<double> scale = {};    // of Q K^T; 1 / sqrt(dim) without
  index_type heads = 0, kv_heads = 0;  // where the type leaves them dynamic_heads; kv_heads: 0 means heads
  executor_ref executor = {};          // who does the work; must outlive the attention object
  // At least plan_for(...).workspace_bytes(): calls then allocate nothing.
  borrowed_span<std::byte> workspace = {};
};

/// Memory for one call, in place of the option of that name:
///   attend.into(o, q, k, v, fovea::causal, fovea::workspace{bytes});
/// At least into_plan_for(...).workspace_bytes(), or backward_plan_for's, wherever it starts; the call then
/// allocates nothing. It shares no memory with the call's arguments, nor with a call at the same time.
struct workspace {
  using is_workspace = void;
  borrowed_span<std::byte> bytes;
};

/// What of the options a call says anew.
template <class M>
concept workspace_like = requires { typename std::remove_cvref_t<M>::is_workspace; };
template <class M>
concept plan_like = requires { typename std::remove_cvref_t<M>::is_plan; };
template <class M>
concept call_option = workspace_like<M> || plan_like<M>;

FOVEA_NAMESPACE_END
