// The program generate as a user runs it: on a small model made here, damaged files of it, and the real model
// where FOVEA_SMOLLM2 names its GGUF file.
#include "../support/worse.hpp"
#include "small_gguf.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>

namespace {

using namespace small_gguf;

const std::string program = GENERATE;

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

std::string with(const std::function<void(model&)>& change) {
  model m = small_model();
  change(m);
  return written("changed.gguf", m.bytes());
}

/// The logits after a prompt.
std::vector<float> logits(const std::string& model, const std::string& prompt = "abc def 12") {
  const outcome o = run(model, "--prompt '" + prompt + "' --logits '" + in_temp("logits") + "'");
  EXPECT_EQ(o.status, 0) << o.errors;
  const std::string bytes = content(in_temp("logits"));
  std::vector<float> numbers(bytes.size() / sizeof(float));
  std::memcpy(numbers.data(), bytes.data(), bytes.size());
  return numbers;
}
float distance(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  float most = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    most = fovea_test::worse(most, std::abs(a[i] - b[i]));
  return most;
}

TEST(Generate, SaysTheSameForAnyCacheAndNumberOfThreads) {
  const std::string model = written("small.gguf", small_model().bytes()),
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
  for (const char* kv : {"bf16", "f16", "f8", "i8", "q4"})
    EXPECT_EQ(run(model, prompt + "--kv " + kv).status, 0) << kv;
}

TEST(Generate, GoesOnInAWindowAndStopsAtTheContext) {
  const std::string model = written("small.gguf", small_model().bytes());
  const outcome endless = run(model, "--prompt 'abc' --tokens 900 --cache ring --window 16 --kv i8");
  EXPECT_EQ(endless.status, 0) << endless.errors;
  const outcome whole = run(model, "--prompt 'abc' --tokens 900");
  EXPECT_EQ(whole.status, 0) << whole.errors;
  const outcome longer = run(model, "--prompt '" + std::string(700, 'a') + "'");
  EXPECT_EQ(longer.status, 2);
  EXPECT_NE(longer.errors.find("context of 600"), std::string::npos) << longer.errors;
}

TEST(Generate, GoesOnPastTheEndIfAsked) {
  const std::string model = written("small.gguf", small_model().bytes()),
                    anything = "--prompt 'abc' --tokens 500 --temperature 100";
  EXPECT_LT(run(model, anything).out.size(), 500u);
  EXPECT_GE(run(model, anything + " --ignore-eos").out.size(), 500u);
}

TEST(Generate, EndsItsLineWhenInterrupted) {
  const std::string model = written("small.gguf", small_model().bytes());
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
  const std::string good = small_model().bytes(), prompt = "--prompt a";
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
  expect_refused(model, prompt + " --kv f9", "--kv");
  expect_refused(model, prompt + " --threads 0", "--threads");
  expect_refused(model, "--perplexity /no/such/file", "cannot open /no/such/file");
}

TEST(Generate, DoesWhatTheMetadataSays) {
  const std::vector<float> base = logits(with([](model&) {}));
  ASSERT_EQ(base.size(), 100u);
  const auto printed = [](const std::map<std::string, std::string>& metadata) {
    return logits(with([&](model& m) {
      for (const auto& [key, value] : metadata) m.metadata[key] = value;
    }));
  };
  // Positions divided by 4, said in four ways; and not at all.
  const auto slower =
      printed({{"llama.rope.scaling.type", word("linear")}, {"llama.rope.scaling.factor", real(4)}});
  EXPECT_GT(distance(slower, base), 1e-3f);
  EXPECT_EQ(printed({{"llama.rope.scaling.factor", real(4)}}), slower);
  EXPECT_EQ(printed({{"llama.rope.scale_linear", real(4)}}), slower);
  EXPECT_EQ(logits(with([](model& m) {
              m.tensors.push_back({"rope_freqs.weight", {4}, {4, 4, 4, 4}});
            })),
            slower);
  EXPECT_EQ(printed({{"llama.rope.scaling.type", word("none")}, {"llama.rope.scaling.factor", real(4)}}),
            base);
  // YaRN: fast pairs keep their frequency, slow ones turn a quarter as fast, and logits are sharpened; which
  // are fast depends on the trained context, and a factor of 1 changes nothing.
  const auto yarn = [&](float factor, std::uint32_t original) {
    return printed({{"llama.rope.scaling.type", word("yarn")},
                    {"llama.rope.scaling.factor", real(factor)},
                    {"llama.rope.scaling.original_context_length", size(original)}});
  };
  EXPECT_EQ(yarn(1, 100), base);
  EXPECT_GT(distance(yarn(4, 100), base), 1e-3f);
  EXPECT_GT(distance(yarn(4, 100), slower), 1e-3f);
  EXPECT_GT(distance(yarn(4, 100), yarn(4, 1000)), 1e-4f);
  EXPECT_EQ(logits(with([](model& m) { m.metadata.erase("llama.rope.freq_base"); })), base);
  EXPECT_GT(distance(printed({{"llama.rope.freq_base", real(500)}}), base), 1e-3f);
  // Half of a head turns: as if the other half turned ever so slowly.
  const auto half = printed({{"llama.rope.dimension_count", size(4)}});
  EXPECT_GT(distance(half, base), 1e-3f);
  const auto same_as_half = logits(with([](model& m) {
    m.tensors.push_back({"rope_freqs.weight", {4}, {1, 0.1f / 0.01f, 3e38f, 3e38f}});
  }));
  EXPECT_LT(distance(half, same_as_half), 1e-4f);
  EXPECT_EQ(printed({{"llama.attention.key_length", size(8)}, {"llama.attention.value_length", size(8)}}),
            base);
}

TEST(Generate, AddsBiases) {
  const auto base = logits(with([](model&) {}));
  fovea_test::random_source random(3);
  const auto numbers = [&](std::size_t count) {
    std::vector<float> all;
    for (std::size_t i = 0; i < count; ++i) all.push_back(static_cast<float>(random.uniform(-1, 1)));
    return all;
  };
  for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}) {
    const std::string bias = std::string("blk.1.") + name;
    const auto rows = small_model().at(bias + ".weight").sizes[1];
    const auto other = logits(with([&](model& m) {
      m.tensors.push_back({bias + ".bias", {rows}, numbers(rows)});
    }));
    EXPECT_GT(distance(base, other), 1e-3f) << bias;
  }
  // Weights of attention sum to 1: what is added to all values is added to the output, by way of its weights.
  const auto of_values = numbers(kv_heads * dim);
  std::vector<float> of_output(hidden, 0);
  const auto weights = small_model().at("blk.1.attn_output.weight").numbers;
  for (std::size_t r = 0; r < hidden; ++r)
    for (std::size_t c = 0; c < heads * dim; ++c)
      of_output[r] += weights[r * heads * dim + c] * of_values[c / dim / (heads / kv_heads) * dim + c % dim];
  const auto one = logits(with([&](model& m) {
    m.tensors.push_back({"blk.1.attn_v.bias", {16}, of_values});
  }));
  const auto two = logits(with([&](model& m) {
    m.tensors.push_back({"blk.1.attn_output.bias", {32}, of_output});
  }));
  EXPECT_LT(distance(one, two), 1e-4f);
  expect_refused(with([](model& m) {
                   m.tensors.push_back({"blk.0.attn_q_norm.weight", {8}, std::vector<float>(8, 1.f)});
                 }),
                 "--prompt a", "has a tensor blk.0.attn_q_norm.weight, which generate has no use for");
  expect_refused(with([](model& m) {
                   m.tensors.push_back({"rope_freqs.weight", {4}, {1, 0, 1, 1}});
                 }),
                 "--prompt a", "rope_freqs.weight with a number that is not above 0");
}

TEST(Generate, BeginsWithTheTokenThatBeginsATextWhereTheFileSaysSo) {
  const auto starts = with([](model& m) {
    m.metadata["tokenizer.ggml.add_bos_token"] = flag(true),
    m.metadata["tokenizer.ggml.bos_token_id"] = size(98);
  });
  const auto with_start = logits(starts);
  const auto does_not = with([](model& m) { m.metadata["tokenizer.ggml.add_bos_token"] = flag(false); });
  EXPECT_EQ(logits(does_not, "<|im_end|>abc def 12"), with_start);
  EXPECT_GT(distance(logits(does_not), with_start), 1e-3f);
}

TEST(Generate, GrowsItsCacheWithTheText) {
  const std::string model = with([](::model& m) { m.metadata["llama.context_length"] = size(1 << 24); });
  const std::string letters(300, 'c'), prompt = "--prompt '" + letters + "' --tokens 300 --ignore-eos ";
  // A cache for all of the context: 8.6 GB.
  const outcome grown = run(model, prompt, "ulimit -v 4000000;"),
                fixed = run(model, prompt + "--cache ring --window 700");
  ASSERT_EQ(grown.status, 0) << grown.errors;
  EXPECT_EQ(grown.out, fixed.out);
  EXPECT_NE(grown.errors.find("cache 0.3 MB (f32, contiguous)"), std::string::npos) << grown.errors;
  const outcome paged = run(model, prompt + "--cache paged", "ulimit -v 4000000;");
  EXPECT_EQ(paged.out, fixed.out) << paged.errors;
  EXPECT_EQ(run(model, prompt + "--kv i8 --cache paged", "ulimit -v 4000000;").status, 0);
  EXPECT_EQ(run(model, prompt + "--kv i8", "ulimit -v 4000000;").status, 0);
  const outcome large = run(model, prompt + "--cache ring --window 16000000", "ulimit -v 1000000;");
  EXPECT_EQ(large.status, 2);
  EXPECT_NE(large.errors.find(
                "the keys and values of 16000004 tokens (--context, --kv, --cache) need 4096001024 bytes"),
            std::string::npos)
      << large.errors;
}

TEST(Generate, KeepsToItsContext) {
  const std::string model = written("small.gguf", small_model().bytes()),
                    prompt = "--prompt '" + std::string(40, 'c') + "' ";
  const outcome cut = run(model, prompt + "--tokens 100 --ignore-eos --context 60");
  EXPECT_EQ(cut.status, 0) << cut.errors;
  EXPECT_TRUE(cut.errors.starts_with("the context of 60 tokens is full")) << cut.errors;
  EXPECT_TRUE(run(model, prompt + "--tokens 100 --ignore-eos")
                  .out.starts_with(cut.out.substr(0, cut.out.size() - 1)));
  expect_refused(model, prompt + "--context 30", "the text is 40 tokens, longer than --context, 30");
  expect_refused(model, prompt + "--context 601", "--context is 601 tokens, the model's context 600");
  expect_refused(model, prompt + "--context 0", "--context");
  expect_refused(model, prompt + "--context 30 --cache ring", "--context is not for --cache ring");
  expect_refused(model, prompt + "--window 30", "--window is for --cache ring, not for --cache contiguous");
  expect_refused(model, prompt + "--cache ring --window 600",
                 "--window and --sinks is 604 tokens, the model's context 600");
  const outcome ring = run(model, prompt + "--tokens 900 --ignore-eos --cache ring");  // 596 and 4 sinks
  EXPECT_EQ(ring.status, 0) << ring.errors;
}

TEST(Generate, RefusesTextThatIsNoUtf8) {
  const std::string model = written("small.gguf", small_model().bytes());
  expect_refused(model, "--prompt \"$(printf 'ab\\377c')\"", "generate: --prompt: invalid UTF-8 at byte 3");
  expect_refused(model, "--chat --prompt \"$(printf '\\355\\240\\200')\"",
                 "generate: --prompt: invalid UTF-8 at byte 1");
  expect_refused(model, "--chat --tokens 1 < '" + written("in", "fine\r\nab\xc3") + "'",
                 "generate: standard input, line 2: invalid UTF-8 at byte 3");
  expect_refused(model, "--perplexity '" + written("text", "a\nb\x80") + "'",
                 "text: invalid UTF-8 at byte 4");
}

TEST(Generate, SaysItsNameBeforeEveryError) {
  const std::string model = written("small.gguf", small_model().bytes());
  for (const char* arguments : {"", "--prompt", "--prompt a --kv f9", "--prompt a --nonsense",
                                "--prompt a --tokens x", "--prompt a --perplexity b", "--logits x --chat"}) {
    const outcome o = run(model, arguments);
    EXPECT_EQ(o.status, 2) << arguments;
    EXPECT_TRUE(o.errors.find("generate: ") == 0 || o.errors.find("\ngenerate: ") != std::string::npos)
        << arguments << o.errors;
  }
  const std::string full = "'" + program + "' '" + model + "' --prompt a --tokens 1 > /dev/full 2> '";
  EXPECT_EQ(std::system((full + in_temp("err") + "'").c_str()) / 256, 2);
  EXPECT_NE(content(in_temp("err")).find("generate: cannot write standard output"), std::string::npos);
  const outcome help = run(model, "--help");
  EXPECT_EQ(help.status, 0);
  EXPECT_EQ(help.errors, "");
  for (const char* option :
       {"--prompt", "--chat", "--perplexity", "--logits", "--tokens", "--ignore-eos", "--kv", "--cache",
        "--context", "--window", "--sinks", "--threads", "--temperature", "--top-p", "--seed"})
    EXPECT_NE(help.out.find(option), std::string::npos) << option;
}

TEST(Generate, TalksAsTheModelWasTaught) {
  const std::string model = written("small.gguf", small_model().bytes());
  expect_refused(with([](::model& m) { m.tokens[97] = "<|user|>"; }), "--chat --prompt a",
                 "which the model has no tokens for");
  const auto with_template = [](const std::string& text) {
    return with([&](::model& m) { m.metadata["tokenizer.chat_template"] = word(text); });
  };
  expect_refused(with_template("<|im_start|>system\nYou are Qwen"), "--chat --prompt a",
                 "tokenizer.chat_template = \"<|im_start|>system");
}

/// Lines typed on a terminal: what the program writes there.
std::string typed(const std::string& model, const std::string& lines) {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  EXPECT_TRUE(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
  const std::string name = ptsname(terminal);
  const int held = open(name.c_str(), O_RDWR | O_NOCTTY);
  EXPECT_EQ(write(terminal, lines.data(), lines.size()), static_cast<ssize_t>(lines.size()));
  run(model, "--chat --tokens 2 < '" + name + "'");
  close(held), close(terminal);
  return content(in_temp("err"));
}

TEST(Generate, AsksOnATerminalOnly) {
  const std::string model = written("small.gguf", small_model().bytes());
  const std::string asked = typed(model, "a\nb\n\4");
  EXPECT_TRUE(asked.starts_with("> prefill ")) << asked;
  EXPECT_NE(asked.find("\n> prefill "), std::string::npos) << asked;
  EXPECT_TRUE(asked.ends_with("\n> \n")) << asked;
  const outcome o = run(model, "--chat --tokens 2 < '" + written("in", "a\n") + "'");
  EXPECT_TRUE(o.errors.starts_with("prefill ")) << o.errors;
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
