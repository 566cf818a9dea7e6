// fovea/compiled/described_plan.hpp - a plan of the C header, forward or backward.
#pragma once

#include <fovea/compiled/arguments.hpp>
#include <fovea/plan/gradient_plan.hpp>
#include <fovea/plan/plan.hpp>

#include <variant>

FOVEA_NAMESPACE_BEGIN
namespace described {

/// What a fovea_plan is.
struct any_plan {
  std::variant<plan, gradient_plan> of;
  index_type workspace_bytes() const {
    const plan* const forward = std::get_if<plan>(&of);
    return forward != nullptr ? forward->workspace_bytes() : std::get<gradient_plan>(of).workspace_bytes();
  }
  std::string explain() const {
    const plan* const forward = std::get_if<plan>(&of);
    return forward != nullptr ? forward->explain() : std::get<gradient_plan>(of).explain();
  }
};

/// The plan that a call names, or none.
template <class Plan>
struct plan_of_call {
  using is_plan = void;
  using plan_type = Plan;
  const Plan* given = nullptr;

  explicit plan_of_call(const fovea_call& call) {
    if (call.plan == nullptr) return;
    given = std::get_if<Plan>(&reinterpret_cast<const any_plan*>(call.plan)->of);
    if (given == nullptr)
      reject("the plan is one of ", std::is_same_v<Plan, plan> ? "backward" : "attend", ", not of ",
             std::is_same_v<Plan, plan> ? "attend" : "backward");
  }
  template <class F>
  void each_number(const Plan& needed, const F& f) const {
    if (given != nullptr) given->each_number(needed, f);
  }
};

}  // namespace described
FOVEA_NAMESPACE_END
