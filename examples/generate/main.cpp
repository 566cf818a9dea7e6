// generate MODEL.gguf --prompt TEXT: continues a text with a language model of the Llama architecture
// (SmolLM2-135M-Instruct), token by token, with a KV cache. See --help.
#include "arguments.hpp"
#include "llama.hpp"
#include "sampler.hpp"
#include "tokenizer.hpp"

#include "../command_line.hpp"
#include "../stopwatch.hpp"
#include "../utf8.hpp"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <limits>
#include <optional>

namespace {

using examples::stopwatch;
using generate::arguments;
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

std::unique_ptr<generate::memory> memory_for(const arguments& a, const generate::llama& model) {
  const Eigen::Index context = model.config().context;
  const auto within = [&](const std::string& name, Eigen::Index tokens) {
    if (tokens > context)
      throw generate::input_error(name + " is " + std::to_string(tokens) + " tokens, the model's context " +
                                  std::to_string(context));
    return tokens;
  };
  generate::memory_options options;
  if (a.cache == "ring") {
    const Eigen::Index window =
        a.window != 0 ? a.window : std::clamp<Eigen::Index>(context - a.sinks, 1, 1024);
    within("--window and --sinks", window + a.sinks);
    options = model.memory_for(generate::layout::ring, window, a.sinks);
  } else {
    const auto how = a.cache == "paged" ? generate::layout::paged : generate::layout::contiguous;
    options = model.memory_for(how, a.context != 0 ? within("--context", a.context) : context, 0);
  }
  if (a.kv == "bf16") return generate::make_memory<fovea::bf16>(options);
  if (a.kv == "f16") return generate::make_memory<fovea::fp16>(options);
  if (a.kv == "f8") return generate::make_memory<fovea::fp8>(options);
  if (a.kv == "q4") return generate::make_memory_of_4_bits(options);
  if (a.kv == "i8") return generate::make_memory<std::int8_t>(options);
  return generate::make_memory<float>(options);
}

/// Throws input_error where no more than `room` tokens may come.
void check_room(const generate::memory& past, std::size_t tokens, const generate::llama& model,
                const arguments& wanted) {
  if (static_cast<Eigen::Index>(tokens) <= past.room()) return;
  const auto context = wanted.context != 0
                           ? "--context, " + std::to_string(wanted.context)
                           : "the model's context of " + std::to_string(model.config().context);
  throw generate::input_error("the text is " +
                              std::to_string(past.position() + static_cast<Eigen::Index>(tokens)) +
                              " tokens, longer than " + context + "; --cache ring takes any length");
}

/// Reads tokens into the memory, as many at once as it takes; the logits after the last.
Matrix read(generate::llama& model, generate::memory& past, const std::vector<int>& tokens,
            const arguments& wanted) {
  check_room(past, tokens.size(), model, wanted);
  Matrix logits;
  for (std::size_t at = 0; at < tokens.size() && !stopped;) {
    const auto count =
        std::min(tokens.size() - at, static_cast<std::size_t>(std::min<Eigen::Index>(past.at_once(), 512)));
    logits = model({tokens.begin() + static_cast<std::ptrdiff_t>(at),
                    tokens.begin() + static_cast<std::ptrdiff_t>(at + count)},
                   past);
    at += count;
  }
  return logits;
}

/// Continues a text, which is written first where it is to be `shown`.
void say(generate::llama& model, const generate::tokenizer& split, generate::memory& past,
         const std::string& text, const arguments& wanted, sampler& choose, bool shown = false) {
  const stop_on_interrupt interrupt;
  const std::vector<int> prompt = split.encode(text, past.position() == 0);
  check_room(past, prompt.size(), model, wanted);
  if (shown) std::fwrite(text.data(), 1, text.size(), stdout);
  const double attended = model.attention_seconds();
  const stopwatch prefill;
  Matrix logits = read(model, past, prompt, wanted);
  if (stopped) return;
  const double prefill_seconds = prefill.seconds();
  const stopwatch decode;
  int count = 0;
  for (; count < wanted.tokens && !stopped && past.at_once() > 0; ++count) {
    if (wanted.ignore_eos)
      for (const int end : split.ends()) logits(0, end) = -std::numeric_limits<float>::infinity();
    const int token = choose(logits);
    if (split.is_end(token)) break;
    const std::string piece = split.decode(token);
    std::fwrite(piece.data(), 1, piece.size(), stdout), std::fflush(stdout);
    logits = model({token}, past);
  }
  const double decode_seconds = decode.seconds();
  std::printf("\n"), std::fflush(stdout);
  if (past.at_once() <= 0)
    std::fprintf(stderr, "the context of %td tokens is full; --cache ring goes on without end\n",
                 past.position());
  std::fprintf(stderr,
               "prefill %zu tokens, %.1f tokens/s; decode %d tokens, %.1f tokens/s; %.1f %% in attention; "
               "cache %.1f MB (%s, %s)\n",
               prompt.size(), static_cast<double>(prompt.size()) / prefill_seconds, count,
               count / decode_seconds,
               100 * (model.attention_seconds() - attended) / (prefill_seconds + decode_seconds),
               static_cast<double>(past.bytes()) / 1e6, wanted.kv.c_str(), wanted.cache.c_str());
}

/// exp of the mean negative log-probability of each token after the first.
double perplexity(generate::llama& model, generate::memory& past, const std::vector<int>& tokens,
                  const arguments& wanted) {
  check_room(past, tokens.size() - 1, model, wanted);
  double sum = 0;
  for (std::size_t at = 0; at + 1 < tokens.size();) {
    const auto count = std::min(tokens.size() - 1 - at,
                                static_cast<std::size_t>(std::min<std::ptrdiff_t>(past.at_once(), 256)));
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
  std::string text{std::istreambuf_iterator<char>(stream), {}};
  if (stream.bad()) throw generate::input_error("cannot read " + path);
  return text;
}

/// Throws input_error, naming where it came from and the byte, where a text is not UTF-8.
const std::string& checked_utf8(const std::string& where, const std::string& text) try {
  examples::check_utf8(text);
  return text;
} catch (const std::invalid_argument& e) {
  throw generate::input_error(where + ": " + e.what());
}

/// The turns of a talk as SmolLM2 was taught them.
constexpr const char* system_says = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";

void check_chat(const generate::gguf& file, const generate::tokenizer& split) {
  if (!split.find("<|im_start|>") || !split.find("<|im_end|>"))
    throw generate::input_error(
        "--chat speaks in turns between <|im_start|> and <|im_end|>, which the model has no tokens for");
  const std::string key = "tokenizer.chat_template";
  if (file.has(key) && (file.text(key).find("<|im_start|>") == std::string::npos ||
                        file.text(key).find(system_says) == std::string::npos))
    file.refuse(key, "--chat speaks as SmolLM2's");
}

std::string chat_turn(const std::string& text, bool first) {
  return (first ? std::string("<|im_start|>system\n") + system_says + "<|im_end|>\n" : "<|im_end|>\n") +
         "<|im_start|>user\n" + text + "<|im_end|>\n<|im_start|>assistant\n";
}

/// Each line of standard input is said to the model.
void talk(generate::llama& model, const generate::tokenizer& split, generate::memory& past,
          const arguments& wanted, sampler& choose) {
  const bool terminal = isatty(STDIN_FILENO) != 0;
  std::string line;
  for (std::size_t number = 1; !stopped; ++number) {
    if (terminal) std::fputs("> ", stderr);
    if (!std::getline(std::cin, line)) break;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    checked_utf8("standard input, line " + std::to_string(number), line);
    say(model, split, past, chat_turn(line, number == 1), wanted, choose);
  }
  if (terminal && !stopped) std::fputs("\n", stderr);
}

void run(const arguments& wanted) {
  checked_utf8("--prompt", wanted.prompt);
  const std::string text =
      wanted.perplexity.empty() ? "" : checked_utf8(wanted.perplexity, file_text(wanted.perplexity));
  fovea::threads pool(wanted.threads);
  std::optional<generate::gguf> file(wanted.model);
  const generate::tokenizer split(*file);
  if (wanted.chat) check_chat(*file, split);
  generate::llama model(*file, split.size(), pool);
  file.reset();  // all that is needed is in these two
  const auto past = memory_for(wanted, model);
  sampler choose(wanted.temperature, wanted.top_p, wanted.seed);
  if (!wanted.perplexity.empty()) {
    const auto tokens = split.encode(text, true);
    if (tokens.size() < 2) throw generate::input_error(wanted.perplexity + " has fewer than two tokens");
    std::printf("%zu tokens, perplexity %.6f\n", tokens.size(), perplexity(model, *past, tokens, wanted));
  } else if (!wanted.logits.empty()) {
    const Matrix logits =
        read(model, *past, split.encode(wanted.chat ? chat_turn(wanted.prompt, true) : wanted.prompt, true),
             wanted);
    std::ofstream stream(wanted.logits, std::ios::binary);
    stream.write(reinterpret_cast<const char*>(logits.data()),
                 logits.size() * static_cast<std::streamsize>(sizeof(float)));
    if (!stream.flush()) throw generate::input_error("cannot write " + wanted.logits);
  } else if (!wanted.chat) {
    say(model, split, *past, wanted.prompt, wanted, choose, true);
  } else if (!wanted.prompt.empty()) {
    say(model, split, *past, chat_turn(wanted.prompt, true), wanted, choose);
  } else {
    talk(model, split, *past, wanted, choose);
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout))
    throw generate::input_error("cannot write standard output");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Continues a text with a language model (GGUF, Llama architecture).");
  arguments wanted;
  generate::declare_arguments(app, wanted);
  return examples::run_program("generate", app, argc, argv, [&] {
    generate::check_arguments(app, wanted);
    run(wanted);
    return stopped ? 130 : 0;
  });
}
