// tests/examples/small_bert.hpp - a sentence encoder made by tests: a layer of 8 dimensions, 2 heads.
#pragma once

#include "../support/random.hpp"

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace small_bert {

inline const std::vector<std::string> pieces{
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat",  "on",     "##s",    "mat",
    ".",     "Cat",   "caf",   "##e",   "##é",    "我",  "喜",  "我喜", "unused", "unused2"};

inline std::string lines_of(const std::vector<std::string>& texts) {
  std::string all;
  for (const auto& t : texts) all += t + "\n";
  return all;
}

struct tensor {
  std::vector<std::uint64_t> shape;
  std::vector<float> numbers;
};

/// dtype: F32, or F16 or BF16, whose numbers are given as their bits.
inline std::string safetensors(const std::map<std::string, tensor>& tensors, const std::string& dtype = "F32",
                               std::uint16_t (*bits)(float) = nullptr) {
  std::string header = "{", data;
  for (const auto& [name, t] : tensors) {
    const auto first = data.size();
    for (const float x : t.numbers) {
      const std::uint16_t half = bits ? bits(x) : std::uint16_t(0);
      if (bits)
        data.append(reinterpret_cast<const char*>(&half), 2);
      else
        data.append(reinterpret_cast<const char*>(&x), 4);
    }
    std::string shape;
    for (const auto n : t.shape) shape += (shape.empty() ? "" : ",") + std::to_string(n);
    header += (header.size() > 1 ? "," : "") + std::string("\"") + name + "\":{\"dtype\":\"" + dtype +
              "\",\"shape\":[" + shape + "],\"data_offsets\":[" + std::to_string(first) + "," +
              std::to_string(data.size()) + "]}";
  }
  header += "}";
  const std::uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + header + data;
}

inline std::map<std::string, tensor> weights() {
  constexpr std::uint64_t hidden = 8, inner = 12;
  fovea_test::random_source random(11);
  std::map<std::string, tensor> all;
  const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape) {
    tensor t{shape, {}};
    std::uint64_t count = 1;
    for (const auto n : shape) count *= n;
    // Multiples of 1/64 below 2: exact in 16 bits of either kind.
    for (std::uint64_t i = 0; i < count; ++i)
      t.numbers.push_back(static_cast<float>(random.integer(-64, 64)) / 64);
    all[name] = std::move(t);
  };
  const auto dense = [&](const std::string& name, std::uint64_t out, std::uint64_t in) {
    add(name + ".weight", {out, in}), add(name + ".bias", {out});
  };
  const auto norm = [&](const std::string& name) {
    add(name + ".weight", {hidden}), add(name + ".bias", {hidden});
  };
  add("embeddings.word_embeddings.weight", {24, hidden});
  add("embeddings.position_embeddings.weight", {16, hidden});
  add("embeddings.token_type_embeddings.weight", {2, hidden});
  norm("embeddings.LayerNorm");
  const std::string layer = "encoder.layer.0.";
  for (const char* name :
       {"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"})
    dense(layer + name, hidden, hidden);
  dense(layer + "intermediate.dense", inner, hidden), dense(layer + "output.dense", hidden, inner);
  norm(layer + "attention.output.LayerNorm"), norm(layer + "output.LayerNorm");
  dense("pooler.dense", hidden, hidden);
  return all;
}

using files = std::map<std::string, std::string>;

inline files folder() {
  return {
      {"config.json", R"({"model_type":"bert","hidden_size":8,"intermediate_size":12,"num_hidden_layers":1,)"
                      R"("num_attention_heads":2,"vocab_size":24,"max_position_embeddings":16,)"
                      R"("type_vocab_size":2,"layer_norm_eps":1e-12,"hidden_act":"gelu"})"},
      {"sentence_bert_config.json", R"({"max_seq_length":12,"do_lower_case":false})"},
      {"modules.json", R"([{"path":"","type":"sentence_transformers.models.Transformer"},)"
                       R"({"path":"1_Pooling","type":"sentence_transformers.models.Pooling"},)"
                       R"({"path":"2_Normalize","type":"sentence_transformers.models.Normalize"}])"},
      {"1_Pooling/config.json", R"({"word_embedding_dimension":8,"pooling_mode_mean_tokens":true})"},
      {"tokenizer_config.json", R"({"do_lower_case":true,"strip_accents":null,"cls_token":"[CLS]"})"},
      {"vocab.txt", lines_of(pieces)},
      {"model.safetensors", safetensors(weights())}};
}

inline std::string written(const std::filesystem::path& where, const files& all) {
  std::filesystem::remove_all(where);
  for (const auto& [name, text] : all) {
    std::filesystem::create_directories((where / name).parent_path());
    std::ofstream(where / name, std::ios::binary) << text;
  }
  return where.string();
}

}  // namespace small_bert
