// generate MODEL.gguf --prompt TEXT: continues a text with a language model of the Llama architecture
// (SmolLM2-135M-Instruct), token by token, with a KV cache. See --help.
#include "llama.hpp"
#include "sampler.hpp"
#include "tokenizer.hpp"

#include "../stopwatch.hpp"

#include <CLI/CLI.hpp>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <limits>
#include <optional>

namespace {

using examples::stopwatch;
using generate::Matrix;
using generate::sampler;

std::atomic<bool> stopped{false};

/// While one lives, ctrl-C ends what is being said; otherwise it ends the program at once.
class stop_on_interrupt {
 public:
  ~stop_on_interrupt() { std::signal(SIGINT, before_); }

 private:
  void (*before_)(int) = std::signal(SIGINT, [](int) { stopped = true; });
};

struct arguments {
  std::string model, prompt, kv = "f32", cache = "contiguous", perplexity, logits;
  bool chat = false, ignore_eos = false;
  int threads = 2, tokens = 256;
  std::ptrdiff_t window = 1024, sinks = 4;
  double temperature = 0, top_p = 1;
  std::uint32_t seed = 0;
};

arguments parse(int argc, char** argv, CLI::App& app) {
  arguments a;
  app.add_option("model", a.model, "a GGUF file (Llama architecture; F32, F16, Q8_0, Q4_1)")->required();
  app.add_option("--prompt", a.prompt, "the text to continue");
  app.add_option("--kv", a.kv, "what keys and values are stored as")
      ->check(CLI::IsMember({"f32", "bf16", "f16", "i8"}))
      ->capture_default_str();
  app.add_option("--cache", a.cache, "how they lie; ring: the newest --window tokens and the first --sinks")
      ->check(CLI::IsMember({"contiguous", "paged", "ring"}))
      ->capture_default_str();
  app.add_option("--window", a.window, "of --cache ring")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  app.add_option("--sinks", a.sinks, "of --cache ring")->check(CLI::Range(0, 1 << 24))->capture_default_str();
  app.add_option("--tokens", a.tokens, "generate at most so many")
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str();
  app.add_flag("--ignore-eos", a.ignore_eos, "never end the text: as many tokens as --tokens says");
  app.add_option("--threads", a.threads, "how many threads compute")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--temperature", a.temperature, "0: always the likeliest token")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  app.add_option("--top-p", a.top_p, "sample among the likeliest tokens that have this probability together")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--seed", a.seed, "of the random numbers where --temperature is not 0")
      ->capture_default_str();
  app.add_flag("--chat", a.chat,
               "the prompt, or without one each line of standard input, is said to the model, which answers");
  app.add_option("--perplexity", a.perplexity, "print the perplexity of this file's text and stop");
  app.add_option("--logits", a.logits, "write the logits after the prompt to this file (float32) and stop");
  app.parse(argc, argv);
  if (a.prompt.empty() && !a.chat && a.perplexity.empty())
    throw generate::input_error("there is nothing to continue: give --prompt, --chat or --perplexity");
  return a;
}

std::unique_ptr<generate::memory> memory_for(const arguments& a, const generate::llama& model) {
  const auto how = a.cache == "ring"    ? generate::layout::ring
                   : a.cache == "paged" ? generate::layout::paged
                                        : generate::layout::contiguous;
  const auto options =
      model.memory_for(how, how == generate::layout::ring ? a.window : model.config().context, a.sinks);
  if (a.kv == "bf16") return generate::make_memory<fovea::bf16>(options);
  if (a.kv == "f16") return generate::make_memory<fovea::fp16>(options);
  if (a.kv == "i8") return generate::make_memory<std::int8_t>(options);
  return generate::make_memory<float>(options);
}

/// Reads tokens into the memory, as many at once as it takes; the logits after the last.
Matrix read(generate::llama& model, generate::memory& past, const std::vector<int>& tokens) {
  Matrix logits;
  for (std::size_t at = 0; at < tokens.size() && !stopped;) {
    const auto left = tokens.size() - at;
    if (past.at_once() <= 0)
      throw generate::input_error("the text is longer than the model's context of " +
                                  std::to_string(model.config().context));
    const auto count =
        std::min(left, static_cast<std::size_t>(std::min<std::ptrdiff_t>(past.at_once(), 512)));
    logits = model({tokens.begin() + static_cast<std::ptrdiff_t>(at),
                    tokens.begin() + static_cast<std::ptrdiff_t>(at + count)},
                   past);
    at += count;
  }
  return logits;
}

void say(generate::llama& model, const generate::tokenizer& split, generate::memory& past,
         const std::string& text, const arguments& wanted, sampler& choose) {
  const stop_on_interrupt interrupt;
  const std::vector<int> prompt = split.encode(text);
  const double attended = model.attention_seconds();
  const stopwatch prefill;
  Matrix logits = read(model, past, prompt);
  if (stopped) return;
  const double prefill_seconds = prefill.seconds();
  const stopwatch decode;
  int made = 0;
  for (; made < wanted.tokens && !stopped && past.at_once() > 0; ++made) {
    if (wanted.ignore_eos) logits(0, split.end()) = -std::numeric_limits<float>::infinity();
    const int token = choose(logits);
    if (token == split.end()) break;
    const std::string piece = split.decode(token);
    std::fwrite(piece.data(), 1, piece.size(), stdout), std::fflush(stdout);
    logits = model({token}, past);
  }
  const double decode_seconds = decode.seconds();
  std::printf("\n"), std::fflush(stdout);
  if (past.at_once() <= 0)
    std::fprintf(stderr, "the model's context of %td tokens is full; --cache ring goes on without end\n",
                 model.config().context);
  std::fprintf(stderr,
               "prefill %zu tokens, %.1f tokens/s; decode %d tokens, %.1f tokens/s; %.1f %% in attention; "
               "cache %.1f MB (%s, %s)\n",
               prompt.size(), static_cast<double>(prompt.size()) / prefill_seconds, made,
               made / decode_seconds,
               100 * (model.attention_seconds() - attended) / (prefill_seconds + decode_seconds),
               static_cast<double>(past.bytes()) / 1e6, wanted.kv.c_str(), wanted.cache.c_str());
}

/// exp of the mean negative log-probability of each token after the first.
double perplexity(generate::llama& model, generate::memory& past, const std::vector<int>& tokens) {
  double sum = 0;
  for (std::size_t at = 0; at + 1 < tokens.size();) {
    const auto count = std::min(tokens.size() - 1 - at,
                                static_cast<std::size_t>(std::min<std::ptrdiff_t>(past.at_once(), 256)));
    if (count == 0) throw generate::input_error("the text is longer than the model's context");
    const Matrix logits = model({tokens.begin() + static_cast<std::ptrdiff_t>(at),
                                 tokens.begin() + static_cast<std::ptrdiff_t>(at + count)},
                                past, true);
    for (std::size_t t = 0; t < count; ++t) {
      const Eigen::RowVectorXd row = logits.row(static_cast<Eigen::Index>(t)).cast<double>();
      const double most = row.maxCoeff();
      sum += most + std::log((row.array() - most).exp().sum()) - row(tokens[at + t + 1]);
    }
    at += count;
  }
  return std::exp(sum / static_cast<double>(tokens.size() - 1));
}

std::string file_text(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw generate::input_error("cannot open " + path);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::string chat_turn(const std::string& text, bool first) {
  return std::string(first ? "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by "
                             "Hugging Face<|im_end|>\n"
                           : "<|im_end|>\n") +
         "<|im_start|>user\n" + text + "<|im_end|>\n<|im_start|>assistant\n";
}

void run(const arguments& wanted) {
  fovea::threads pool(wanted.threads);
  std::optional<generate::gguf> file(wanted.model);
  const generate::tokenizer split(*file);
  generate::llama model(*file, split.size(), pool);
  file.reset();  // all that is needed is in these two
  const auto past = memory_for(wanted, model);
  sampler choose(wanted.temperature, wanted.top_p, wanted.seed);
  if (!wanted.perplexity.empty()) {
    const auto tokens = split.encode(file_text(wanted.perplexity));
    if (tokens.size() < 2) throw generate::input_error(wanted.perplexity + " has fewer than two tokens");
    std::printf("%zu tokens, perplexity %.6f\n", tokens.size(), perplexity(model, *past, tokens));
  } else if (!wanted.logits.empty()) {
    const Matrix logits =
        read(model, *past, split.encode(wanted.chat ? chat_turn(wanted.prompt, true) : wanted.prompt));
    std::ofstream stream(wanted.logits, std::ios::binary);
    stream.write(reinterpret_cast<const char*>(logits.data()),
                 logits.size() * static_cast<std::streamsize>(sizeof(float)));
    if (!stream.flush()) throw generate::input_error("cannot write " + wanted.logits);
  } else if (!wanted.chat) {
    std::printf("%s", wanted.prompt.c_str());
    say(model, split, *past, wanted.prompt, wanted, choose);
  } else if (!wanted.prompt.empty()) {
    say(model, split, *past, chat_turn(wanted.prompt, true), wanted, choose);
  } else {
    bool first = true;
    for (std::string line; !stopped && std::getline(std::cin, line); first = false)
      say(model, split, *past, chat_turn(line, first), wanted, choose);
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Continues a text with a language model (GGUF, Llama architecture).");
  try {
    run(parse(argc, argv, app));
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    return code == 0 ? 0 : 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "generate: %s\n", e.what());
    return 2;
  }
  return stopped ? 130 : 0;
}
