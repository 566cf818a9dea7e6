// arguments.hpp - the command line of generate.
#pragma once

#include "input_error.hpp"

#include <CLI/CLI.hpp>
#include <Eigen/Core>

namespace generate {

struct arguments {
  std::string model, prompt, kv = "f32", cache = "contiguous", perplexity, logits;
  bool chat = false, ignore_eos = false;
  int threads = 2, tokens = 256;
  Eigen::Index context = 0, window = 0, sinks = 4;  // 0: not given
  double temperature = 0, top_p = 1;
  std::uint32_t seed = 0;
};

/// What the command line asks for is written to `a` as `app` parses it.
inline void declare_arguments(CLI::App& app, arguments& a) {
  app.add_option("MODEL", a.model, "a GGUF file (Llama architecture; F32, F16, BF16, Q8_0, Q4_1)")
      ->required();
  const auto prompt = app.add_option("--prompt", a.prompt, "the text to continue (UTF-8)");
  const auto chat = app.add_flag(
      "--chat", a.chat,
      "the prompt, or without one each line of standard input, is said to the model, which answers");
  const auto perplexity = app.add_option("--perplexity", a.perplexity,
                                         "print the perplexity of this file's text (UTF-8) and stop")
                              ->excludes(prompt)
                              ->excludes(chat);
  app.add_option("--logits", a.logits, "write the logits after the prompt to this file (float32) and stop")
      ->needs(prompt)
      ->excludes(perplexity);
  app.add_option("--tokens", a.tokens, "generate at most so many for a prompt or a line")
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str();
  app.add_flag("--ignore-eos", a.ignore_eos, "never end the text: as many tokens as --tokens says");
  app.add_option("--kv", a.kv, "what keys and values are stored as")
      ->check(CLI::IsMember({"f32", "bf16", "f16", "f8", "i8", "q4"}))
      ->capture_default_str();
  app.add_option(
         "--cache", a.cache,
         "how they lie; contiguous and paged grow with the text, up to --context tokens; ring: the newest "
         "--window tokens and the first --sinks, of a text without end")
      ->check(CLI::IsMember({"contiguous", "paged", "ring"}))
      ->capture_default_str();
  app.add_option(
         "--context", a.context,
         "the longest text in tokens, prompt and all, of --cache contiguous and paged (as the model's)")
      ->check(CLI::Range(1, 1 << 24));
  app.add_option("--window", a.window, "of --cache ring (1024, or as the model's context allows)")
      ->check(CLI::Range(1, 1 << 24));
  app.add_option("--sinks", a.sinks, "of --cache ring")->check(CLI::Range(0, 1 << 24))->capture_default_str();
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
}

/// Throws input_error where parsed arguments do not go together.
inline void check_arguments(const CLI::App& app, const arguments& a) {
  if (a.prompt.empty() && !a.chat && a.perplexity.empty())
    throw input_error("there is nothing to continue: give --prompt, --chat or --perplexity");
  if (a.cache == "ring" && a.context != 0)
    throw input_error("--context is not for --cache ring, whose length is --window");
  if (a.kv == "q4" && a.cache != "contiguous")
    throw input_error("--kv q4 is for --cache contiguous, not for --cache " + a.cache);
  for (const char* name : {"--window", "--sinks"})
    if (a.cache != "ring" && app.count(name) != 0)
      throw input_error(std::string(name) + " is for --cache ring, not for --cache " + a.cache);
}

}  // namespace generate
