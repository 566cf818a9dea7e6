// llama_config.hpp - what the metadata of a model of the Llama architecture says. All that could change what
// is computed is done or refused.
#pragma once

#include "gguf.hpp"

#include <fovea/position.hpp>

namespace generate {

struct llama_config {
  Eigen::Index layers, heads, kv_heads, hidden, inner, dim;
  Eigen::Index context;
  Eigen::Index rotary_dim;
  fovea::rotary_frequencies rotary;
  float epsilon;

  llama_config(const gguf& file, int vocabulary) {
    check_file(file);
    layers = size(file, "block_count"), heads = size(file, "attention.head_count");
    kv_heads = size(file, "attention.head_count_kv", heads);
    hidden = size(file, "embedding_length"), inner = size(file, "feed_forward_length");
    context = size(file, "context_length");
    if (heads % kv_heads != 0 || (hidden % heads != 0 && !file.has(key("attention.key_length"))))
      throw input_error("the model has " + std::to_string(hidden) + " dimensions for " +
                        std::to_string(heads) + " heads and " + std::to_string(kv_heads) +
                        " key/value heads");
    dim = size(file, "attention.key_length", hidden / heads);
    epsilon = static_cast<float>(file.number(key("attention.layer_norm_rms_epsilon")));
    if (!(epsilon >= 0 && epsilon < 1))
      file.refuse(key("attention.layer_norm_rms_epsilon"), "it is within 0 and 1");
    read_rotation(file);
    refuse_what_is_not_done(file, vocabulary);
  }

 private:
  static std::string key(const char* name) { return std::string("llama.") + name; }

  static Eigen::Index size(const gguf& file, const char* name) {
    const auto n = file.integer(key(name));
    if (n < 1 || n > 1 << 24) file.refuse(key(name), "it is within 1 and 2^24");
    return n;
  }
  static Eigen::Index size(const gguf& file, const char* name, Eigen::Index otherwise) {
    return file.has(key(name)) ? size(file, name) : otherwise;
  }
  static double number(const gguf& file, const char* name, double otherwise) {
    return file.has(key(name)) ? file.number(key(name)) : otherwise;
  }

  static void check_file(const gguf& file) {
    if (file.text("general.architecture") != "llama")
      throw input_error("the model's architecture is " + file.text("general.architecture") + ", not llama");
    if (file.has("general.type") && file.text("general.type") != "model")
      file.refuse("general.type", "only a model can be run");
    if (file.has("general.quantization_version") && file.integer("general.quantization_version") != 2)
      file.refuse("general.quantization_version", "only 2 is read");
    if (file.has("split.count") && file.integer("split.count") > 1)
      file.refuse("split.count", "a model is read from one file");
  }

  void read_rotation(const gguf& file) {
    rotary_dim = size(file, "rope.dimension_count", dim);
    if (rotary_dim % 2 != 0 || rotary_dim > dim)
      file.refuse(key("rope.dimension_count"),
                  "it is even and at most the " + std::to_string(dim) + " dimensions of a head");
    const double base = number(file, "rope.freq_base", 10000);
    if (!(base > 0 && base < std::numeric_limits<double>::infinity()))
      file.refuse(key("rope.freq_base"), "it is a number above 0");
    const std::string kind =
        file.has(key("rope.scaling.type")) ? file.text(key("rope.scaling.type")) : "linear";
    if (kind != "none" && kind != "linear" && kind != "yarn")
      file.refuse(key("rope.scaling.type"), "done are none, linear and yarn");
    const char* const name =
        file.has(key("rope.scaling.factor")) ? "rope.scaling.factor" : "rope.scale_linear";
    double factor = number(file, name, 1);
    if (factor == 0 || kind == "none") factor = 1;  // 0: as if it were not there
    if (!(factor > 0 && factor < std::numeric_limits<double>::infinity()))
      file.refuse(key(name), "it is a number above 0");
    if (number(file, "rope.scaling.attn_factor", 1) != 1)
      file.refuse(key("rope.scaling.attn_factor"), "only 1 is done");
    if (kind == "yarn") {
      if (factor < 1) file.refuse(key(name), "with yarn it is at least 1");
      if (base <= 1) file.refuse(key("rope.freq_base"), "with yarn it is above 1");
      const auto original = size(file, "rope.scaling.original_context_length", context);
      rotary =
          fovea::yarn_scaling{.factor = factor, .original_context = original}.frequencies(rotary_dim, base);
    } else {
      rotary = fovea::linear_scaling{.factor = factor}.frequencies(rotary_dim, base);
    }
  }

  void refuse_what_is_not_done(const gguf& file, int vocabulary) const {
    constexpr std::string_view known[] = {"block_count",
                                          "context_length",
                                          "embedding_length",
                                          "feed_forward_length",
                                          "vocab_size",
                                          "tensor_data_layout",
                                          "expert_count",
                                          "expert_used_count",
                                          "attention.head_count",
                                          "attention.head_count_kv",
                                          "attention.key_length",
                                          "attention.value_length",
                                          "attention.layer_norm_rms_epsilon",
                                          "attention.causal",
                                          "attention.sliding_window",
                                          "rope.dimension_count",
                                          "rope.freq_base",
                                          "rope.scale_linear",
                                          "rope.scaling.type",
                                          "rope.scaling.factor",
                                          "rope.scaling.attn_factor",
                                          "rope.scaling.original_context_length",
                                          "rope.scaling.finetuned"};
    file.refuse_others("llama.", known);
    if (size(file, "vocab_size", vocabulary) != vocabulary)
      file.refuse(key("vocab_size"), "its tokenizer has " + std::to_string(vocabulary) + " tokens");
    if (size(file, "attention.value_length", dim) != dim)
      file.refuse(key("attention.value_length"),
                  "only the keys' length, " + std::to_string(dim) + ", is done");
    for (const char* name : {"expert_count", "expert_used_count"})
      if (file.has(key(name)) && file.integer(key(name)) != 0)
        file.refuse(key(name), "a mixture of experts is not done");
    if (file.has(key("attention.causal")) && !file.flag(key("attention.causal")))
      file.refuse(key("attention.causal"), "only true is done");
    if (const char* name = "attention.sliding_window"; file.has(key(name)))
      if (const auto window = file.integer(key(name)); window != 0 && window < context)
        file.refuse(key(name), "a window is not done");
    if (const char* name = "tensor_data_layout"; file.has(key(name)))
      if (file.text(key(name)) != "Meta AI original pth" && file.text(key(name)) != "reference")
        file.refuse(key(name), "only reference is read");
  }
};

}  // namespace generate
