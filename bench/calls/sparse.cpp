// bench/calls/sparse.cpp - a workload becomes a choice of keys by an index, and attention over these (op=dsa):
// the last tokens of a cache of latent rows ask, each for keys of its own.
#include "../call.hpp"

#include <fovea/attention.hpp>
#include <fovea/kv_cache/latent.hpp>
#include <fovea/top_keys.hpp>

namespace bench {
namespace {

template <class Index>
struct sparse_operands {
  fovea::latent_cache<float> cache;
  fovea::latent_cache<Index> index;
  numbers<float> q, weights, o;
  numbers<Index> index_q;
  std::optional<fovea::threads> pool;

  explicit sparse_operands(const workload& w)
      : cache(w.keys, {.latent = w.value_dim, .rotary = w.dim - w.value_dim}),
        index(w.keys, {.latent = index_dim}),
        q(normal_numbers<float>(w.queries * w.heads * w.dim, 1)),
        weights(normal_numbers<float>(w.queries * w.index_heads, 2)),
        o(static_cast<std::size_t>(w.queries * w.heads * w.value_dim)),
        index_q(normal_numbers<Index>(w.queries * w.index_heads * index_dim, 3)) {
    const auto rows = normal_numbers<float>(w.keys * w.dim, 4);
    cache.append(fovea::bhsd(rows.data(), 1, 1, w.keys, w.dim));
    const auto keys = normal_numbers<float>(w.keys * index_dim, 5);
    index.append(fovea::bhsd(keys.data(), 1, 1, w.keys, index_dim));
    if (w.threads > 1) pool.emplace(w.threads);
  }
};

template <class Index>
call call_of(const workload& w) {
  const auto x = std::make_shared<sparse_operands<Index>>(w);
  const fovea::executor_ref executor = x->pool ? fovea::executor_ref(*x->pool) : fovea::executor_ref{};
  const auto q = fovea::bhsd(std::as_const(x->q).data(), w.queries, w.heads, 1, w.dim);  // an entry a query
  const auto o = fovea::bhsd(x->o.data(), w.queries, w.heads, 1, w.value_dim);
  const auto index_q = fovea::bshd(std::as_const(x->index_q).data(), 1, w.queries, w.index_heads, index_dim);
  const auto weights = fovea::bshd(std::as_const(x->weights).data(), 1, w.queries, w.index_heads, 1);
  const fovea::attention<float> attend({.heads = w.heads, .kv_heads = 1, .executor = executor});
  const fovea::top_keys_options options{.heads = w.index_heads, .count = w.top, .executor = executor};
  call timed;
  timed.run = [=] {
    const auto chosen = fovea::top_keys(index_q, weights, x->index, options);
    attend.into(o, q, fovea::gathered{x->cache, chosen});
  };
  return timed;
}

}  // namespace

call dsa_call(const workload& w) {
  return w.index == element::bf16 ? call_of<fovea::bf16>(w) : call_of<float>(w);
}

}  // namespace bench
