// fovea/compiled/pair_entries.hpp - the table of an instruction set that multiplies pairs of bf16: what calls
// in bf16 do forward is compiled for it, all else is that of the one below.
#pragma once

#include <fovea/compiled/caches.hpp>
#include <fovea/compiled/table.hpp>

FOVEA_NAMESPACE_BEGIN
namespace described {

/// Products of pairs make up what such a processor does otherwise than one without (kernel/arch), and they
/// are of queries in bf16 alone: a whole table more was a fifth of the library. Plans, caches and threads are
/// objects of the table below; they lie as ours do, as both are compiled from the same sources by one
/// compiler, and hold no registers.
template <const fovea_compiled_table* (*Below)()>
struct pair_entries {
  /// f(calls) of ours.
  template <class F>
  static void with_pairs(const fovea_call& call, const F& f) {
    call.cache_count != 0 ? f(cached_calls_of<bf16, xsimd::default_arch, bf16>()) : f(calls_of<bf16>());
  }
  static constexpr fovea_forward_kernels forward{
      [](const fovea_call& call) {
        if (!is_of_pairs(call)) return Below()->forward->attend(call);
        with_pairs(call, [&](auto calls) { calls.attend(call); });
      },
      [](const fovea_call& call, void* to) {
        if (!is_of_pairs(call)) return Below()->forward->attend_plan(call, to);
        with_pairs(call, [&](auto calls) { *static_cast<plan*>(to) = calls.attend_plan(call); });
      },
      is_of_pairs};

  static const fovea_compiled_table& table() {
    static const fovea_compiled_table all = [] {
      fovea_compiled_table table = *Below();
      table.forward = &forward;
      table.attend = [](const fovea_call* call, fovea_error* error) {
        return Below()->attend_by(&forward, call, error);
      };
      table.attend_workspace = [](const fovea_call* call, std::size_t* bytes, fovea_error* error) {
        return Below()->attend_workspace_by(&forward, call, bytes, error);
      };
      table.plan_create = [](const fovea_call* call, const fovea_gradients* gradients, fovea_plan** plan,
                             fovea_error* error) {
        return Below()->plan_create_by(&forward, call, gradients, plan, error);
      };
      return table;
    }();
    return all;
  }
};

}  // namespace described
FOVEA_NAMESPACE_END
