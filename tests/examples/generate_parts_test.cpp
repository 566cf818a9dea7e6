// Parts of the program generate: byte-pair encoding against the rule itself, and what its reader of GGUF
// files takes and refuses.
#include "generate/llama_config.hpp"
#include "generate/tokenizer.hpp"

#include "../support/random.hpp"
#include "small_gguf.hpp"

#include <gtest/gtest.h>

#include <functional>

namespace {

using namespace small_gguf;

/// The rule, as it is written: of all neighbours the pair of least rank, the leftmost of its kind.
std::vector<std::string> joined_by_the_rule(std::vector<std::string> parts,
                                            const std::vector<std::string>& merges) {
  for (;;) {
    std::size_t best = merges.size(), at = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = std::ranges::find(merges, parts[i] + " " + parts[i + 1]);
      if (const auto rank = static_cast<std::size_t>(found - merges.begin()); rank < best)
        best = rank, at = i;
    }
    if (best == merges.size()) return parts;
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

std::vector<std::string> joined(generate::byte_pairs& pairs, const std::vector<std::string>& parts) {
  std::vector<int> symbols;
  for (const auto& part : parts) symbols.push_back(pairs.symbol(part));
  std::vector<std::string> texts;
  for (const int symbol : pairs.join(symbols)) texts.push_back(pairs.text(symbol));
  return texts;
}

TEST(BytePairs, JoinAsTheRuleSays) {
  fovea_test::random_source random(7);
  std::size_t joins = 0;
  for (int round = 0; round < 60; ++round) {
    // Merges of letters and of what earlier ones made, as a tokenizer learns them, in any order; some twice.
    std::vector<std::string> known{"a", "b", "c"}, merges;
    const auto count = random.integer(0, 25);
    for (std::ptrdiff_t i = 0; i < count; ++i) {
      const std::string left = random.pick(known), right = random.pick(known);
      merges.push_back(left + " " + right), known.push_back(left + right);
    }
    if (random.chance(0.5)) random.shuffle(merges);
    generate::byte_pairs pairs(merges);
    for (int word = 0; word < 20; ++word) {
      std::vector<std::string> letters;
      const auto length = random.integer(0, 60);
      for (std::ptrdiff_t i = 0; i < length; ++i)
        letters.push_back(std::string(1, "abcd"[random.integer(0, random.chance(0.5) ? 3 : 1)]));
      const auto want = joined_by_the_rule(letters, merges);
      ASSERT_EQ(joined(pairs, letters), want);
      joins += letters.size() - want.size();
    }
  }
  EXPECT_GT(joins, 5000u);
}

TEST(BytePairs, TakeNLogN) {  // by the rule itself: hours
  std::vector<std::string> merges{"a a"};
  for (std::string part = "aa"; part.size() < 64; part += part) merges.push_back(part + " " + part);
  generate::byte_pairs pairs(merges);
  const auto parts = joined(pairs, std::vector<std::string>(1'000'001, "a"));
  EXPECT_EQ(parts.size(), 1'000'001u / 64 + 1);
}

TEST(BytePairs, RefuseMergesThatAreNotTwoParts) {
  for (const char* merge : {"ab", " b", "a ", "a b c", ""}) {
    try {
      generate::byte_pairs pairs({"a b", merge});
      ADD_FAILURE() << "accepted " << merge;
    } catch (const generate::input_error& e) {
      EXPECT_EQ(std::string(e.what()),
                std::string("the tokenizer's merge 1, \"") + merge + "\", is not two parts");
    }
  }
}

/// What reading a file of these bytes as a model throws.
std::string complaint(const std::string& bytes) {
  const std::string path = written("model.gguf", bytes);
  try {
    const generate::gguf file(path);
    const generate::tokenizer split(file);
    const generate::llama_config config(file, split.size());
  } catch (const generate::input_error& e) {
    const std::string what = e.what();
    return what.starts_with(path + " ") ? what.substr(path.size() + 1) : what;
  }
  return "accepted";
}
std::string complaint(const std::function<void(model&)>& change, std::uint64_t alignment = 32) {
  model m = small_model();
  change(m);
  return complaint(m.bytes(alignment));
}

TEST(Gguf, TakesTheModelThatTheOtherTestsChange) {
  EXPECT_EQ(complaint([](model&) {}), "accepted");
  const std::string bytes = small_model().bytes();
  EXPECT_EQ(complaint(bytes + std::string(31, '\0')), "accepted");  // the last tensor's alignment
}

TEST(Gguf, RefusesMetadataThatIsNotDone) {
  const std::pair<std::map<std::string, std::string>, const char*> cases[] = {
      {{{"general.architecture", word("qwen2")}}, "the model's architecture is qwen2, not llama"},
      {{{"general.type", word("adapter")}}, "general.type = \"adapter\"; only a model can be run"},
      {{{"general.quantization_version", size(1)}}, "general.quantization_version = 1; only 2 is read"},
      {{{"split.count", size(2)}}, "split.count = 2; a model is read from one file"},
      {{{"llama.rope.scaling.type", word("longrope")}},
       "llama.rope.scaling.type = \"longrope\"; done are none, linear and yarn"},
      {{{"llama.rope.scaling.type", word("yarn")}, {"llama.rope.scaling.factor", real(0.5)}},
       "llama.rope.scaling.factor = 0.5; with yarn it is at least 1"},
      {{{"llama.rope.scaling.type", word("yarn")}, {"llama.rope.freq_base", real(1)}},
       "llama.rope.freq_base = 1; with yarn it is above 1"},
      {{{"llama.rope.scaling.type", word("yarn")}, {"llama.rope.scaling.original_context_length", size(0)}},
       "llama.rope.scaling.original_context_length = 0; it is within 1 and 2^24"},
      {{{"llama.rope.scaling.factor", real(-2)}}, "llama.rope.scaling.factor = -2; it is a number above 0"},
      {{{"llama.rope.scale_linear", real(-2)}}, "llama.rope.scale_linear = -2; it is a number above 0"},
      {{{"llama.rope.scaling.factor", size(2)}}, "llama.rope.scaling.factor = 2, not a number"},
      {{{"llama.rope.scaling.attn_factor", real(2)}}, "llama.rope.scaling.attn_factor = 2; only 1 is done"},
      {{{"llama.rope.scaling.yarn_log_multiplier", real(2)}},
       "llama.rope.scaling.yarn_log_multiplier = 2; generate does not know what that changes"},
      {{{"llama.rope.dimension_count", size(5)}},
       "llama.rope.dimension_count = 5; it is even and at most the 8"},
      {{{"llama.rope.dimension_count", size(16)}},
       "llama.rope.dimension_count = 16; it is even and at most the 8"},
      {{{"llama.rope.freq_base", real(0)}}, "llama.rope.freq_base = 0; it is a number above 0"},
      {{{"llama.attention.layer_norm_rms_epsilon", real(-1)}}, "llama.attention.layer_norm_rms_epsilon = -1"},
      {{{"llama.attention.sliding_window", size(100)}},
       "llama.attention.sliding_window = 100; a window is not done"},
      {{{"llama.attention.causal", flag(false)}}, "llama.attention.causal = false; only true is done"},
      {{{"llama.attention.value_length", size(4)}},
       "llama.attention.value_length = 4; only the keys' length, 8, is done"},
      {{{"llama.attention.scale", real(0.5f)}}, "llama.attention.scale = 0.5; generate does not know"},
      {{{"llama.attn_logit_softcapping", real(50)}},
       "llama.attn_logit_softcapping = 50; generate does not know"},
      {{{"llama.final_logit_softcapping", real(30)}},
       "llama.final_logit_softcapping = 30; generate does not know"},
      {{{"llama.logit_scale", real(2)}}, "llama.logit_scale = 2; generate does not know"},
      {{{"llama.expert_count", size(8)}}, "llama.expert_count = 8; a mixture of experts is not done"},
      {{{"llama.expert_used_count", size(2)}},
       "llama.expert_used_count = 2; a mixture of experts is not done"},
      {{{"llama.tensor_data_layout", word("other")}},
       "llama.tensor_data_layout = \"other\"; only reference is read"},
      {{{"llama.vocab_size", size(98)}}, "llama.vocab_size = 98; its tokenizer has 100 tokens"},
      {{{"llama.block_count", size(0)}}, "llama.block_count = 0; it is within 1 and 2^24"},
      {{{"llama.block_count", integers({2, 2})}}, "llama.block_count = a list, not an integer"},
      {{{"llama.block_count", raw(std::uint32_t(10)) + raw(~std::uint64_t(0))}},
       "llama.block_count with 18446744073709551615, above 2^63 - 1"},
      {{{"llama.attention.head_count", size(5)}}, "has 32 dimensions for 5 heads and 2 key/value heads"},
      {{{"tokenizer.ggml.model", word("llama")}}, "the tokenizer is llama, not gpt2"},
      {{{"tokenizer.ggml.pre", word("llama-bpe")}},
       "tokenizer.ggml.pre = \"llama-bpe\"; words are found as smollm and gpt-2 do"},
      {{{"tokenizer.ggml.add_eos_token", flag(true)}},
       "tokenizer.ggml.add_eos_token = true; only false is done"},
      {{{"tokenizer.ggml.add_space_prefix", flag(true)}},
       "tokenizer.ggml.add_space_prefix = true; only false is done"},
      {{{"tokenizer.ggml.add_bos_token", size(1)}}, "tokenizer.ggml.add_bos_token = 1, not true or false"},
      {{{"tokenizer.ggml.add_bos_token", flag(true)}}, "has no metadata tokenizer.ggml.bos_token_id"},
      {{{"tokenizer.ggml.add_bos_token", flag(true)}, {"tokenizer.ggml.bos_token_id", size(100)}},
       "tokenizer.ggml.bos_token_id = 100; there are 100 tokens"},
      {{{"tokenizer.ggml.eos_token_id", size(100)}},
       "tokenizer.ggml.eos_token_id = 100; there are 100 tokens"},
      {{{"tokenizer.ggml.remove_extra_whitespaces", flag(true)}},
       "tokenizer.ggml.remove_extra_whitespaces = true; generate does not know"},
      {{{"tokenizer.ggml.merges", words({"a b", "c"})}}, "the tokenizer's merge 1, \"c\", is not two parts"},
      {{{"general.alignment", size(0)}}, "general.alignment = 0; it is a multiple of 8"},
      {{{"general.alignment", size(12)}}, "general.alignment = 12; it is a multiple of 8"},
      {{{"general.name", raw(std::uint32_t(7)) + "\2"}}, "general.name with a truth value of 2"},
      {{{"general.name", raw(std::uint32_t(13))}}, "general.name of unknown type 13"},
      {{{"general.languages", list(9, 1)}}, "general.languages of unknown type 9"},
      {{{"general.languages", list(8, std::size_t(1) << 61)}}, "ends early"},
      {{{"general.name", raw(std::uint32_t(8)) + raw(~std::uint64_t(0))}}, "ends early"}};
  for (const auto& [metadata, why] : cases) {
    const std::string message = complaint([&](model& m) {
      for (const auto& [key, value] : metadata) m.metadata[key] = value;
    });
    EXPECT_NE(message.find(why), std::string::npos) << why << "\n  " << message;
  }
  for (const char* key : {"llama.context_length", "llama.attention.layer_norm_rms_epsilon",
                          "tokenizer.ggml.pre", "tokenizer.ggml.merges", "tokenizer.ggml.eos_token_id"})
    EXPECT_EQ(complaint([&](model& m) { m.metadata.erase(key); }), std::string("has no metadata ") + key);
}

TEST(Gguf, RefusesTokensThatAreTwoOrHaveNoKind) {
  EXPECT_EQ(complaint([](model& m) { m.tokens[40] = m.tokens[20]; }),
            "the tokenizer's tokens 20 and 40 are both \"" + small_model().tokens[20] + '"');
  EXPECT_EQ(complaint([](model& m) { m.kinds.pop_back(); }), "the tokenizer has 100 tokens but 99 types");
  EXPECT_EQ(complaint([](model& m) { m.tokens[40] = m.tokens[20] = ""; }), "accepted");
}

TEST(Gguf, ChecksWhereTensorsLie) {
  const auto first = [](model& m) -> tensor& { return m.tensors.front(); };
  const auto says = [](const std::string& message, const char* why) {
    EXPECT_NE(message.find(why), std::string::npos) << why << "\n  " << message;
  };
  says(complaint([&](model& m) { m.tensors[2].name = m.tensors[1].name; }),
       "has a tensor output_norm.weight twice");
  says(complaint([&](model& m) { m.tensors[1].gap = 64; }),
       "has bytes 12800 to 12864 of its data in no tensor");
  says(complaint([&](model& m) { m.tensors[1].gap = 4; }),
       "output_norm.weight at byte 12804 of its data, not a multiple of its alignment of 32");
  says(complaint([&](model& m) { first(m).sizes[1] += 1; }),
       "has a tensor output_norm.weight at byte 12800 of its data, where another one lies");
  says(complaint([&](model& m) {
         first(m).sizes = {1u << 30, 1u << 30};
       }),
       "ends early: the tensor token_embd.weight needs 4611686018427387904 bytes");
  says(complaint([&](model& m) {
         first(m).sizes = {std::uint64_t(1) << 62, 16};
       }),
       "has a tensor token_embd.weight with a size of 4611686018427387904");
  says(complaint([&](model& m) {
         first(m).sizes = {0, 16};
       }),
       "has a tensor token_embd.weight with a size of 0");
  says(complaint([&](model& m) {
         first(m).sizes = {1, 2, 3};
       }),
       "has a tensor token_embd.weight of 3 dimensions");
  says(complaint([&](model& m) { first(m).type = 12; }),
       "of type 12 (Q4_K); read are F32, F16, BF16, Q8_0, Q4_1");
  says(complaint([&](model& m) { first(m).type = 99; }), "of type 99; read are");
  says(complaint([&](model& m) { m.at("blk.0.ffn_down.weight").type = 8; }),
       "blk.0.ffn_down.weight of 48 columns, not a multiple of 32");
  const std::string bytes = small_model().bytes();
  says(complaint(bytes + std::string(32, '\0')), "of its data in no tensor");
  says(complaint(bytes.substr(0, bytes.size() - 1)),
       "ends early: the tensor blk.1.ffn_down.weight needs 6144 bytes");
  std::string far = bytes;  // an offset that wraps when the data's place is added
  const auto at = far.find("blk.1.ffn_down.weight") + 21 + 4 + 16 + 4;
  far.replace(at, 8, raw(~std::uint64_t(31)));
  says(complaint(far),
       "ends early: the tensor blk.1.ffn_down.weight needs 6144 bytes from byte 18446744073709551584");
  EXPECT_EQ(complaint([](model& m) { m.metadata["general.alignment"] = size(64); }, 64), "accepted");
  says(complaint([](model& m) { m.metadata["general.alignment"] = size(1024); }, 64),
       "not a multiple of its alignment");
  EXPECT_EQ(complaint("GGUF"), "ends early, at byte 4");
  EXPECT_EQ(complaint(""), "is not a GGUF file");
}

TEST(Gguf, ReadsNumbersOf16Bits) {
  model m = small_model();
  const auto halves = [](tensor& t, std::uint32_t type, std::uint16_t one) {
    t.type = type;
    t.numbers.assign((t.numbers.size() + 1) / 2, 0);
    const std::uint16_t both[2] = {one, 0};
    std::memcpy(t.numbers.data(), both, 4);
  };
  halves(m.at("blk.0.attn_q.weight"), 1, 0x3e00), halves(m.at("blk.0.attn_k.weight"), 30, 0x3fc0);
  const generate::gguf file(written("model.gguf", m.bytes()));
  generate::Matrix q(32, 32), k(16, 32);
  file.tensor("blk.0.attn_q.weight", 32, 32, q.data()), file.tensor("blk.0.attn_k.weight", 16, 32, k.data());
  EXPECT_EQ(q(0, 0), 1.5f);
  EXPECT_EQ(k(0, 0), 1.5f);
  EXPECT_EQ(q(0, 1), 0.f);
}

TEST(Tokenizer, FindsWholeTokensAndEnds) {
  model m = small_model();
  m.tokens.insert(m.tokens.end(), {"<x>", "<x>y", "", ""}), m.kinds.insert(m.kinds.end(), {4, 3, 3, 3});
  m.metadata["tokenizer.ggml.eot_token_id"] = size(98);
  const generate::gguf file(written("model.gguf", m.bytes()));
  const generate::tokenizer split(file);
  const auto id = [&](const char* t) { return *split.find(t); };
  EXPECT_EQ(split.encode("ab<x>yb<x><end>", true),
            (std::vector<int>{id("ab"), id("<x>y"), id("b"), id("<x>"), id("<end>")}));
  EXPECT_EQ(split.decode(id("<x>")), "<x>");
  EXPECT_EQ(split.decode(id("<x>y")), "");
  EXPECT_TRUE(split.is_end(0));
  EXPECT_TRUE(split.is_end(98));
  EXPECT_FALSE(split.is_end(97));
  std::string many;
  for (int i = 0; i < 100'000; ++i) many += "<end>a";
  EXPECT_EQ(split.encode(many, true).size(), 200'000u);
}

TEST(Tokenizer, SplitsDigitsWhereTheFileSaysSo) {
  model m = small_model();
  m.metadata["tokenizer.ggml.merges"] = words({"1 2", "\u0120 3"});
  m.tokens.insert(m.tokens.end(), {"12",
                                   "\u0120"
                                   "3"}),
      m.kinds.insert(m.kinds.end(), {1, 1});
  for (const bool apart : {true, false}) {
    m.metadata["tokenizer.ggml.pre"] = word(apart ? "smollm" : "gpt-2");
    const generate::gguf file(written("model.gguf", m.bytes()));
    const generate::tokenizer split(file);
    EXPECT_EQ(split.encode("12 3", true).size(), apart ? 4u : 2u);
  }
}

}  // namespace
