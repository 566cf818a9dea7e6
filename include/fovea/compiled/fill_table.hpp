// fovea/compiled/fill_table.hpp - the table of one instruction set; calls by their elements.
#pragma once

#include <fovea/compiled/caches.hpp>
#include <fovea/compiled/table.hpp>

FOVEA_NAMESPACE_BEGIN
namespace described {

/// f(value of type E) for the element that a call, cache or pool has.
template <class F>
void with_stored(std::int32_t element, const char* name, const F& f) {
  switch (element) {
    case FOVEA_F32:
      return f(float());
    case FOVEA_F64:
      return f(double());
    case FOVEA_BF16:
      return f(bf16());
    case FOVEA_F16:
      return f(fp16());
    case FOVEA_I8:
      return f(std::int8_t());
    default:
      reject(name, " has elements ", name_of_element(element), ", not F32, F64, BF16, F16 or I8");
  }
}
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
  if (call.caches == nullptr || call.caches[0] == nullptr) reject("caches is a null pointer");
  const std::int32_t element = reinterpret_cast<const any_cache*>(call.caches[0])->element();
  if ((call.q.element == FOVEA_F64) != (element == FOVEA_F64))
    reject("q has elements ", name_of_element(call.q.element), ", the cache ", name_of_element(element),
           ": F64 goes with F64 alone");
  with_stored(element, "a cache", f);
}

/// The functions of fovea.h.
struct entries {
  static std::int32_t attend(const fovea_call* given, fovea_error* error) {
    return guarded(error, [&] {
      const fovea_call call = whole(given, "call");
      if (call.cache_count != 0)
        return with_cached(call, [&](auto e) { cached_calls_of<decltype(e)>::attend(call); });
      with_element(call, [&](auto e) { calls_of<decltype(e)>::attend(call); });
    });
  }
  static std::int32_t attend_workspace(const fovea_call* given, std::size_t* bytes, fovea_error* error) {
    return guarded(error, [&] {
      const fovea_call call = whole(given, "call");
      if (bytes == nullptr) reject("bytes is a null pointer");
      if (call.cache_count != 0)
        return with_cached(call,
                           [&](auto e) { *bytes = cached_calls_of<decltype(e)>::attend_workspace(call); });
      with_element(call, [&](auto e) { *bytes = calls_of<decltype(e)>::attend_workspace(call); });
    });
  }
  static std::int32_t backward(const fovea_call* given, const fovea_gradients* gradients,
                               fovea_error* error) {
    return guarded(error, [&] {
      const fovea_call call = whole(given, "call");
      const fovea_gradients g = whole(gradients, "gradients");
      with_element(call, [&](auto e) { calls_of<decltype(e)>::backward(call, g); });
    });
  }
  static std::int32_t backward_workspace(const fovea_call* given, const fovea_gradients* gradients,
                                         std::size_t* bytes, fovea_error* error) {
    return guarded(error, [&] {
      const fovea_call call = whole(given, "call");
      const fovea_gradients g = whole(gradients, "gradients");
      if (bytes == nullptr) reject("bytes is a null pointer");
      with_element(call, [&](auto e) { *bytes = calls_of<decltype(e)>::backward_workspace(call, g); });
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

  static std::int32_t threads_create(std::int64_t workers, fovea_threads** made, fovea_error* error) {
    return guarded(error, [&] {
      if (made == nullptr) reject("threads is a null pointer");
      *made = reinterpret_cast<fovea_threads*>(new own_threads{threads(workers)});
    });
  }
  static void threads_destroy(fovea_threads* x) { delete reinterpret_cast<own_threads*>(x); }

  static std::int32_t pool_create(const fovea_pool_options* given, fovea_pool** made, fovea_error* error) {
    return guarded(error, [&] {
      const fovea_pool_options options = whole(given, "pool options");
      if (made == nullptr) reject("pool is a null pointer");
      with_stored(options.element, "a pool", [&](auto e) {
        any_pool* const pool = new pool_of<decltype(e), xsimd::default_arch>(options);
        *made = reinterpret_cast<fovea_pool*>(pool);
      });
    });
  }
  static void pool_destroy(fovea_pool* x) { delete reinterpret_cast<any_pool*>(x); }
  static std::int64_t pool_free_pages(const fovea_pool* x) {
    return x == nullptr ? 0 : reinterpret_cast<const any_pool*>(x)->free_pages();
  }

  static std::int32_t cache_create(const fovea_cache_options* given, fovea_cache** made, fovea_error* error) {
    return guarded(error, [&] {
      const fovea_cache_options options = whole(given, "cache options");
      if (made == nullptr) reject("cache is a null pointer");
      with_stored(options.element, "a cache", [&](auto e) {
        any_cache* const cache = cache_of<decltype(e), xsimd::default_arch>::make(options);
        *made = reinterpret_cast<fovea_cache*>(cache);
      });
    });
  }
  static void cache_destroy(fovea_cache* x) { delete reinterpret_cast<any_cache*>(x); }
  template <class F>
  static std::int32_t change(fovea_cache* x, fovea_error* error, const F& f) {
    return guarded(error, [&] {
      if (x == nullptr) reject("cache is a null pointer");
      f(*reinterpret_cast<any_cache*>(x));
    });
  }
  static std::int32_t cache_append(fovea_cache* x, const fovea_tensor* k, const fovea_tensor* v,
                                   fovea_error* error) {
    return change(x, error, [&](any_cache& cache) {
      if (k == nullptr || v == nullptr) reject(k == nullptr ? "k" : "v", " is a null pointer");
      cache.append(*k, *v);
    });
  }
  static std::int32_t cache_truncate(fovea_cache* x, std::int64_t tokens, fovea_error* error) {
    return change(x, error, [&](any_cache& cache) { cache.truncate_to(tokens); });
  }
  static std::int32_t cache_keep(fovea_cache* x, const fovea_list* kept, fovea_error* error) {
    return change(x, error, [&](any_cache& cache) {
      if (kept == nullptr) reject("kept is a null pointer");
      cache.keep(*kept);
    });
  }
  static std::int32_t cache_reserve(fovea_cache* x, std::int64_t capacity, fovea_error* error) {
    return change(x, error, [&](any_cache& cache) { cache.reserve(capacity); });
  }
  static std::int32_t cache_fork(const fovea_cache* x, fovea_cache** made, fovea_error* error) {
    return guarded(error, [&] {
      if (x == nullptr || made == nullptr) reject(x == nullptr ? "cache" : "fork", " is a null pointer");
      *made = reinterpret_cast<fovea_cache*>(reinterpret_cast<const any_cache*>(x)->fork());
    });
  }
  template <class F>
  static std::int64_t ask(const fovea_cache* x, const F& f) {
    return x == nullptr ? 0 : f(*reinterpret_cast<const any_cache*>(x));
  }
  static std::int64_t cache_tokens(const fovea_cache* x) {
    return ask(x, [](const any_cache& cache) { return cache.tokens(); });
  }
  static std::int64_t cache_position(const fovea_cache* x) {
    return ask(x, [](const any_cache& cache) { return cache.position(); });
  }
  static std::int64_t cache_bytes(const fovea_cache* x) {
    return ask(x, [](const any_cache& cache) { return cache.bytes(); });
  }

  static constexpr fovea_compiled_table table{
      attend,       attend_workspace, backward,        backward_workspace, weights,      logits,
      measure,      threads_create,   threads_destroy, pool_create,        pool_destroy, pool_free_pages,
      cache_create, cache_destroy,    cache_append,    cache_truncate,     cache_keep,   cache_reserve,
      cache_fork,   cache_tokens,     cache_position,  cache_bytes};
};

}  // namespace described
FOVEA_NAMESPACE_END
