// fovea/plan/call_options.hpp - the plan and the memory of a call: given among its arguments, or as usual.
#pragma once

#include <fovea/plan/check_gradients.hpp>
#include <fovea/plan/gradient_plan.hpp>
#include <fovea/plan/make_plan.hpp>
#include <fovea/plan/operands.hpp>
#include <fovea/plan/options.hpp>

FOVEA_NAMESPACE_BEGIN

/// The memory for a call: the workspace among its arguments, or the option.
template <class... Mods>
std::span<std::byte> memory_of(const attention_options& options, const Mods&... mods) {
  static_assert((0 + ... + int(workspace_like<Mods>)) <= 1, "fovea: a call has at most one workspace");
  std::span<std::byte> memory = options.workspace;
  [[maybe_unused]] const auto find = [&](const auto& m) {
    if constexpr (workspace_like<decltype(m)>) memory = m.bytes;
  };
  (find(mods), ...);
  return memory;
}

/// f(name, view) for all that a call with a result reads and writes; `mods`: those of the call.
template <class F, class Problem, class... Mods>
void each_operand_of_call(const F& f, const Problem& p, const Mods&... mods) {
  f("q", p.q), f("k", p.k), f("v", p.v), f("o", p.out.all), f("lse", p.lse.all);
  if constexpr (Problem::receives) f("received", p.received.all);
  if constexpr (Problem::keeps_weights) f("weights", p.weights.all);
  (each_operand_of(mods, f), ...);
}
template <class F, class Gradients, class... Mods>
  requires requires(const Gradients& g) { g.forward; }
void each_operand_of_call(const F& f, const Gradients& g, const Mods&... mods) {
  const auto& p = g.forward;
  f("q", p.q), f("k", p.k), f("v", p.v), f("out", g.out), f("lse", g.lse), f("d_out", g.d_out);
  f("d_q", g.d_q.all), f("d_k", g.d_k.all), f("d_v", g.d_v.all), f("d_lse", g.d_lse);
  if constexpr (Gradients::gated) f("d_gate", written_gates(g.gates.gradient).all);
  each_parameter_gradient(p, f), (each_operand_of(mods, f), ...);
}

/// Whether a workspace, if there is one, is as large as a plan needs, and apart from all that the call reads
/// and writes.
template <class Plan, class Call, class... Mods>
void check_workspace(std::span<std::byte> memory, const Plan& plan, const Call& call, const Mods&... mods) {
  const auto given = static_cast<index_type>(memory.size());
  if (given == 0) return;
  if (given < plan.workspace_bytes())
    reject("workspace has ", given, " bytes, fewer than the ", plan.workspace_bytes(), " of the plan");
  each_operand_of_call(
      [&](const char* name, const auto& x) { check_apart("workspace", view_of_list(memory), name, x); }, call,
      mods...);
}

/// Whether M is a plan of that kind, or may stand for one (its plan_type) or none.
template <class Plan, class M>
inline constexpr bool is_plan_of = std::is_same_v<M, Plan>;
template <class Plan, class M>
  requires requires { typename M::plan_type; }
inline constexpr bool is_plan_of<Plan, M> = std::is_same_v<typename M::plan_type, Plan>;

/// Whether a plan, where one is given among the arguments of a call, is the one that the call needs.
template <class Plan, class... Mods>
void check_plan(const Plan& needed, const Mods&... mods) {
  static_assert((0 + ... + int(plan_like<Mods>)) <= 1, "fovea: a call has at most one plan");
  [[maybe_unused]] const auto check = [&](const auto& m) {
    if constexpr (plan_like<decltype(m)>) {
      static_assert(is_plan_of<Plan, std::remove_cvref_t<decltype(m)>>,
                    "fovea: attend and into take a plan of plan_for, backward_into one of backward_plan_for");
      m.each_number(needed, [](const char* name, index_type has, index_type needs) {
        if (has != needs) reject("the plan has ", has, " ", name, " but the call needs ", needs);
      });
    }
  };
  (check(mods), ...);
}

FOVEA_NAMESPACE_END
