// The program generate as a user runs it: on a small model made here, damaged files of it, and the real model
// where FOVEA_SMOLLM2 names its GGUF file.
#include <gtest/gtest.h>

#include "../support/random.hpp"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace {

const std::string program = GENERATE;

/// Each test has files of its own, as tests run side by side.
std::string in_temp(const std::string& name) {
  const std::string test = testing::UnitTest::GetInstance()->current_test_info()->name();
  return (std::filesystem::path(testing::TempDir()) / ("fovea_generate_" + test + "_" + name)).string();
}
std::string content(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

struct outcome {
  int status;
  std::string out, errors;
};

outcome run(const std::string& model, const std::string& arguments, const std::string& under = "") {
  const std::string command = under + " '" + program + "' '" + model + "' " + arguments + " > '" +
                              in_temp("out") + "' 2> '" + in_temp("err") + "'";
  const int status = std::system(command.c_str());
  return {status / 256, content(in_temp("out")), content(in_temp("err"))};
}

/// Writes GGUF: little-endian numbers, texts with their length before them.
class writer {
 public:
  std::string bytes = "GGUF";
  template <class N>
  writer& number(N n) {
    bytes.append(reinterpret_cast<const char*>(&n), sizeof n);
    return *this;
  }
  writer& text(const std::string& t) {
    number(std::uint64_t(t.size()));
    bytes += t;
    return *this;
  }
  writer& size(const std::string& key, std::uint32_t n) {
    return text(key).number(std::uint32_t(4)).number(n);
  }
  writer& real(const std::string& key, float x) { return text(key).number(std::uint32_t(6)).number(x); }
  writer& word(const std::string& key, const std::string& t) {
    return text(key).number(std::uint32_t(8)).text(t);
  }
  writer& list(const std::string& key, std::uint32_t type, std::size_t count) {
    return text(key).number(std::uint32_t(9)).number(type).number(std::uint64_t(count));
  }
};

struct tensor {
  std::string name;
  std::uint64_t rows, columns;
};

/// A model of two layers with random weights; its tokens are the 95 printable letters, one that joins two of
/// them, and an end.
std::string small_model() {
  constexpr std::uint32_t hidden = 32, inner = 48, heads = 4, kv_heads = 2, layers = 2;
  std::vector<std::string> tokens{"<end>", "\u0120"};
  for (char c = '!'; c <= '~'; ++c) tokens.push_back(std::string(1, c));
  tokens.push_back("ab");
  std::vector<tensor> tensors{{"token_embd.weight", tokens.size(), hidden},
                              {"output_norm.weight", 0, hidden}};
  for (std::uint32_t i = 0; i < layers; ++i) {
    const std::string layer = "blk." + std::to_string(i) + ".";
    const std::uint64_t kv = hidden / heads * kv_heads;
    for (const tensor& t : {tensor{"attn_norm", 0, hidden},
                            {"attn_q", hidden, hidden},
                            {"attn_k", kv, hidden},
                            {"attn_v", kv, hidden},
                            {"attn_output", hidden, hidden},
                            {"ffn_norm", 0, hidden},
                            {"ffn_gate", inner, hidden},
                            {"ffn_up", inner, hidden},
                            {"ffn_down", hidden, inner}})
      tensors.push_back({layer + t.name + ".weight", t.rows, t.columns});
  }
  writer w;
  w.number(std::uint32_t(3)).number(std::uint64_t(tensors.size())).number(std::uint64_t(14));
  w.word("general.architecture", "llama").size("llama.block_count", layers);
  w.size("llama.attention.head_count", heads).size("llama.attention.head_count_kv", kv_heads);
  w.size("llama.embedding_length", hidden).size("llama.feed_forward_length", inner);
  w.size("llama.context_length", 600).real("llama.rope.freq_base", 10000);
  w.real("llama.attention.layer_norm_rms_epsilon", 1e-5f).word("tokenizer.ggml.model", "gpt2");
  w.size("tokenizer.ggml.eos_token_id", 0).list("tokenizer.ggml.tokens", 8, tokens.size());
  for (const auto& t : tokens) w.text(t);
  w.list("tokenizer.ggml.token_type", 5, tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) w.number(std::int32_t(i == 0 ? 3 : 1));
  w.list("tokenizer.ggml.merges", 8, 1).text("a b");
  std::uint64_t offset = 0;
  for (const tensor& t : tensors) {
    w.text(t.name).number(std::uint32_t(t.rows == 0 ? 1 : 2)).number(t.columns);
    if (t.rows != 0) w.number(t.rows);
    w.number(std::uint32_t(0)).number(offset);
    offset += 4 * std::max<std::uint64_t>(t.rows, 1) * t.columns;
  }
  w.bytes.resize((w.bytes.size() + 31) / 32 * 32);
  fovea_test::random_source random(1);
  for (const tensor& t : tensors)
    for (std::uint64_t i = 0; i < std::max<std::uint64_t>(t.rows, 1) * t.columns; ++i) {
      const bool end = t.name == "token_embd.weight" && i < hidden;  // never the likeliest token
      w.number(static_cast<float>(end ? 0 : t.rows == 0 ? 1 : random.uniform(-0.4, 0.4)));
    }
  return w.bytes;
}

std::string written(const std::string& name, const std::string& bytes) {
  std::ofstream(in_temp(name), std::ios::binary) << bytes;
  return in_temp(name);
}

TEST(Generate, SaysTheSameForAnyCacheAndNumberOfThreads) {
  const std::string model = written("small.gguf", small_model()),
                    prompt = "--prompt 'abc def 12' --tokens 80 ";
  const outcome first = run(model, prompt + "--threads 1");
  ASSERT_EQ(first.status, 0) << first.errors;
  EXPECT_TRUE(first.out.starts_with("abc def 12"));
  EXPECT_GT(first.out.size(), 40u);
  EXPECT_NE(first.errors.find("in attention"), std::string::npos);
  EXPECT_EQ(run(model, prompt + "--threads 2").out, first.out);
  EXPECT_EQ(run(model, prompt + "--cache ring --window 200").out, first.out);
  EXPECT_EQ(run(model, prompt + "--cache paged").out, first.out);
  const std::string drawn = prompt + "--temperature 0.8 --top-p 0.9 --seed ";
  EXPECT_EQ(run(model, drawn + "3").out, run(model, drawn + "3 --threads 1").out);
  EXPECT_NE(run(model, drawn + "3").out, run(model, drawn + "4").out);
  for (const char* kv : {"bf16", "f16", "i8"}) EXPECT_EQ(run(model, prompt + "--kv " + kv).status, 0) << kv;
}

TEST(Generate, GoesOnInAWindowAndStopsAtTheContext) {
  const std::string model = written("small.gguf", small_model());
  const outcome endless = run(model, "--prompt 'abc' --tokens 900 --cache ring --window 16 --kv i8");
  EXPECT_EQ(endless.status, 0) << endless.errors;
  const outcome whole = run(model, "--prompt 'abc' --tokens 900");
  EXPECT_EQ(whole.status, 0) << whole.errors;
  const outcome longer = run(model, "--prompt '" + std::string(700, 'a') + "'");
  EXPECT_EQ(longer.status, 2);
  EXPECT_NE(longer.errors.find("context of 600"), std::string::npos) << longer.errors;
}

TEST(Generate, GoesOnPastTheEndIfAsked) {
  const std::string model = written("small.gguf", small_model()),
                    anything = "--prompt 'abc' --tokens 500 --temperature 100";
  EXPECT_LT(run(model, anything).out.size(), 500u);
  EXPECT_GE(run(model, anything + " --ignore-eos").out.size(), 500u);
}

TEST(Generate, EndsItsLineWhenInterrupted) {
  const std::string model = written("small.gguf", small_model());
  const outcome o = run(model, "--prompt 'abc' --tokens 10000000 --cache ring --window 16",
                        "timeout --preserve-status --signal=INT 1");
  EXPECT_EQ(o.status, 130) << o.errors;
  EXPECT_TRUE(o.out.ends_with("\n"));
  EXPECT_NE(o.errors.find("tokens/s"), std::string::npos) << o.errors;
}

void expect_refused(const std::string& model, const std::string& arguments, const std::string& why) {
  const outcome o = run(model, arguments);
  EXPECT_EQ(o.status, 2) << why;
  EXPECT_NE(o.errors.find(why), std::string::npos) << o.errors;
}

TEST(Generate, NamesWhatIsWrong) {
  const std::string good = small_model(), prompt = "--prompt a";
  const auto with = [&](const char* what, const char* other) {
    std::string bytes = good;
    bytes.replace(bytes.find(what), std::strlen(what), other);
    return written("bad.gguf", bytes);
  };
  expect_refused(in_temp("no such file"), prompt, "cannot open");
  expect_refused(written("bad.gguf", "hello"), prompt, "is not a GGUF file");
  expect_refused(written("bad.gguf", std::string("GGUF\2\0\0\0", 8)), prompt, "is GGUF version 2, not 3");
  for (const std::size_t size : {std::size_t(30), std::size_t(600), good.size() - 1})
    expect_refused(written("bad.gguf", good.substr(0, size)), prompt, "ends early");
  expect_refused(with("llama", "other"), prompt, "other");
  expect_refused(with("blk.1.ffn_up", "blk.7.ffn_up"), prompt, "has no tensor blk.1.ffn_up.weight");
  expect_refused(with("llama.block_count", "llama.black_count"), prompt, "has no metadata llama.block_count");
  expect_refused(with("gpt2", "bert"), prompt, "the tokenizer is bert, not gpt2");
  const std::string model = written("small.gguf", good);
  expect_refused(model, "", "nothing to continue");
  expect_refused(model, prompt + " --kv f8", "--kv");
  expect_refused(model, prompt + " --threads 0", "--threads");
  expect_refused(model, "--perplexity /no/such/file", "cannot open /no/such/file");
}

/// By transformers 5 in float32, which reads the same file: the first eight logits after the prompt, and the
/// text that the likeliest 64 tokens make.
struct known {
  const char *prompt, *continued;
  std::vector<float> logits;
};
const known prompts[] = {
    {"The capital of France is",
     " Paris.\n\nThe answer is: 2018-01-22 12:12:53.",
     {1.6136f, -11.8719f, -7.9445f, -9.3469f, -10.0852f, -10.8128f, -3.9415f, -10.8056f}},
    {"Once upon a time, in 1987, there lived   a café owner's daughter who'd never seen the sea.\n\n",
     "1987 was a time of great change, and the ocean was no exception. The owner's daughter, who was born in "
     "1987, had never seen the ocean. She was determined to make a difference, and she chose to live in a "
     "café.\n\n1987 was a time",
     {4.1487f, 0.9962f, 6.8561f, -0.3483f, -0.4257f, -0.8885f, 0.5477f, -0.8904f}},
    {"def fibonacci(n):\n    if n < 2:\n        return n\n",
     "\n# Example usage:\nprint(fibonacci(10))  # Output: 33\nprint(fibonacci(10))  # Output: "
     "33\nprint(fibonacci(10))  # Output: 33\n```\n\nIn this code, the `fib",
     {30.6018f, 20.1591f, 22.1316f, 16.5289f, 16.4998f, 17.5062f, 17.4908f, 17.5014f}}};

std::string quoted(const std::string& text) {
  std::string all = "'";
  for (const char c : text) all += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return all + "'";
}

TEST(Generate, SpeaksAsTransformersDoesWithTheRealModel) {
  const char* model = std::getenv("FOVEA_SMOLLM2");
  if (model == nullptr) GTEST_SKIP() << "FOVEA_SMOLLM2 is not set";
  for (const known& k : prompts) {
    const std::string prompt = "--prompt " + quoted(k.prompt);
    ASSERT_EQ(run(model, prompt + " --logits '" + in_temp("logits") + "'").status, 0);
    const std::string bytes = content(in_temp("logits"));
    ASSERT_EQ(bytes.size(), 49152 * sizeof(float));
    for (std::size_t i = 0; i < k.logits.size(); ++i) {
      float x;
      std::memcpy(&x, bytes.data() + i * sizeof x, sizeof x);
      EXPECT_NEAR(x, k.logits[i], 1e-3f);
    }
    for (const char* how : {"--threads 1", "--threads 2", "--cache paged"})
      EXPECT_EQ(run(model, prompt + " --tokens 64 " + how).out, k.prompt + std::string(k.continued) + "\n")
          << how;
  }
}

}  // namespace
