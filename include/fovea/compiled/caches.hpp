// fovea/compiled/caches.hpp - caches of the C header: one type an element, whatever their layout.
#pragma once

#include <fovea/compiled/inspect.hpp>
#include <fovea/compiled/rotary.hpp>
#include <fovea/kv_cache/contiguous.hpp>
#include <fovea/kv_cache/paged.hpp>
#include <fovea/kv_cache/read_tokens.hpp>
#include <fovea/kv_cache/ring.hpp>

#include <variant>

FOVEA_NAMESPACE_BEGIN
namespace described {

template <class E, class Arch>
class pool_of final : public any_pool {
 public:
  explicit pool_of(const fovea_pool_options& o)
      : any_pool(element_code<E>),
        pool({.pages = o.pages,
              .page_tokens = o.page_tokens,
              .heads = o.heads,
              .dim = o.dim,
              .value_dim = o.value_dim}) {}
  index_type free_pages() const noexcept override { return pool.free_pages(); }
  page_pool<E, dynamic_heads, E, Arch> pool;
};

/// Keys and values stored as E. Kernels are compiled for this type, and ask it for pieces: once a block.
template <class E, class Arch>
class cache_of final : public any_cache {
  using contiguous = kv_cache<E, dynamic_heads, E, Arch>;
  using ring = ring_cache<E, dynamic_heads, E, Arch>;
  using paged = paged_cache<E, dynamic_heads, E, Arch>;

 public:
  using compute = typename contiguous::compute;
  template <caching::side>
  using stored = E;

  template <class Cache>
  explicit cache_of(Cache&& cache) : any_cache(element_code<E>), cache_(std::forward<Cache>(cache)) {}

  static any_cache* make(const fovea_cache_options& o) {
    switch (o.kind) {
      case FOVEA_CONTIGUOUS:
        return new cache_of(contiguous(o.capacity, o.dim, {.heads = o.heads, .value_dim = o.value_dim}));
      case FOVEA_RING:
        return new cache_of(
            ring(o.capacity, o.dim, {.heads = o.heads, .value_dim = o.value_dim, .sinks = o.sinks}));
      case FOVEA_PAGED: {
        auto* const pool = reinterpret_cast<any_pool*>(o.pool);
        if (pool == nullptr) reject("the pool of a paged cache is a null pointer");
        if (pool->element() != element_code<E>)
          reject("a cache of ", name_of_element(element_code<E>), " has a pool of ",
                 name_of_element(pool->element()));
        return new cache_of(paged(static_cast<pool_of<E, Arch>*>(pool)->pool));
      }
      default:
        reject("a cache has the kind ", o.kind, ", no fovea_cache_kind");
    }
  }

  /// Keys are turned in a copy, which costs what reading them does.
  void append(const fovea_tensor& k, const fovea_tensor& v, const fovea_rotary* angles) override {
    const as_numbers<compute> keys(k, "k", angles != nullptr), values(v, "v");
    if (angles != nullptr) {
      if (keys.view.dim != dim())
        reject("k has ", keys.view.dim, " dimensions a head but the cache has ", dim());
      turn<Arch>(keys.copy_view(), keys.view, *angles, position());
    }
    std::visit([&](auto& cache) { cache.append(keys.view, values.view); }, cache_);
  }
  void truncate_to(index_type tokens) override {
    std::visit([&](auto& cache) { cache.truncate(tokens); }, cache_);
  }
  void keep(const fovea_list& kept) override { whole_cache("keep").keep(integers(kept, "kept")); }
  void reserve(index_type capacity) override { whole_cache("reserve").reserve(capacity); }
  any_cache* fork() const override {
    const auto* const in_pages = std::get_if<paged>(&cache_);
    if (in_pages == nullptr) reject("fork is of paged caches: a cache of another kind has no pages to share");
    return new cache_of(in_pages->fork());
  }
  void save(std::ostream& out) const override {
    check_contiguous("save");
    std::get_if<contiguous>(&cache_)->save(out);
  }
  void check_contiguous(const char* what) const override {
    if (!std::holds_alternative<contiguous>(cache_))
      reject(what, " is of contiguous caches, not of a ",
             std::holds_alternative<ring>(cache_) ? "ring" : "paged", " cache");
  }
  void load(std::istream& in) override { whole_cache("load").load(in); }
  void read_keys(index_type head, void* to) const noexcept override {
    const caching::cached_head<cache_of, caching::side::keys> keys{this, head, tokens(), dim(), 0};
    caching::read_tokens(keys, {0, keys.rows}, static_cast<compute*>(to), keys.cols);
  }
  index_type tokens() const noexcept override {
    return ask([](const auto& cache) { return cache.tokens(); });
  }
  index_type position() const noexcept override {
    return ask([](const auto& cache) { return cache.position(); });
  }
  index_type bytes() const noexcept override {
    return ask([](const auto& cache) { return cache.bytes(); });
  }

  // What a call reads: see kv_cache/cached.hpp.
  index_type heads() const noexcept override {
    return ask([](const auto& cache) { return cache.heads(); });
  }
  index_type dim() const noexcept override { return dim_of(caching::side::keys); }
  index_type value_dim() const noexcept { return dim_of(caching::side::values); }
  index_type dim_of(caching::side which) const noexcept {
    return ask([&](const auto& cache) { return cache.dim_of(which); });
  }
  std::span<const std::byte> memory() const noexcept override {
    return ask([](const auto& cache) { return cache.memory(); });
  }
  template <caching::side Side, class F>
  void each_piece(index_type head, range wanted, F&& f) const noexcept {
    ask([&](const auto& cache) { cache.template each_piece<Side>(head, wanted, f); });
  }

 private:
  template <class F>
  auto ask(const F& f) const noexcept {
    if (const auto* const one = std::get_if<contiguous>(&cache_)) return f(*one);
    if (const auto* const one = std::get_if<ring>(&cache_)) return f(*one);
    return f(*std::get_if<paged>(&cache_));
  }
  contiguous& whole_cache(const char* what) {
    check_contiguous(what);
    return *std::get_if<contiguous>(&cache_);
  }
  std::variant<contiguous, ring, paged> cache_;
};

/// Whether queries and keys are bf16, of which a processor may multiply pairs.
inline bool is_of_pairs(const fovea_call& call) {
  return call.q.element == FOVEA_BF16 &&
         (call.cache_count <= 0 || cache_of_call(call, 0).element() == FOVEA_BF16);
}

/// Calls with caches of E: q and o are float, or double. (Of 16 bits they come by way of float, see widened,
/// which changes no bit but where a processor multiplies pairs of bf16: see pair_entries.hpp.)
template <class E, class Arch = xsimd::default_arch, class Q = typename cache_of<E, Arch>::compute>
struct cached_calls_of {
  using cache = cache_of<E, Arch>;
  using T = typename cache::compute;

  /// run(attention, q, caches, o, offsets, modifiers...).
  template <class Run>
  static void with_caches(const fovea_call& call, const Run& run) {
    if (call.k.data != nullptr || call.v.data != nullptr) reject("the call has both caches and k or v");
    const call_executor workers(call);
    const call_offsets offsets(call);
    std::vector<const cache*> list;
    check_count("caches", call.cache_count, most_caches);
    for (std::int64_t b = 0; b < call.cache_count; ++b) {
      const any_cache& one = cache_of_call(call, b);
      if (one.element() != element_code<E>)
        reject("cache ", b, " of a call has elements ", name_of_element(one.element()), ", the first has ",
               name_of_element(element_code<E>));
      list.push_back(static_cast<const cache*>(&one));
    }
    const cache_batch<cache> caches(borrowed_span<const cache* const>(list.data(), list.size()));
    const auto queries = offsets.queries<const Q>(call.q, "q");
    const attention<Q, dynamic_heads, dynamic_heads, Arch> attend(
        options_of(call, caches.keys().heads(), workers));
    call_rules<Arch, T> rules(call, queries.all.heads);
    const auto o = offsets.queries<Q>(call.o, "o");
    rules.inspect([&](const auto&... mods) { run(attend, queries, caches, o, offsets, mods...); },
                  "calls with caches");
  }

  static void attend(const fovea_call& call) {
    with_caches(call, [&](const auto& attend, const auto& q, const auto& caches, const auto& o,
                          const call_offsets& offsets, const auto&... mods) {
      const plan_of_call<plan> planned(call);
      if (call.lse.data == nullptr) return attend.into(o, q, caches, mods..., workspace_of(call), planned);
      attend.with_lse_into(o, offsets.queries<T>(call.lse, "lse"), q, caches, mods..., workspace_of(call),
                           planned);
    });
  }
  static plan attend_plan(const fovea_call& call) {
    plan made;
    with_caches(call,
                [&](const auto& attend, const auto& q, const auto& caches, const auto& o, const call_offsets&,
                    const auto&... mods) { made = attend.into_plan_for(o, q, caches, mods...); });
    return made;
  }
};

}  // namespace described
FOVEA_NAMESPACE_END
