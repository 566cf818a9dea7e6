// The operator Attention as its definition types it: Q * sqrt(scale), K * sqrt(scale), their product, the
// logits and the probabilities are tensors of the inputs' type, each rounded to it. With the 8 bits of
// bfloat16 this shows in the third digit, and the standard's expected outputs contain it; the library itself
// rounds once, at the end.
#pragma once

#include <fovea/attention.hpp>

#include <cmath>

namespace onnx {

template <class E>
double rounded(double x) {
  return static_cast<double>(E(static_cast<float>(x)));
}

template <class E>
fovea::tensor<E> scaled(const fovea::tensor_view<const E>& x, double factor) {
  fovea::tensor<E> y(x.batch, x.heads, x.tokens, x.dim);
  for (fovea::index_type b = 0; b < x.batch; ++b)
    for (fovea::index_type h = 0; h < x.heads; ++h)
      for (fovea::index_type t = 0; t < x.tokens; ++t)
        for (fovea::index_type d = 0; d < x.dim; ++d)
          y(b, h, t, d) = E(static_cast<float>(static_cast<double>(x(b, h, t, d)) * rounded<E>(factor)));
  return y;
}

/// What the definition's steps give for one batch entry: each holds rounded numbers.
struct typed_steps {
  fovea::tensor<float> raw, capped, biased, probabilities;
};

template <class E, class... Mods>
typed_steps typed_attention(const fovea::tensor_view<const E>& q, const fovea::tensor_view<const E>& k,
                            double scale, double softcap, const Mods&... bias_and_mask) {
  const fovea::attention<E> product({.scale = 1.0, .heads = q.heads, .kv_heads = k.heads});
  const fovea::attention<E> nothing({.scale = 0.0, .heads = q.heads, .kv_heads = k.heads});
  typed_steps s;
  s.raw = product.scores(scaled(q, std::sqrt(scale)), scaled(k, std::sqrt(scale)));
  s.probabilities = nothing.scores(q, k, bias_and_mask...);  // the bias alone; -inf where hidden
  s.capped = s.biased = s.raw;
  for (fovea::index_type i = 0; i < s.raw.size(); ++i) {
    double x = rounded<E>(s.raw.data()[i]);
    s.raw.data()[i] = static_cast<float>(x);
    if (softcap > 0) x = rounded<E>(softcap * rounded<E>(std::tanh(rounded<E>(x / softcap))));
    s.capped.data()[i] = static_cast<float>(x);
    s.biased.data()[i] = static_cast<float>(rounded<E>(x + s.probabilities.data()[i]));
  }
  const fovea::index_type keys = k.tokens, rows = keys == 0 ? 0 : s.raw.size() / keys;
  for (fovea::index_type row = 0; row < rows; ++row) {
    const float* logits = s.biased.data() + row * keys;
    float* p = s.probabilities.data() + row * keys;
    double most = -INFINITY, sum = 0;
    for (fovea::index_type j = 0; j < keys; ++j) most = std::max<double>(most, logits[j]);
    for (fovea::index_type j = 0; j < keys; ++j) {
      p[j] = most == -INFINITY ? 0.f : static_cast<float>(rounded<E>(std::exp(rounded<E>(logits[j] - most))));
      sum = rounded<E>(sum + p[j]);
    }
    for (fovea::index_type j = 0; j < keys && sum > 0; ++j)
      p[j] = static_cast<float>(rounded<E>(p[j] / rounded<E>(sum)));
  }
  return s;
}

/// O = P V of one batch entry, query head h reading value head h / group; sums in double.
template <class V, class Out>
void product_with_values(const fovea::tensor<float>& p, const V& v, const Out& out) {
  const fovea::index_type group = out.heads / v.heads;
  for (fovea::index_type h = 0; h < out.heads; ++h)
    for (fovea::index_type i = 0; i < out.tokens; ++i)
      for (fovea::index_type d = 0; d < out.dim; ++d) {
        double sum = 0;
        for (fovea::index_type j = 0; j < v.tokens; ++j)
          if (const double weight = p(0, h, i, j); weight != 0)
            sum += weight * static_cast<double>(v(0, h / group, j, d));
        out(0, h, i, d) = static_cast<float>(sum);
      }
}

}  // namespace onnx
