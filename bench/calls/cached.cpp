// bench/calls/cached.cpp - a workload becomes one call of fovea::attention on caches, a sequence each.
#include "../call.hpp"

#include <fovea/kv_cache.hpp>

namespace bench {
namespace {

template <class E, class Cache>
struct cached_operands : operands<float, E> {
  using operands<float, E>::operands;
  std::vector<Cache> caches;
  std::vector<const Cache*> all;
};

template <class KV>
struct paged_pool {
  fovea::page_pool<KV> pool;
  std::vector<fovea::paged_cache<KV>> pages;

  /// Pages come from it in random order: each was taken once, and given back in that order.
  explicit paged_pool(const workload& w)
      : pool({.pages = w.batch * fovea::ceil_div(w.keys, w.page_tokens),
              .page_tokens = w.page_tokens,
              .heads = w.kv_heads,
              .dim = w.dim,
              .value_dim = w.value_dim}) {
    const std::vector<float> zero(static_cast<std::size_t>(w.kv_heads * std::max(w.dim, w.value_dim)));
    for (index_type i = 0; i < pool.pages(); ++i) {
      pages.emplace_back(pool);
      pages.back().append(fovea::bshd(zero.data(), 1, 1, w.kv_heads, w.dim),
                          fovea::bshd(zero.data(), 1, 1, w.kv_heads, w.value_dim));
    }
    std::shuffle(pages.begin(), pages.end(), std::mt19937(1));
    for (auto& page : pages) page.reset();
  }
};

template <class KV, class Make>
call call_of(const workload& w, const Make& make) {
  using cache_type = decltype(make());
  const auto data = std::make_shared<cached_operands<float, cache_type>>(w);
  for (index_type b = 0; b < w.batch; ++b) {
    const index_type tokens = w.lengths.empty() ? w.keys : w.lengths[static_cast<std::size_t>(b)];
    const auto part = [&](const numbers<float>& x, index_type dim) {
      auto all = fovea::bhsd(x.data() + b * w.kv_heads * w.keys * dim, 1, w.kv_heads, w.keys, dim);
      all.tokens = tokens;
      return all;
    };
    data->caches.push_back(make());
    data->caches.back().append(part(data->k, w.dim), part(data->v, w.value_dim));
  }
  for (const auto& cache : data->caches) data->all.push_back(&cache);
  data->k = {}, data->v = {};
  const auto q = fovea::bhsd(std::as_const(data->q).data(), w.batch, w.heads, w.queries, w.dim);
  const auto o = fovea::bhsd(data->o.data(), w.batch, w.heads, w.queries, w.value_dim);
  const fovea::cache_batch batch(data->all);
  fovea::attention_options options{.heads = w.heads, .kv_heads = w.kv_heads, .executor = data->executor()};
  call timed;
  timed.scratch_bytes = fovea::attention<float>(options).plan_for(q, batch, fovea::causal).workspace_bytes();
  data->workspace.resize(static_cast<std::size_t>(timed.scratch_bytes));
  options.workspace = data->workspace;
  const fovea::attention<float> attend(options);
  timed.run = [data, attend, q, o, batch]() mutable { attend.into(o, q, batch, fovea::causal); };
  return timed;
}

template <class KV>
call call_with(const workload& w) {
  if (w.cache == cache::contiguous)
    return call_of<KV>(w, [&] {
      return fovea::kv_cache<KV>(w.keys, w.dim, {.heads = w.kv_heads, .value_dim = w.value_dim});
    });
  if (w.cache == cache::ring)
    return call_of<KV>(w, [&] {
      return fovea::ring_cache<KV>(w.keys, w.dim, {.heads = w.kv_heads, .value_dim = w.value_dim});
    });
  const auto shared = std::make_shared<paged_pool<KV>>(w);
  call timed = call_of<KV>(w, [&] { return fovea::paged_cache<KV>(shared->pool); });
  timed.run = [shared, run = std::move(timed.run)] { run(); };
  return timed;
}

}  // namespace

call cached_call(const workload& w) {
  if (w.kv == element::q4)  // (queries count as turned, and results are not turned back: no time to speak of)
    return call_of<float>(
        w, [&] { return fovea::q4_cache<>(w.keys, w.dim, {.heads = w.kv_heads, .value_dim = w.value_dim}); });
  call timed;
  with_element<float, fovea::bf16, fovea::fp16, fovea::fp8, std::int8_t>(
      w.kv, [&]<class KV>(KV) { timed = call_with<KV>(w); });
  return timed;
}

}  // namespace bench
