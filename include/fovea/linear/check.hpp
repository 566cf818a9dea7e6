// fovea/linear/check.hpp - what a call of linear attention must be.
#pragma once

#include <fovea/linear/call.hpp>
#include <fovea/linear/plan.hpp>
#include <fovea/plan/operands.hpp>

FOVEA_NAMESPACE_BEGIN
namespace linear {

/// f(name, view) for all that a call reads but q and the state.
template <class Call, class F>
void each_operand_but_q(const Call& c, const F& f) {
  f("k", c.k), f("v", c.v);
  if (c.has_decay) f("log_decay", c.decay);
  if (c.has_beta) f("delta_rule", c.beta);
}
/// f(name, view) for all that a call reads but the state.
template <class Call, class F>
void each_operand(const Call& c, const F& f) {
  f("q", c.q), each_operand_but_q(c, f);
}

/// Whether what a call reads fits together.
template <class Call>
void check_operands(const Call& c) {
  check_like("k", c.k, "q", c.q, c.q.dim());
  check_like("v", c.v, "k", c.k, c.v.dim());
  check_countable(c.q.batches(), c.q.heads(), c.q.max_tokens(), c.q.dim(), c.q.dim(), c.v.dim());
  if (c.has_decay) {
    check_like("log_decay", c.decay, "k", c.k, c.decay.dim());
    if (c.decay.dim() != 1 && c.decay.dim() != c.k.dim() && c.q.batches() > 0)
      reject("log_decay has ", c.decay.dim(), " columns a head, not 1 or ", c.k.dim(),
             ", one a channel of k");
  }
  if (c.has_beta) check_like("delta_rule", c.beta, "k", c.k, 1);
}

/// Whether a state is one of the call's.
template <class Call, class S>
void check_state(const char* name, const Call& c, const sequences<S>& state, index_type a_sequence = 1) {
  if (a_sequence == 1)
    check_same(name, "sequences", state.batches(), "q", c.q.batches());
  else if (state.batches() != a_sequence * c.q.batches())
    reject(name, " has ", state.batches(), " states, not ", a_sequence, " for each of the ", c.q.batches(),
           " sequences of q");
  if (state.all.tokens != c.k.dim() || state.all.dim != c.v.dim())
    reject(name, " has ", state.all.tokens, " x ", state.all.dim, " numbers a head, not d x dv = ", c.k.dim(),
           " x ", c.v.dim());
}

/// Whether o, the state and snapshots fit, and share no memory with what is read; o may be q itself.
template <class Call>
void check_results(const Call& c) {
  static_assert(!std::is_const_v<typename Call::state_element>,
                "fovea: linear_state(s) is written: s must not be const");
  check_result("o", c.out, "q", c.q, c.v.dim()), check_apart_or_same("o", c.out, "q", c.q);
  each_operand_but_q(c, [&](const char* name, const auto& x) { check_apart("o", c.out.all, name, x); });
  if (c.has_snapshots) {
    if (c.every < 1) reject("linear_snapshots are ", c.every, " tokens apart, not at least 1");
    check_state("linear_snapshots", c, c.snapshots, c.q.max_tokens() / c.every);
    check_writable("linear_snapshots", c.snapshots.all);
    each_operand(c, [&](const char* name, const auto& x) {
      check_apart("linear_snapshots", c.snapshots.all, name, x);
    });
    check_apart("o", c.out.all, "linear_snapshots", c.snapshots.all);
    if (c.has_state) check_apart("linear_state", c.state.all, "linear_snapshots", c.snapshots.all);
  }
  if (!c.has_state) return;
  check_state("linear_state", c, c.state), check_writable("linear_state", c.state.all);
  each_operand(c,
               [&](const char* name, const auto& x) { check_apart("linear_state", c.state.all, name, x); });
  check_apart("o", c.out.all, "linear_state", c.state.all);
}

/// f(name, view) for the gradients that are written.
template <class Gradients, class F>
void each_gradient(const Gradients& g, const F& f) {
  f("d_q", g.d_q), f("d_k", g.d_k), f("d_v", g.d_v);
  if (g.d_decay.all.data) f("d_log_decay", g.d_decay);
  if (g.d_beta.all.data) f("d_delta_rule", g.d_beta);
  if (g.d_state.all.data) f("d_linear_state", g.d_state);
}

/// Whether gradients fit, and share no memory with each other or with what is read.
template <class Gradients>
void check_gradients(const Gradients& g) {
  const auto& c = g.forward;
  check_like("d_out", g.d_out, "q", c.q, c.v.dim());
  check_result("d_q", g.d_q, "q", c.q, c.q.dim()), check_result("d_k", g.d_k, "k", c.k, c.k.dim());
  check_result("d_v", g.d_v, "v", c.v, c.v.dim());
  if (c.has_state) check_state("linear_state", c, c.state);
  if (g.d_decay.all.data) check_result("d_log_decay", g.d_decay, "log_decay", c.decay, c.decay.dim());
  if (g.d_beta.all.data) check_result("d_delta_rule", g.d_beta, "delta_rule", c.beta, 1);
  if (g.d_state.all.data) check_state("d_linear_state", c, g.d_state);
  results<6> written;
  each_gradient(g, [&](const char* name, const auto& x) { written.add(name, x.all); });
  const auto read = [&](const char* name, const auto& x) { written.check_apart_from(name, x); };
  each_operand(c, read), read("d_out", g.d_out);
  if (c.has_state) read("linear_state", c.state);
}

/// Whether a workspace is large enough, and apart from what is read; `of_results(bytes)` looks at the rest.
template <class Call, class F>
void check_memory(std::span<std::byte> memory, const linear_attention_plan& plan, const Call& c,
                  const F& of_results) {
  const auto given = static_cast<index_type>(memory.size());
  if (given == 0) return;
  if (given < plan.workspace_bytes())
    reject("workspace has ", given, " bytes, fewer than the ", plan.workspace_bytes(), " of the plan");
  const auto bytes = view_of_list(memory);
  each_operand(c, [&](const char* name, const auto& x) { check_apart("workspace", bytes, name, x); });
  of_results(bytes);
}

}  // namespace linear
FOVEA_NAMESPACE_END
