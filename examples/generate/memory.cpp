// memory.cpp - the caches of a model, in each layout and storage type.
#include "memory.hpp"

#include <fovea/kv_cache.hpp>

namespace generate {
namespace {

constexpr Eigen::Index page_tokens = 16;
constexpr Eigen::Index first_tokens = 256;  // that there is room for from the start

/// The bytes of `tokens` tokens of all layers: about, for std::int8_t, whose scales come in blocks of 32.
template <class E>
double bytes_of(const memory_options& o, Eigen::Index tokens) {
  const double heads = static_cast<double>(o.layers) * static_cast<double>(o.kv_heads) *
                       static_cast<double>(tokens),
               dim = static_cast<double>(o.dim);
  const double scales = std::is_same_v<E, std::int8_t> ? 4 + 4 * dim / 32 : 0;
  return heads * (2 * dim * static_cast<double>(sizeof(E)) + scales);
}
template <class E>
auto with_memory(const memory_options& o, Eigen::Index tokens, const auto& get) {
  return with_memory_for(
      "the keys and values of " + std::to_string(tokens) + " tokens (--context, --kv, --cache)",
      bytes_of<E>(o, tokens), get);
}

template <class E, class Cache>
class cached_memory : public memory {
 public:
  explicit cached_memory(const memory_options& options) : options_(options) {}

  void attend(Eigen::Index layer, Matrix& out, const Matrix& q, const Matrix& k, const Matrix& v,
              const fovea::rotary_angles<float>& angles, fovea::executor_ref executor) override {
    auto& cache = caches_[static_cast<std::size_t>(layer)];
    make_room(cache, k.rows());
    cache.append(k, v, angles, fovea::rotary_pairs::interleaved);
    const fovea::attention<float> attend(
        {.heads = options_.heads, .kv_heads = options_.kv_heads, .executor = executor});
    attend.into(out, q, cache, fovea::causal);
  }
  Eigen::Index position() const override { return caches_.front().position(); }
  Eigen::Index room() const override { return options_.tokens - position(); }
  Eigen::Index at_once() const override { return room(); }
  Eigen::Index bytes() const override {
    Eigen::Index sum = 0;
    for (const Cache& cache : caches_) sum += cache.bytes();
    return sum;
  }

 protected:
  virtual void make_room(Cache& cache, Eigen::Index count) = 0;
  template <class Make>
  void make_caches(const Make& make) {
    for (Eigen::Index i = 0; i < options_.layers; ++i) caches_.push_back(make());
  }

  memory_options options_;
  std::vector<Cache> caches_;
};

/// One layer after another grows, so that no more than one of them is there twice.
template <class E>
class contiguous_memory : public cached_memory<E, fovea::kv_cache<E>> {
 public:
  explicit contiguous_memory(const memory_options& o) : cached_memory<E, fovea::kv_cache<E>>(o) {
    with_memory<E>(o, most(first_tokens), [&] {
      this->make_caches([&] { return fovea::kv_cache<E>(most(first_tokens), o.dim, {.heads = o.kv_heads}); });
    });
  }

 protected:
  void make_room(fovea::kv_cache<E>& cache, Eigen::Index count) override {
    const Eigen::Index needed = cache.tokens() + count;
    if (needed <= cache.capacity()) return;
    const Eigen::Index larger = std::max(most(2 * cache.capacity()), most(needed));
    with_memory<E>(this->options_, larger, [&] { cache.reserve(larger); });
  }

 private:
  /// `tokens`, or all that may come; in steps of 32, which share the scales of int8 keys.
  Eigen::Index most(Eigen::Index tokens) const {
    return (std::min(tokens, this->options_.tokens) + 31) / 32 * 32;
  }
};

/// In 4 bits. Queries are turned as keys and values are when they are stored, and results back.
class q4_memory : public memory {
 public:
  explicit q4_memory(const memory_options& o) : options_(o) {
    with_room(most(first_tokens), [&] {
      for (Eigen::Index i = 0; i < o.layers; ++i)
        caches_.emplace_back(most(first_tokens), o.dim, fovea::cache_options{.heads = o.kv_heads});
    });
  }

  void attend(Eigen::Index layer, Matrix& out, const Matrix& q, const Matrix& k, const Matrix& v,
              const fovea::rotary_angles<float>& angles, fovea::executor_ref executor) override {
    auto& cache = caches_[static_cast<std::size_t>(layer)];
    if (const Eigen::Index needed = cache.tokens() + k.rows(); needed > cache.capacity()) {
      const Eigen::Index larger = std::max(most(2 * cache.capacity()), most(needed));
      with_room(larger, [&] { cache.reserve(larger); });
    }
    cache.append(k, v, angles, fovea::rotary_pairs::interleaved);
    turned_.resize(q.rows(), q.cols());
    fovea::hadamard_into(turned_, q, options_.heads);
    const fovea::attention<float> attend(
        {.heads = options_.heads, .kv_heads = options_.kv_heads, .executor = executor});
    attend.into(out, turned_, cache, fovea::causal);
    fovea::hadamard_into(out, out, options_.heads);
  }
  Eigen::Index position() const override { return caches_.front().position(); }
  Eigen::Index room() const override { return options_.tokens - position(); }
  Eigen::Index at_once() const override { return room(); }
  Eigen::Index bytes() const override {
    Eigen::Index sum = 0;
    for (const auto& cache : caches_) sum += cache.bytes();
    return sum;
  }

 private:
  /// In whole blocks of keys.
  Eigen::Index most(Eigen::Index tokens) const { return (std::min(tokens, options_.tokens) + 31) / 32 * 32; }
  template <class Get>
  void with_room(Eigen::Index tokens, const Get& get) {
    const double numbers = 2 * static_cast<double>(options_.layers * options_.kv_heads * options_.dim);
    with_memory_for("the keys and values of " + std::to_string(tokens) + " tokens (--context, --kv, --cache)",
                    0.6 * numbers * static_cast<double>(tokens), get);
  }

  memory_options options_;
  std::vector<fovea::q4_cache<>> caches_;
  Matrix turned_;
};

/// A pool of pages for all layers, and its sequences.
template <class E>
struct pages_first {
  explicit pages_first(const memory_options& o)
      : pool(with_memory<E>(o, std::min(first_tokens, o.tokens), [&] {
          return std::make_unique<fovea::page_pool<E>>(
              fovea::pool_options{.pages = pages_of(o, std::min(first_tokens, o.tokens)),
                                  .page_tokens = page_tokens,
                                  .heads = o.kv_heads,
                                  .dim = o.dim});
        })) {}
  static Eigen::Index pages_of(const memory_options& o, Eigen::Index tokens) {
    return o.layers * ((tokens + page_tokens - 1) / page_tokens);
  }
  std::unique_ptr<fovea::page_pool<E>> pool;
};
template <class E>
class paged_memory : pages_first<E>, public cached_memory<E, fovea::paged_cache<E>> {
 public:
  explicit paged_memory(const memory_options& o)
      : pages_first<E>(o), cached_memory<E, fovea::paged_cache<E>>(o) {
    this->make_caches([this] { return fovea::paged_cache<E>(*this->pool); });
  }
  Eigen::Index bytes() const override { return this->pool->bytes(); }

 protected:
  void make_room(fovea::paged_cache<E>& cache, Eigen::Index count) override {
    const Eigen::Index needed = cache.tokens() + count;
    const Eigen::Index pages = (needed + page_tokens - 1) / page_tokens;
    if (pages - static_cast<Eigen::Index>(cache.pages().size()) <= this->pool->free_pages()) return;
    const memory_options& o = this->options_;
    const Eigen::Index larger = std::min(std::max(2 * cache.tokens(), needed), o.tokens);
    with_memory<E>(o, larger, [&] { this->pool->grow(this->pages_of(o, larger)); });
  }
};

template <class E>
class ring_memory : public cached_memory<E, fovea::ring_cache<E>> {
 public:
  explicit ring_memory(const memory_options& o) : cached_memory<E, fovea::ring_cache<E>>(o) {
    with_memory<E>(o, o.tokens + o.sinks, [&] {
      this->make_caches(
          [&] { return fovea::ring_cache<E>(o.tokens, o.dim, {.heads = o.kv_heads, .sinks = o.sinks}); });
    });
  }
  Eigen::Index room() const override { return std::numeric_limits<Eigen::Index>::max(); }
  Eigen::Index at_once() const override {
    const memory_options& o = this->options_;
    return std::max<Eigen::Index>(o.tokens + o.sinks - this->caches_.front().tokens(), 1);
  }

 protected:
  void make_room(fovea::ring_cache<E>&, Eigen::Index) override {}
};

}  // namespace

template <class E>
std::unique_ptr<memory> make_memory(const memory_options& o) {
  if (o.layout == layout::paged) return std::make_unique<paged_memory<E>>(o);
  if (o.layout == layout::ring) return std::make_unique<ring_memory<E>>(o);
  return std::make_unique<contiguous_memory<E>>(o);
}

std::unique_ptr<memory> make_memory_of_4_bits(const memory_options& o) {
  return std::make_unique<q4_memory>(o);
}

template std::unique_ptr<memory> make_memory<float>(const memory_options&);
template std::unique_ptr<memory> make_memory<fovea::bf16>(const memory_options&);
template std::unique_ptr<memory> make_memory<fovea::fp16>(const memory_options&);
template std::unique_ptr<memory> make_memory<fovea::fp8>(const memory_options&);
template std::unique_ptr<memory> make_memory<std::int8_t>(const memory_options&);

}  // namespace generate
