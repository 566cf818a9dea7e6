// arguments.hpp - what both programs are told: the text, the query, and where a picture goes.
#pragma once

#include "../command_line.hpp"
#include "haystack.hpp"

#include <string>

namespace long_context {

struct arguments {
  haystack_sizes sizes;
  float sharpness = 3;
  Index threads = 2;
  std::string picture;
};

inline void add_options(CLI::App& app, arguments& a) {
  app.add_option("--tokens", a.sizes.tokens)->check(CLI::Range(2, 1 << 20))->capture_default_str();
  app.add_option("--heads", a.sizes.heads)->check(CLI::Range(1, 64))->capture_default_str();
  app.add_option("--dim", a.sizes.dim, "of a head")->check(CLI::Range(8, 256))->capture_default_str();
  app.add_option("--depth", a.sizes.depth, "where the needle is: 0 the beginning, 1 the end")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--sharpness", a.sharpness, "of the query; with less, it is lost in the hay")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  app.add_option("--seed", a.sizes.seed)->check(CLI::Range(0, 1 << 30))->capture_default_str();
  app.add_option("--threads", a.threads, "of a process")->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--picture", a.picture, "an SVG of the weights over position");
}

}  // namespace long_context
