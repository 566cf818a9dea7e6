// long_context: a number hidden in a text of up to 1,048,576 tokens, found by attention to keys and values in
// int8 that lie in a file, of which a stated part is in memory at a time.
#include "arguments.hpp"
#include "look.hpp"
#include "picture.hpp"
#include "progress.hpp"

#include <fovea/streamed.hpp>

#include <cstdio>
#include <filesystem>

namespace {

using long_context::haystack;
using long_context::Index;
using long_context::Matrix;

struct arguments : long_context::arguments {
  std::string file = "long_context.kv";
  Index resident_mib = 64;
  bool keep = false;
};

/// A block of tokens after another: no more than one is in memory.
void write(const haystack& text, const std::string& file) {
  constexpr Index block = 4096;
  const auto& sizes = text.sizes();
  long_context::progress written("written", sizes.tokens);
  fovea::cache_writer<std::int8_t> writer(file, sizes.tokens, sizes.dim,
                                          {.heads = sizes.heads, .block_tokens = block});
  Matrix k, v;
  for (Index first = 0; first < sizes.tokens; first += block) {
    text.read(first, std::min(block, sizes.tokens - first), k, v);
    writer.append(k, v);
    written.at(writer.tokens());
  }
  writer.finish();
  std::printf("%s: %.1f MB in %.2f s\n", file.c_str(), double(std::filesystem::file_size(file)) / 1e6,
              written.seconds());
}

int run(const arguments& a) {
  const haystack text(a.sizes);
  std::printf("%td tokens, %td heads of %td, keys and values in int8\n", a.sizes.tokens, a.sizes.heads,
              a.sizes.dim);
  write(text, a.file);
  const fovea::streamed_cache<std::int8_t> cache(a.file, {.resident_bytes = a.resident_mib << 20});
  const long_context::view seen = long_context::look(text.query(a.sharpness), cache, a.threads);
  std::printf("attended to %.1f MB in %.3f s, %.1f GB/s, at most %td MiB of it in memory\n",
              double(cache.bytes()) / 1e6, seen.seconds, double(cache.bytes()) / 1e9 / seen.seconds,
              a.resident_mib);
  const bool found = long_context::report(text, seen.o, seen.weights);
  long_context::save_picture(a.picture, seen.weights, text);
  if (!a.keep) std::filesystem::remove(a.file);
  return found ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Hides a number in a long text of numbers and finds it by attention to a cache in a file.");
  arguments a;
  add_options(app, a);
  app.add_option("--file", a.file, "of keys and values, which is overwritten")->capture_default_str();
  app.add_flag("--keep", a.keep, "the file; else it is deleted");
  app.add_option("--resident", a.resident_mib, "MiB of the file in memory at a time")
      ->check(CLI::Range(32, 1 << 20))
      ->capture_default_str();
  return examples::run_program("long_context", app, argc, argv, [&] { return run(a); });
}
