// bench/calls/latent.cpp - a workload becomes one call of fovea::attention on latent caches, a sequence each.
#include "../call.hpp"

#include <fovea/attention.hpp>
#include <fovea/kv_cache/latent.hpp>

namespace bench {
namespace {

template <class T, class KV>
struct latent_operands : operands<T, float> {
  using cache_type = fovea::latent_cache<KV, fovea::dynamic_heads>;
  std::vector<cache_type> caches;
  std::vector<const cache_type*> all;

  explicit latent_operands(const workload& w) : operands<T, float>(w) {
    for (index_type b = 0; b < w.batch; ++b) {
      caches.emplace_back(
          w.keys,
          fovea::latent_options{.latent = w.value_dim, .rotary = w.dim - w.value_dim, .heads = w.kv_heads});
      auto rows = fovea::bhsd(std::as_const(this->k).data() + b * w.kv_heads * w.keys * w.dim, 1, w.kv_heads,
                              w.keys, w.dim);
      rows.tokens = w.lengths.empty() ? w.keys : w.lengths[static_cast<std::size_t>(b)];
      caches.back().append(rows);
    }
    for (const auto& cache : caches) all.push_back(&cache);
    this->k = {}, this->v = {};
  }
};

template <class T, class KV, class... Mods>
call call_of(const workload& w, const Mods&... mods) {
  const auto data = std::make_shared<latent_operands<T, KV>>(w);
  const auto q = fovea::bhsd(std::as_const(data->q).data(), w.batch, w.heads, w.queries, w.dim);
  const auto o = fovea::bhsd(data->o.data(), w.batch, w.heads, w.queries, w.value_dim);
  const fovea::cache_batch batch(data->all);
  fovea::attention_options options{.heads = w.heads, .kv_heads = w.kv_heads, .executor = data->executor()};
  call timed;
  timed.scratch_bytes =
      fovea::attention<T>(options).plan_for(q, batch, fovea::causal, mods...).workspace_bytes();
  data->workspace.resize(static_cast<std::size_t>(timed.scratch_bytes));
  options.workspace = data->workspace;
  const fovea::attention<T> attend(options);
  timed.run = [data, attend, q, o, batch, mods...]() mutable {
    attend.into(o, q, batch, fovea::causal, mods...);
  };
  return timed;
}

}  // namespace

call latent_call(const workload& w) {
  if (w.dtype == element::bf16)
    return w.weights == weight_rounding::rounded
               ? call_of<fovea::bf16, fovea::bf16>(w, fovea::rounded_weights)
               : call_of<fovea::bf16, fovea::bf16>(w);
  call timed;
  with_element<float, fovea::bf16, std::int8_t>(w.kv, [&]<class KV>(KV) { timed = call_of<float, KV>(w); });
  return timed;
}

}  // namespace bench
