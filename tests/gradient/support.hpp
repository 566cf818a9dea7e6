// tests/gradient/support.hpp - backward calls with all that a call may have, switched on one by one: few
// types, many calls.
#pragma once

#include "../support/random.hpp"
#include "../support/refusal.hpp"

#include <fovea/attention.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace fovea_test {

using fovea::index_type;
using fovea::tensor;

struct sizes {
  index_type batch = 1, heads = 1, kv_heads = 1, queries = 1, keys = 1, dim = 1, value_dim = 1;
};

inline std::string words(const sizes& n) {
  std::string text;
  for (const index_type i : {n.batch, n.heads, n.kv_heads, n.queries, n.keys, n.dim, n.value_dim})
    text += (text.empty() ? "" : " x ") + std::to_string(i);
  return text;
}

/// Blocks of one and of several tiles, tails of each, several superblocks of keys, shared and own heads.
inline std::vector<sizes> usual_sizes() {
  return {{1, 1, 1, 1, 1, 1, 1},      {2, 2, 1, 5, 7, 8, 3},      {1, 4, 2, 33, 50, 20, 24},
          {1, 2, 2, 70, 130, 40, 64}, {1, 1, 1, 75, 420, 72, 16}, {1, 3, 1, 17, 200, 33, 65}};
}

template <class T>
tensor<T> normal(index_type batch, index_type heads, index_type tokens, index_type dim, std::uint64_t seed) {
  tensor<T> x(batch, heads, tokens, dim);
  random_source random(seed);
  for (index_type i = 0; i < x.size(); ++i) {  // the sum of 12 uniform numbers has variance 1
    double sum = 0;
    for (int u = 0; u < 12; ++u) sum += random.uniform(-0.5, 0.5);
    x.data()[i] = fovea::store_element<T>(sum);
  }
  return x;
}

/// The operands of a call, and the gradients of a loss by its results.
template <class T>
struct operands {
  tensor<T> q, k, v, d_out;
  tensor<fovea::compute_t<T>> d_lse;

  operands() = default;
  explicit operands(const sizes& n, std::uint64_t seed = 1)
      : q(normal<T>(n.batch, n.heads, n.queries, n.dim, seed)),
        k(normal<T>(n.batch, n.kv_heads, n.keys, n.dim, seed + 1)),
        v(normal<T>(n.batch, n.kv_heads, n.keys, n.value_dim, seed + 2)),
        d_out(normal<T>(n.batch, n.heads, n.queries, n.value_dim, seed + 3)),
        d_lse(normal<fovea::compute_t<T>>(n.batch, n.heads, n.queries, 1, seed + 4)) {}
};

/// sum out * d_out + sum lse * d_lse of what with_lse gave: a loss that has these gradients.
double loss_of(const auto& result, const operands<double>& x) {
  double sum = 0;
  for (index_type i = 0; i < result.out.size(); ++i) sum += result.out.data()[i] * x.d_out.data()[i];
  for (index_type i = 0; i < result.lse.size(); ++i)
    if (std::isfinite(result.lse.data()[i])) sum += result.lse.data()[i] * x.d_lse.data()[i];
  return sum;
}

/// The same numbers as other elements; exact where the first were rounded to them.
template <class To, class From>
tensor<To> as(const tensor<From>& x) {
  tensor<To> y(x.batch(), x.heads(), x.tokens(), x.dim());
  for (index_type i = 0; i < x.size(); ++i)
    y.data()[i] = fovea::store_element<To>(fovea::load_element<double>(x.data()[i]));
  return y;
}
template <class To, class From>
operands<To> as(const operands<From>& x) {
  operands<To> y;
  y.q = as<To>(x.q), y.k = as<To>(x.k), y.v = as<To>(x.v), y.d_out = as<To>(x.d_out);
  y.d_lse = as<fovea::compute_t<To>>(x.d_lse);
  return y;
}

/// No rules at all.
struct no_rules {
  auto with(auto&& f) const { return f(); }
};

/// Masks, each as wide as possible until it is set.
struct masks {
  static constexpr index_type far = 1 << 20;
  index_type diagonal = far, left = far, right = far;
  std::vector<index_type> lengths;
  tensor<unsigned char> keep{1, 1, 1, 1};

  explicit masks(const sizes& n) : lengths(static_cast<std::size_t>(n.batch), n.keys) {
    keep(0, 0, 0, 0) = 1;
  }
  auto with(auto&& f) const {
    return f(fovea::causal_offset{diagonal}, fovea::sliding_window{.left = left, .right = right, .offset = 0},
             fovea::key_lengths{lengths}, fovea::boolean_mask(keep));
  }
};

/// All that a call may have, each doing nothing until it is set.
struct everything : masks {
  double cap = 0, tilt = 0, rate = 0;
  tensor<double> addend{1, 1, 1, 1};
  std::vector<float> slopes, sinks;
  mutable tensor<double> d_addend{1, 1, 1, 1};
  mutable std::vector<float> d_slopes, d_sinks;

  explicit everything(const sizes& n)
      : masks(n),
        slopes(static_cast<std::size_t>(n.heads)),
        sinks(static_cast<std::size_t>(n.heads), -std::numeric_limits<float>::infinity()),
        d_slopes(slopes.size()),
        d_sinks(slopes.size()) {}
  void set_addend(index_type batch, index_type heads, index_type queries, index_type keys) {
    addend = normal<double>(batch, heads, queries, keys, 11);
    d_addend = tensor<double>(batch, heads, queries, keys);
  }
  auto with(auto&& f) const {
    const double t = tilt;
    const auto own = [t](auto s, auto q, auto k) {
      using std::tanh;
      using number = decltype(s);
      return s + number(t) * tanh(s * number(0.5)) - number(t / 16) * (q - k);
    };
    return masks::with([&](auto... seen) {
      return f(fovea::softcap{cap}, fovea::bias(addend, d_addend),
               fovea::alibi{.slopes = slopes, .offset = 1, .d_slopes = d_slopes}, fovea::score(own),
               fovea::sink{sinks, d_sinks}, fovea::dropout{.rate = rate, .seed = 123}, seen...);
    });
  }
};

/// What the forward call gives, and the backward call.
template <class T>
struct results {
  tensor<T> out;
  tensor<fovea::compute_t<T>> lse;
  tensor<T> d_q, d_k, d_v;
};

template <class T, class Rules>
results<T> differentiated(const sizes& n, const operands<T>& x, const Rules& rules,
                          fovea::attention_options options) {
  options.heads = n.heads, options.kv_heads = n.kv_heads;
  const fovea::attention<T> attend{options};
  return rules.with([&](auto... mods) {
    auto [out, lse] = attend.with_lse(x.q, x.k, x.v, mods...);
    auto [d_q, d_k, d_v] =
        attend.backward(x.q, x.k, x.v, out, lse, x.d_out, fovea::lse_gradient(x.d_lse), mods...);
    return results<T>{std::move(out), std::move(lse), std::move(d_q), std::move(d_k), std::move(d_v)};
  });
}

// Compiled once: in differences_test.cpp, bits_test.cpp and float_test.cpp.
using fovea::attention_options;
extern template results<double> differentiated(const sizes&, const operands<double>&, const no_rules&,
                                               attention_options);
extern template results<double> differentiated(const sizes&, const operands<double>&, const masks&,
                                               attention_options);
extern template results<double> differentiated(const sizes&, const operands<double>&, const everything&,
                                               attention_options);
extern template results<float> differentiated(const sizes&, const operands<float>&, const no_rules&,
                                              attention_options);
extern template results<float> differentiated(const sizes&, const operands<float>&, const masks&,
                                              attention_options);
extern template results<float> differentiated(const sizes&, const operands<float>&, const everything&,
                                              attention_options);

/// Whether two tensors are the same, bit for bit but for the sign of zeros.
template <class T>
bool same(const tensor<T>& a, const tensor<T>& b) {
  if (a.size() != b.size()) return false;
  for (index_type i = 0; i < a.size(); ++i)
    if (fovea::load_element<double>(a.data()[i]) != fovea::load_element<double>(b.data()[i])) return false;
  return true;
}

}  // namespace fovea_test
