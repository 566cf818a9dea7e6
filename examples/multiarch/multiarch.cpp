// multiarch: one binary for every processor. FOVEA_ISA=x86-64 multiarch shows what an older one would take.
#include "../command_line.hpp"
#include "../stopwatch.hpp"
#include "kernels.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

namespace {

/// Numbers that look random, within -1 and 1.
std::vector<float> numbers(std::size_t count, float seed) {
  std::vector<float> x(count);
  for (std::size_t i = 0; i < count; ++i) x[i] = std::sin(seed * static_cast<float>(i % 9973));
  return x;
}

void run(int tokens, int heads, int dim) {
  const auto count = static_cast<std::size_t>(tokens) * static_cast<std::size_t>(heads * dim);
  const std::vector<float> q = numbers(count, 1.3f), k = numbers(count, 2.7f), v = numbers(count, 4.1f);
  std::vector<float> o(count);
  double best = 1e9;
  const examples::stopwatch since_start;
  do {
    const examples::stopwatch this_call;
    kernels()->attend(o.data(), q.data(), k.data(), v.data(), tokens, heads, dim);
    best = std::min(best, this_call.seconds());
  } while (since_start.seconds() < 0.5);
  std::printf("%-16s %d tokens, %d heads of %d, causal: %.2f ms; the first numbers: %.4f %.4f %.4f\n",
              kernels_isa(), tokens, heads, dim, best * 1e3, double(o[0]), double(o[1]), double(o[2]));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Causal self-attention in a binary that runs on every processor, at the speed of each.");
  int tokens = 1024, heads = 8, dim = 64;
  app.add_option("--tokens", tokens)->check(CLI::Range(1, 16384))->capture_default_str();
  app.add_option("--heads", heads)->check(CLI::Range(1, 64))->capture_default_str();
  app.add_option("--dim", dim, "channels of a head")->check(CLI::Range(1, 256))->capture_default_str();
  return examples::run_program("multiarch", app, argc, argv, [&] {
    run(tokens, heads, dim);
    return 0;
  });
}
