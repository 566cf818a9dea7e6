// fovea/compiled/fill_table.hpp - the table of one instruction set; calls by their elements.
#pragma once

#include <fovea/compiled/beside.hpp>
#include <fovea/compiled/handle_entries.hpp>
#include <fovea/compiled/table.hpp>

FOVEA_NAMESPACE_BEGIN
namespace described {

template <class F>
void with_element(const fovea_call& call, const F& f) {
  if (call.q.element < FOVEA_F32 || call.q.element > FOVEA_F16)
    reject("q has elements ", name_of_element(call.q.element), ", not F32, F64, BF16 or F16");
  with_stored(call.q.element, "q", [&](auto e) {
    if constexpr (!std::is_same_v<decltype(e), std::int8_t>) f(e);
  });
}
template <class F>
void with_cached(const fovea_call& call, const F& f) {
  check_count("caches", call.cache_count, most_caches);
  const std::int32_t element = cache_of_call(call, 0).element();
  if ((call.q.element == FOVEA_F64) != (element == FOVEA_F64))
    reject("q has elements ", name_of_element(call.q.element), ", the cache ", name_of_element(element),
           ": F64 goes with F64 alone");
  with_stored(element, "a cache", f);
}

/// f(calls of the elements of q, or of the caches). Of a library that is compiled once, for a processor that
/// multiplies pairs, as pair_entries.
template <class F>
void with_calls(const fovea_call& call, const F& f) {
  if constexpr (kernel::multiplies_pairs<xsimd::default_arch>)
    if (call.cache_count > 0 && is_of_pairs(call))
      return f(cached_calls_of<bf16, xsimd::default_arch, bf16>());
  if (call.cache_count != 0) return with_cached(call, [&](auto e) { f(cached_calls_of<decltype(e)>()); });
  with_element(call, [&](auto e) { f(calls_of<decltype(e)>()); });
}
/// f(calls that gate and look), of the numbers of q.
template <class F>
void with_besides(const fovea_call& call, const F& f) {
  call.q.element == FOVEA_F64 ? f(besides_of<double>()) : f(besides_of<float>());
}

/// The functions of fovea.h.
struct entries : handle_entries {
  static void check_as_q(const fovea_call& call, const char* name, const fovea_tensor& x) {
    if (x.element != call.q.element)
      reject(name, " has elements ", name_of_element(x.element), ", not ", name_of_element(call.q.element),
             " as q");
  }
  static constexpr fovea_forward_kernels forward{
      [](const fovea_call& call) { with_calls(call, [&](auto calls) { calls.attend(call); }); },
      [](const fovea_call& call, void* to) {
        with_calls(call, [&](auto calls) { *static_cast<plan*>(to) = calls.attend_plan(call); });
      },
      [](const fovea_call& call) {
        return kernel::multiplies_pairs<xsimd::default_arch> && is_of_pairs(call);
      }};

  /// f(call) as kernels know it: with a gate, results of 16 bits are floats until they are gated; with
  /// caches, unless the kernels take them as they are. Whoever runs the call, and not a plan of it, then
  /// stores what is wide.
  template <class F>
  static void with_wide(const fovea_forward_kernels& kernels, fovea_call call, widened& wide, const F& f) {
    const bool widens = call.gate.data != nullptr || (call.cache_count != 0 && !kernels.takes_narrow(call));
    if (writes_beside(call)) with_besides(call, [&](auto besides) { besides.check(call); });
    if (writes_beside(call) || (widens && is_narrow(call.q))) check_results(call);
    if (!widens) return f(call);
    check_as_q(call, "o", call.o);
    if (call.cache_count == 0) {
      check_as_q(call, "k", call.k), check_as_q(call, "v", call.v);
      wide.read(call.k, "k"), wide.read(call.v, "v");
    }
    wide.read(call.q, "q"), wide.write(call.o, "o");
    f(call);
  }
  static std::int32_t attend_by(const fovea_forward_kernels* kernels, const fovea_call* given,
                                fovea_error* error) {
    return guarded(error, [&] {
      widened wide;
      with_wide(*kernels, whole(given, "call"), wide, [&](const fovea_call& call) {
        if (!writes_beside(call)) return kernels->attend(call);
        with_besides(call, [&](auto besides) { besides.attend(call, kernels->attend); });
      });
      wide.store();
    });
  }
  static std::int32_t attend(const fovea_call* given, fovea_error* error) {
    return attend_by(&forward, given, error);
  }
  static plan attend_plan(const fovea_forward_kernels& kernels, const fovea_call& given) {
    plan made;
    widened wide;
    with_wide(kernels, given, wide, [&](const fovea_call& call) { kernels.attend_plan(call, &made); });
    return made;
  }
  static std::int32_t attend_workspace_by(const fovea_forward_kernels* kernels, const fovea_call* given,
                                          std::size_t* bytes, fovea_error* error) {
    return guarded(error, [&] {
      const fovea_call call = whole(given, "call");
      if (bytes == nullptr) reject("bytes is a null pointer");
      *bytes = static_cast<std::size_t>(attend_plan(*kernels, call).workspace_bytes());
    });
  }
  static std::int32_t attend_workspace(const fovea_call* given, std::size_t* bytes, fovea_error* error) {
    return attend_workspace_by(&forward, given, bytes, error);
  }

  /// f(call, gradients), the same of a backward call.
  template <class F>
  static void with_wide(fovea_call call, fovea_gradients g, widened& wide, const F& f) {
    if (call.gate.data == nullptr && g.d_gate.data != nullptr)
      reject("d_gate has ", g.d_gate.tokens, " tokens, but there is no gate");
    if (call.gate.data == nullptr) return f(call, g);
    with_besides(call, [&](auto besides) { besides.check(call, g); });
    check_results(call, g);
    check_as_q(call, "k", call.k), check_as_q(call, "v", call.v), check_as_q(call, "o", call.o);
    check_as_q(call, "d_o", g.d_o), check_as_q(call, "d_q", g.d_q), check_as_q(call, "d_k", g.d_k);
    check_as_q(call, "d_v", g.d_v);
    wide.read(call.q, "q"), wide.read(call.k, "k"), wide.read(call.v, "v"), wide.read(call.o, "o");
    wide.read(g.d_o, "d_o"), wide.write(g.d_q, "d_q"), wide.write(g.d_k, "d_k"), wide.write(g.d_v, "d_v");
    if (g.d_gate.data != nullptr) wide.write(g.d_gate, "d_gate");
    f(call, g);
  }
  static std::int32_t backward(const fovea_call* given, const fovea_gradients* gradients,
                               fovea_error* error) {
    return guarded(error, [&] {
      const auto run = [](const fovea_call& call, const fovea_gradients& g) {
        with_element(call, [&](auto e) { calls_of<decltype(e)>::backward(call, g); });
      };
      widened wide;
      with_wide(whole(given, "call"), whole(gradients, "gradients"), wide,
                [&](const fovea_call& call, const fovea_gradients& g) {
                  if (call.gate.data == nullptr) return run(call, g);
                  with_besides(call, [&](auto besides) { besides.backward(call, g, run); });
                });
      wide.store();
    });
  }
  static gradient_plan backward_plan(const fovea_call& given, const fovea_gradients& gradients) {
    gradient_plan made;
    widened wide;
    with_wide(given, gradients, wide, [&](const fovea_call& call, const fovea_gradients& g) {
      with_element(call, [&](auto e) { made = calls_of<decltype(e)>::backward_plan(call, g); });
    });
    return made;
  }
  static std::int32_t backward_workspace(const fovea_call* given, const fovea_gradients* gradients,
                                         std::size_t* bytes, fovea_error* error) {
    return guarded(error, [&] {
      const fovea_call call = whole(given, "call");
      const fovea_gradients g = whole(gradients, "gradients");
      if (bytes == nullptr) reject("bytes is a null pointer");
      *bytes = static_cast<std::size_t>(backward_plan(call, g).workspace_bytes());
    });
  }
  static std::int32_t plan_create(const fovea_call* given, const fovea_gradients* gradients,
                                  fovea_plan** made, fovea_error* error) {
    return plan_create_by(&forward, given, gradients, made, error);
  }
  static std::int32_t plan_create_by(const fovea_forward_kernels* kernels, const fovea_call* given,
                                     const fovea_gradients* gradients, fovea_plan** made,
                                     fovea_error* error) {
    return guarded(error, [&] {
      const fovea_call call = whole(given, "call");
      if (made == nullptr) reject("plan is a null pointer");
      any_plan one;
      if (gradients != nullptr)
        one.of = backward_plan(call, whole(gradients, "gradients"));
      else
        one.of = attend_plan(*kernels, call);
      *made = reinterpret_cast<fovea_plan*>(new any_plan(std::move(one)));
    });
  }
  static void plan_destroy(fovea_plan* x) { delete reinterpret_cast<any_plan*>(x); }
  static std::int64_t plan_workspace(const fovea_plan* x) {
    return x == nullptr ? 0 : reinterpret_cast<const any_plan*>(x)->workspace_bytes();
  }
  static std::int32_t plan_explain(const fovea_plan* x, char* text, std::size_t size, fovea_error* error) {
    return guarded(error, [&] {
      if (x == nullptr || text == nullptr || size == 0)
        reject(x == nullptr ? "plan is a null pointer" : "text has no room: a null pointer, or 0 bytes");
      std::strncpy(text, reinterpret_cast<const any_plan*>(x)->explain().c_str(), size - 1);
      text[size - 1] = 0;
    });
  }
  static std::int32_t rotate(const fovea_rotary* angles, const fovea_tensor* x, std::int64_t first,
                             const fovea_tensor* to, fovea_error* error) {
    return guarded(error, [&] {
      if (x == nullptr || to == nullptr) reject(x == nullptr ? "x" : "to", " is a null pointer");
      rotate_tensor<xsimd::default_arch>(whole(angles, "angles"), *x, first, *to);
    });
  }

  /// f(number type) of what looks at q and k.
  template <class F>
  static std::int32_t inspect(const fovea_call* given, fovea_error* error, const F& f) {
    return guarded(error, [&] {
      const fovea_call call = whole(given, "call");
      with_element(call, [&](auto e) { f(call, common_compute_t<decltype(e)>()); });
    });
  }
  static std::int32_t weights(const fovea_call* given, const fovea_tensor* to, fovea_error* error) {
    return inspect(given, error, [&](const fovea_call& call, auto number) {
      if (to == nullptr) reject("weights is a null pointer");
      inspections_of<decltype(number)>::weights(call, *to);
    });
  }
  static std::int32_t logits(const fovea_call* given, const fovea_tensor* to, fovea_error* error) {
    return inspect(given, error, [&](const fovea_call& call, auto number) {
      if (to == nullptr) reject("logits is a null pointer");
      inspections_of<decltype(number)>::logits(call, *to);
    });
  }
  static std::int32_t measure(const fovea_call* given, const fovea_statistics* to, fovea_error* error) {
    return inspect(given, error, [&](const fovea_call& call, auto number) {
      inspections_of<decltype(number)>::measure(call, whole(to, "statistics"));
    });
  }

  static constexpr fovea_compiled_table table{attend,
                                              attend_workspace,
                                              backward,
                                              backward_workspace,
                                              weights,
                                              logits,
                                              measure,
                                              plan_create,
                                              plan_destroy,
                                              plan_workspace,
                                              plan_explain,
                                              rotate,
                                              threads_create,
                                              threads_destroy,
                                              pool_create,
                                              pool_destroy,
                                              pool_free_pages,
                                              cache_create,
                                              cache_destroy,
                                              cache_append,
                                              cache_append_rotated,
                                              cache_save,
                                              cache_load,
                                              cache_truncate,
                                              cache_keep,
                                              cache_reserve,
                                              cache_fork,
                                              cache_tokens,
                                              cache_position,
                                              cache_bytes,
                                              &forward,
                                              attend_by,
                                              attend_workspace_by,
                                              plan_create_by};
};

}  // namespace described
FOVEA_NAMESPACE_END
