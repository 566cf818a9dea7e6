// fovea/plan/check_gradients.hpp - what a backward call must be.
#pragma once

#include <fovea/kernel/backward/gradient_problem.hpp>
#include <fovea/plan/operands.hpp>

FOVEA_NAMESPACE_BEGIN

template <class E>
tensor_view<E> view_of_gradient(const parameter_gradient<E>& to) noexcept {
  return {to.data,         to.batch,       to.heads,        to.queries,   to.keys,
          to.batch_stride, to.head_stride, to.query_stride, to.key_stride};
}

/// f(name, view) for each gradient of a parameter that a backward call adds to.
template <class Problem, class F>
void each_parameter_gradient(const Problem& p, const F& f) {
  p.rules.scores.each([&](const auto& score) {
    if constexpr (learning_score<decltype(score)>)
      if (const auto to = score.gradient(); to.data != nullptr)
        f(gradient_name<std::remove_cvref_t<decltype(score)>>, view_of_gradient(to));
    if constexpr (slot_learning_score<decltype(score)>)
      if (const auto to = score.slots(); to.data != nullptr)
        f(gradient_name<std::remove_cvref_t<decltype(score)>>, to);
  });
  if constexpr (requires { p.sink.gradient(); }) f("sink's d_logits", view_of_list(p.sink.gradient()));
}

/// Of gates that stand for all columns of a row, the one.
template <class E>
sequences<E> written_gates(sequences<E> d_gates) noexcept {
  if (d_gates.all.dim_stride == 0) d_gates.all.dim = 1, d_gates.all.dim_stride = 1;
  return d_gates;
}

/// Whether gradients, those of parameters among them, can be written, and share nothing with each other or
/// with what is read; `mods`: those of the call.
template <class Gradients, class... Mods>
void check_gradients_apart(const Gradients& g, const Mods&... mods) {
  const auto& p = g.forward;
  results<3 + sizeof...(Mods)> gradients;
  gradients.add("d_q", g.d_q.all), gradients.add("d_k", g.d_k.all), gradients.add("d_v", g.d_v.all);
  each_parameter_gradient(p, [&](const char* name, const auto& to) { gradients.add(name, to); });
  if constexpr (Gradients::gated)
    if (g.gates.gradient.all.data != nullptr) gradients.add("d_gate", written_gates(g.gates.gradient).all);
  const auto read = [&](const char* name, const auto& x) { gradients.check_apart_from(name, x); };
  read("q", p.q), read("k", p.k), read("v", p.v), read("out", g.out), read("lse", g.lse);
  read("d_out", g.d_out), read("d_lse", g.d_lse), (each_operand_of(mods, read), ...);
}

/// Whether what the forward call gave, and where the gradients go, fit the call; see check_gradients_apart.
template <class Gradients, class... Mods>
void check_gradient_problem(const Gradients& g, const Mods&... mods) {
  const auto& p = g.forward;
  check_like("out", g.out, "q", p.q, p.value_dim()), check_like("lse", g.lse, "q", p.q, 1);
  check_like("d_out", g.d_out, "q", p.q, p.value_dim());
  if (g.d_lse.all.data != nullptr) check_like("d_lse", g.d_lse, "q", p.q, 1);
  check_result("d_q", g.d_q, "q", p.q, p.dim()), check_result("d_k", g.d_k, "k", p.k, p.dim());
  check_result("d_v", g.d_v, "v", p.v, p.value_dim());
  check_gradients_apart(g, mods...);
}

FOVEA_NAMESPACE_END
