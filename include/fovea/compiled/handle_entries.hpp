// fovea/compiled/handle_entries.hpp - the functions of the C header that make, change and ask threads, pools
// and caches.
#pragma once

#include <fovea/compiled/caches.hpp>
#include <fovea/compiled/table.hpp>

#include <fstream>

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
struct handle_entries {
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
      cache.append(*k, *v, nullptr);
    });
  }
  static std::int32_t cache_append_rotated(fovea_cache* x, const fovea_tensor* k, const fovea_tensor* v,
                                           const fovea_rotary* given, fovea_error* error) {
    return change(x, error, [&](any_cache& cache) {
      if (k == nullptr || v == nullptr) reject(k == nullptr ? "k" : "v", " is a null pointer");
      const fovea_rotary angles = whole(given, "angles");
      cache.append(*k, *v, &angles);
    });
  }
  static std::int32_t cache_save(const fovea_cache* x, const char* path, fovea_error* error) {
    return guarded(error, [&] {
      if (x == nullptr || path == nullptr) reject(x == nullptr ? "cache" : "path", " is a null pointer");
      const any_cache& cache = *reinterpret_cast<const any_cache*>(x);
      cache.check_contiguous("save");  // before a file that is there loses what it holds
      std::ofstream out(path, std::ios::binary);
      if (!out) throw std::runtime_error(std::string("fovea: the file ") + path + " can not be written");
      cache.save(out);
      if (!out.flush())
        throw std::runtime_error(std::string("fovea: the file ") + path + " can not be written");
    });
  }
  static std::int32_t cache_load(fovea_cache* x, const char* path, fovea_error* error) {
    return change(x, error, [&](any_cache& cache) {
      if (path == nullptr) reject("path is a null pointer");
      std::ifstream in(path, std::ios::binary);
      if (!in) throw std::runtime_error(std::string("fovea: the file ") + path + " can not be read");
      cache.load(in);
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
};

}  // namespace described
FOVEA_NAMESPACE_END
