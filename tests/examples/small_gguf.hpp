// tests/examples/small_gguf.hpp - GGUF files made by tests: a small model of the Llama architecture, and
// whatever is changed in it.
#pragma once

#include "../support/random.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace small_gguf {

/// Little-endian numbers, and texts with their length before them.
template <class N>
std::string raw(N n) {
  return {reinterpret_cast<const char*>(&n), sizeof n};
}
inline std::string text(const std::string& t) { return raw(std::uint64_t(t.size())) + t; }

/// Values of the metadata, their types before them.
inline std::string size(std::uint32_t n) { return raw(std::uint32_t(4)) + raw(n); }
inline std::string real(float x) { return raw(std::uint32_t(6)) + raw(x); }
inline std::string flag(bool b) { return raw(std::uint32_t(7)) + raw(std::uint8_t(b)); }
inline std::string word(const std::string& t) { return raw(std::uint32_t(8)) + text(t); }
inline std::string list(std::uint32_t type, std::size_t count) {
  return raw(std::uint32_t(9)) + raw(type) + raw(std::uint64_t(count));
}
inline std::string words(const std::vector<std::string>& all) {
  std::string bytes = list(8, all.size());
  for (const auto& t : all) bytes += text(t);
  return bytes;
}
inline std::string integers(const std::vector<std::int32_t>& all) {
  std::string bytes = list(5, all.size());
  for (const auto n : all) bytes += raw(n);
  return bytes;
}

struct tensor {
  std::string name;
  std::vector<std::uint64_t> sizes;  // the columns first
  std::vector<float> numbers;
  std::uint32_t type = 0;
  std::uint64_t gap = 0;  // bytes before it, beyond the alignment
};

struct model {
  std::map<std::string, std::string> metadata;
  std::vector<std::string> tokens;
  std::vector<std::int32_t> kinds;
  std::vector<tensor> tensors;

  tensor& at(const std::string& name) { return *std::ranges::find(tensors, name, &tensor::name); }

  std::string bytes(std::uint64_t alignment = 32) const {
    auto all = metadata;
    all["tokenizer.ggml.tokens"] = words(tokens);
    all["tokenizer.ggml.token_type"] = integers(kinds);
    std::string file =
        "GGUF" + raw(std::uint32_t(3)) + raw(std::uint64_t(tensors.size())) + raw(std::uint64_t(all.size()));
    for (const auto& [key, value] : all) file += text(key) + value;
    std::string data;
    for (const tensor& t : tensors) {
      data.resize((data.size() + alignment - 1) / alignment * alignment + t.gap);
      file += text(t.name) + raw(std::uint32_t(t.sizes.size()));
      for (const auto n : t.sizes) file += raw(n);
      file += raw(t.type) + raw(std::uint64_t(data.size()));
      data.append(reinterpret_cast<const char*>(t.numbers.data()), t.numbers.size() * sizeof(float));
    }
    file.resize((file.size() + alignment - 1) / alignment * alignment);
    return file + data;
  }
};

inline constexpr std::uint32_t hidden = 32, inner = 48, heads = 4, kv_heads = 2, layers = 2, dim = 8;

/// Two layers with random weights; the tokens are the 95 printable letters, one that joins two of them, an
/// end, and the marks of a talk.
inline model small_model() {
  model m;
  m.tokens = {"<end>", "\u0120"};
  for (char c = '!'; c <= '~'; ++c) m.tokens.push_back(std::string(1, c));
  m.tokens.insert(m.tokens.end(), {"ab", "<|im_start|>", "<|im_end|>", "\u010a"});
  m.kinds.assign(m.tokens.size(), 1);
  m.kinds[0] = m.kinds[97] = m.kinds[98] = 3;
  m.metadata = {{"general.architecture", word("llama")},
                {"llama.block_count", size(layers)},
                {"llama.attention.head_count", size(heads)},
                {"llama.attention.head_count_kv", size(kv_heads)},
                {"llama.embedding_length", size(hidden)},
                {"llama.feed_forward_length", size(inner)},
                {"llama.context_length", size(600)},
                {"llama.rope.freq_base", real(10000)},
                {"llama.attention.layer_norm_rms_epsilon", real(1e-5f)},
                {"tokenizer.ggml.model", word("gpt2")},
                {"tokenizer.ggml.pre", word("smollm")},
                {"tokenizer.ggml.eos_token_id", size(0)},
                {"tokenizer.ggml.merges", words({"a b"})}};
  fovea_test::random_source random(1);
  const auto add = [&](const std::string& name, std::uint64_t rows, std::uint64_t columns) {
    tensor t{name, {columns}, {}};
    if (rows != 0) t.sizes.push_back(rows);
    for (std::uint64_t i = 0; i < std::max<std::uint64_t>(rows, 1) * columns; ++i) {
      const bool end = name == "token_embd.weight" && i < hidden;  // never the likeliest token
      t.numbers.push_back(static_cast<float>(end ? 0 : rows == 0 ? 1 : random.uniform(-0.4, 0.4)));
    }
    m.tensors.push_back(std::move(t));
  };
  add("token_embd.weight", m.tokens.size(), hidden);
  add("output_norm.weight", 0, hidden);
  for (std::uint32_t i = 0; i < layers; ++i) {
    const std::string layer = "blk." + std::to_string(i) + ".";
    add(layer + "attn_norm.weight", 0, hidden);
    add(layer + "attn_q.weight", heads * dim, hidden);
    add(layer + "attn_k.weight", kv_heads * dim, hidden);
    add(layer + "attn_v.weight", kv_heads * dim, hidden);
    add(layer + "attn_output.weight", hidden, heads * dim);
    add(layer + "ffn_norm.weight", 0, hidden);
    add(layer + "ffn_gate.weight", inner, hidden);
    add(layer + "ffn_up.weight", inner, hidden);
    add(layer + "ffn_down.weight", hidden, inner);
  }
  return m;
}

inline std::string content(const std::string& path) {
  std::stringstream all;
  all << std::ifstream(path, std::ios::binary).rdbuf();
  return all.str();
}

/// Each test has files of its own, as tests run side by side.
inline std::string in_temp(const std::string& name) {
  const auto* const test = testing::UnitTest::GetInstance()->current_test_info();
  return (std::filesystem::path(testing::TempDir()) /
          (std::string("fovea_") + test->test_suite_name() + "_" + test->name() + "_" + name))
      .string();
}
inline std::string written(const std::string& name, const std::string& bytes) {
  std::ofstream(in_temp(name), std::ios::binary) << bytes;
  return in_temp(name);
}

}  // namespace small_gguf
