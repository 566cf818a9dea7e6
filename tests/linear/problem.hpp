// tests/linear/problem.hpp - arguments of a call of linear attention.
#pragma once

#include <fovea/linear_attention.hpp>

#include "rules.hpp"

#include <cstring>
#include <random>

namespace linear_test {

using fovea::index_type;

struct shape {
  index_type batch = 1, heads = 1, kv_heads = 1, tokens = 1, dim = 8, value_dim = 8;
};

/// Random arguments; keys of length 1; log decays between -strength and 0.
template <class E, class S = fovea::compute_t<E>>
struct problem {
  shape at;
  fovea::tensor<E> q, k, v, g, g_channels, b;
  fovea::tensor<S> s;

  problem(const shape& x, double strength, std::uint32_t seed = 1)
      : at(x),
        q(x.batch, x.heads, x.tokens, x.dim),
        k(x.batch, x.kv_heads, x.tokens, x.dim),
        v(x.batch, x.kv_heads, x.tokens, x.value_dim),
        g(x.batch, x.kv_heads, x.tokens, 1),
        g_channels(x.batch, x.kv_heads, x.tokens, x.dim),
        b(x.batch, x.kv_heads, x.tokens, 1),
        s(x.batch, x.kv_heads, x.dim, x.value_dim) {
    std::mt19937 bits(seed);
    std::normal_distribution<float> normal;
    std::uniform_real_distribution<float> share;
    const auto fill = [](auto& x_, auto&& next) {
      using X = std::remove_cvref_t<decltype(*x_.data())>;
      for (index_type i = 0; i < x_.size(); ++i) x_.data()[i] = X(static_cast<float>(next()));
    };
    const float length = 1 / std::sqrt(static_cast<float>(std::max<index_type>(x.dim, 1)));
    fill(q, [&] { return normal(bits); }), fill(v, [&] { return normal(bits); });
    fill(k, [&] { return length * (share(bits) < 0.5f ? -1.f : 1.f); });
    fill(s, [&] { return normal(bits); }), fill(b, [&] { return share(bits); });
    fill(g, [&] { return -strength * share(bits); }),
        fill(g_channels, [&] { return -strength * share(bits); });
  }

  /// f(mods...) of the rule, but the state.
  template <class F>
  void with(rule r, const F& f) const {
    const auto rate = [&](const auto&... more) { delta(r) ? f(more..., fovea::delta_rule(b)) : f(more...); };
    if (!gated(r))
      rate();
    else if (by_channel(r))
      rate(fovea::log_decay(g_channels));
    else
      rate(fovea::log_decay(g));
  }
};

template <class X, class Y>
bool same_bits(const X& x, const Y& y) {
  return x.size() == 0 ||
         std::memcmp(x.data(), y.data(), sizeof(*x.data()) * static_cast<std::size_t>(x.size())) == 0;
}

}  // namespace linear_test
