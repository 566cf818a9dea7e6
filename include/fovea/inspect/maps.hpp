// fovea/inspect/maps.hpp - what a picture of attention shows: probabilities of layers and heads, and tokens.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/view/tensor.hpp>

#include <ranges>
#include <string>
#include <vector>

FOVEA_NAMESPACE_BEGIN

/// One sequence. Labels are UTF-8; where a label is not, or there are none, the picture shows U+FFFD or the
/// token's number.
struct attention_maps {
  std::string title;
  std::vector<std::string> queries, keys;      // labels of rows and columns: Lq and Lk of them, or none
  tensor<float> weights;                       // layers x heads x Lq x Lk
  index_type first_layer = 0, first_head = 0;  // how the first of each is numbered
  std::string single = {};                     // what a single map is of, in place of its layer and head

  attention_maps() = default;
  attention_maps(std::string text, std::vector<std::string> rows, std::vector<std::string> columns,
                 tensor<float> probabilities)
      : title(std::move(text)),
        queries(std::move(rows)),
        keys(std::move(columns)),
        weights(std::move(probabilities)) {}

  index_type layers() const noexcept { return weights.batch(); }
  index_type heads() const noexcept { return weights.heads(); }
  index_type rows() const noexcept { return weights.tokens(); }
  index_type columns() const noexcept { return weights.dim(); }
  std::string query(index_type i) const { return label(queries, i); }
  std::string key(index_type j) const { return label(keys, j); }

  /// Throws std::invalid_argument where there are labels, but not as many as tokens.
  void check() const {
    const auto fit = [](const char* name, const auto& labels, index_type tokens) {
      const auto n = static_cast<index_type>(labels.size());
      if (n != 0 && n != tokens) reject(name, " has ", n, " labels for ", tokens, " tokens");
    };
    fit("queries", queries, rows()), fit("keys", keys, columns());
  }

  /// One head alone. Throws std::invalid_argument where there is no such layer or head (counted from 0).
  attention_maps only(index_type layer, index_type head) const {
    if (layer < 0 || layer >= layers()) reject("layer ", layer, " is not one of ", layers());
    if (head < 0 || head >= heads()) reject("head ", head, " is not one of ", heads());
    attention_maps one(title, queries, keys, tensor<float>(1, 1, rows(), columns()));
    one.first_layer = first_layer + layer, one.first_head = first_head + head;
    for (index_type i = 0; i < rows(); ++i)
      for (index_type j = 0; j < columns(); ++j) one.weights(0, 0, i, j) = weights(layer, head, i, j);
    return one;
  }

 private:
  static std::string label(const std::vector<std::string>& labels, index_type i) {
    return labels.empty() ? std::to_string(i) : labels[static_cast<std::size_t>(i)];
  }
};

/// The maps of one sequence of a batch, self-attention: `tokens` are the labels of queries and keys alike.
/// `layers`: probabilities of each layer, a range of tensors (or views of such) batch x heads x L x L, all of
/// one size. Throws std::invalid_argument where sizes differ, where there is no such sequence, and where
/// tokens are neither L nor none. Copies L^2 numbers a head.
template <std::ranges::forward_range Layers>
  requires viewable<std::ranges::range_value_t<Layers>>
attention_maps maps_of(const Layers& layers, std::string title, std::vector<std::string> tokens,
                       index_type sequence = 0) {
  attention_maps maps(std::move(title), tokens, tokens, {});
  const index_type count = static_cast<index_type>(std::ranges::distance(layers));
  index_type number = 0;
  for (const auto& layer : layers) {
    const auto from = as_sequences(layer, any_heads, "layers");
    if (sequence < 0 || sequence >= from.batches())
      reject("sequence ", sequence, " is not one of ", from.batches());
    if (number == 0) maps.weights = tensor<float>(count, from.heads(), from.tokens(sequence), from.dim());
    const auto check = [&](const char* what, index_type has, index_type first) {
      if (has != first) reject("layer ", number, " has ", has, " ", what, " but layer 0 has ", first);
    };
    check("heads", from.heads(), maps.heads()), check("queries", from.tokens(sequence), maps.rows());
    check("keys", from.dim(), maps.columns());
    for (index_type h = 0; h < maps.heads(); ++h)
      for (index_type i = 0; i < maps.rows(); ++i)
        for (index_type j = 0; j < maps.columns(); ++j)
          maps.weights(number, h, i, j) = load_element<float>(from.head(sequence, h)(i, j));
    ++number;
  }
  maps.check();
  return maps;
}

FOVEA_NAMESPACE_END
