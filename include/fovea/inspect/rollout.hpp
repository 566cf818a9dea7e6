// fovea/inspect/rollout.hpp - attention rollout: which inputs a token of the last layer was mixed from.
//
// Abnar & Zuidema, "Quantifying Attention Flow in Transformers", arXiv:2005.00928, section 3.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/view/tensor.hpp>

#include <ranges>

FOVEA_NAMESPACE_BEGIN

struct rollout_options {
  double residual = 0.5;  // how much of a token passes a layer beside its attention; 0 to 1
};

/// The mean of a layer's heads with the residual connection: (1 - r) mean_h P_h + r I, each row divided by
/// its sum. A row that sees no key is that of I: the token alone. `to`: batch x 1 x L x L.
template <class E>
void mix_heads(const sequences<E>& weights, double residual, tensor<double>& to) {
  const double share = (1 - residual) / static_cast<double>(weights.heads());
  for (index_type b = 0; b < to.batch(); ++b)
    for (index_type i = 0; i < to.tokens(); ++i) {
      double sum = 0;
      for (index_type j = 0; j < to.dim(); ++j) {
        double x = i == j ? residual : 0;
        for (index_type h = 0; h < weights.heads(); ++h)
          x += share * load_element<double>(weights.head(b, h)(i, j));
        to(b, 0, i, j) = x, sum += x;
      }
      for (index_type j = 0; j < to.dim(); ++j)
        to(b, 0, i, j) = sum == 0 ? double(i == j) : to(b, 0, i, j) / sum;
    }
}

/// R = A_n ... A_2 A_1 with A_l of mix_heads: R(i, j) is how much of input j is in token i after the last
/// layer. `layers`: the probabilities of each layer from the first to the last, a range of tensors (or views
/// of such) batch x heads x L x L; heads may differ. Returns batch x 1 x L x L, rows with sum 1. Throws
/// std::invalid_argument without a layer, where one is not square, where two differ in size, and for a
/// residual beyond 0 to 1. Cost O(layers batch L^3), less for masks; sums in double, memory three times the
/// result.
template <std::ranges::forward_range Layers>
  requires viewable<std::ranges::range_value_t<Layers>>
tensor<double> rollout(const Layers& layers, const rollout_options& options = {}) {
  if (!(options.residual >= 0 && options.residual <= 1))
    reject("the option residual is ", options.residual, ", not within 0 and 1");
  tensor<double> product, mixed, next;
  index_type number = 0;
  for (const auto& layer : layers) {
    const auto weights = as_sequences(layer, any_heads, "layers");
    const index_type batch = weights.batches(), tokens = weights.max_tokens();
    if (weights.dim() != tokens)
      reject("layer ", number, " has ", tokens, " queries but ", weights.dim(), " keys");
    if (weights.heads() == 0) reject("layer ", number, " has 0 heads");
    if (number == 0) mixed = next = tensor<double>(batch, 1, tokens, tokens);
    if (batch != mixed.batch() || tokens != mixed.tokens())
      reject("layer ", number, " has ", batch, " sequences of ", tokens, " tokens but layer 0 has ",
             mixed.batch(), " of ", mixed.tokens());
    mix_heads(weights, options.residual, mixed);
    if (number++ == 0) {
      product = mixed;
      continue;
    }
    for (index_type b = 0; b < batch; ++b)
      for (index_type i = 0; i < tokens; ++i) {
        double* to = &next(b, 0, i, 0);
        std::fill(to, to + tokens, 0.0);
        for (index_type k = 0; k < tokens; ++k) {
          const double factor = mixed(b, 0, i, k);
          const double* from = &product(b, 0, k, 0);
          for (index_type j = 0; j < tokens && factor != 0; ++j) to[j] += factor * from[j];
        }
      }
    std::swap(product, next);
  }
  if (number == 0) reject("rollout: layers has 0 layers, at least 1 is needed");
  return product;
}

FOVEA_NAMESPACE_END
