// memory.cpp - the caches of a model, in each layout and storage type.
#include "memory.hpp"

#include <fovea/kv_cache.hpp>

namespace generate {
namespace {

template <class Cache>
class cached_memory : public memory {
 public:
  template <class Make>
  cached_memory(const memory_options& options, const Make& make) : options_(options) {
    for (int i = 0; i < options.layers; ++i) caches_.push_back(make());
  }

  void attend(int layer, Matrix& out, const Matrix& q, const Matrix& k, const Matrix& v,
              const fovea::rotary_angles<float>& angles, fovea::executor_ref executor) override {
    auto& cache = caches_[static_cast<std::size_t>(layer)];
    cache.append(k, v, angles, fovea::rotary_pairs::interleaved);
    const fovea::attention<float> attend(
        {.heads = options_.heads, .kv_heads = options_.kv_heads, .executor = executor});
    attend.into(out, q, cache, fovea::causal);
  }
  std::ptrdiff_t position() const override { return caches_.front().position(); }
  std::ptrdiff_t at_once() const override {
    const auto free =
        options_.capacity + (options_.layout == layout::ring ? options_.sinks : 0) - caches_.front().tokens();
    return options_.layout == layout::ring ? std::max<std::ptrdiff_t>(free, 1) : free;
  }
  std::ptrdiff_t bytes() const override { return options_.layers * caches_.front().bytes(); }

 private:
  memory_options options_;
  std::vector<Cache> caches_;
};

/// A pool of pages for all layers, and its sequences.
template <class E>
struct pages_first {
  explicit pages_first(const memory_options& o)
      : pool({.pages = o.layers * ((o.capacity + 15) / 16),
              .page_tokens = 16,
              .heads = o.kv_heads,
              .dim = o.dim}) {}
  fovea::page_pool<E> pool;
};
template <class E>
class paged_memory : pages_first<E>, public cached_memory<fovea::paged_cache<E>> {
 public:
  explicit paged_memory(const memory_options& o)
      : pages_first<E>(o),
        cached_memory<fovea::paged_cache<E>>(o, [this] { return fovea::paged_cache<E>(this->pool); }) {}
  std::ptrdiff_t bytes() const override { return this->pool.bytes(); }
};

}  // namespace

template <class E>
std::unique_ptr<memory> make_memory(const memory_options& o) {
  if (o.layout == layout::paged) return std::make_unique<paged_memory<E>>(o);
  if (o.layout == layout::ring)
    return std::make_unique<cached_memory<fovea::ring_cache<E>>>(
        o, [&] { return fovea::ring_cache<E>(o.capacity, o.dim, {.heads = o.kv_heads, .sinks = o.sinks}); });
  return std::make_unique<cached_memory<fovea::kv_cache<E>>>(
      o, [&] { return fovea::kv_cache<E>(o.capacity, o.dim, {.heads = o.kv_heads}); });
}

template std::unique_ptr<memory> make_memory<float>(const memory_options&);
template std::unique_ptr<memory> make_memory<fovea::bf16>(const memory_options&);
template std::unique_ptr<memory> make_memory<fovea::fp16>(const memory_options&);
template std::unique_ptr<memory> make_memory<std::int8_t>(const memory_options&);

}  // namespace generate
