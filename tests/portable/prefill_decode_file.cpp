// A prompt, then a token at a time, with a cache that goes through a file on the way: for systems that are compiled for
// elsewhere, and for the library in one header. Compared with the reference in double.
#ifdef FOVEA_IN_ONE_HEADER
#include <fovea.hpp>
#else
#include <fovea/kv_cache.hpp>
#include <fovea/reference.hpp>
#endif

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <vector>

namespace {

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
constexpr int heads = 4, kv_heads = 2, dim = 24, prompt = 70, steps = 3;

int failures = 0;
void expect(bool holds, const char* what) {
  if (!holds) std::printf("FAILED: %s\n", what), ++failures;
}

/// Whether |error| <= 3 u (P|V|)(4 + A), u = 2^-24, everywhere.
bool within_bound(const Rows& o, const Rows& q, const Rows& k, const Rows& v, fovea::index_type first_query) {
  const fovea::reference_options options{.heads = heads, .kv_heads = kv_heads};
  const auto exact = fovea::reference(q, k, v, options, fovea::causal_offset{first_query});
  for (int h = 0; h < heads; ++h)
    for (fovea::index_type t = 0; t < q.rows(); ++t)
      for (int c = 0; c < dim; ++c) {
        const double error = std::abs(double(o(t, h * dim + c)) - exact.out(0, h, t, c)),
                     unit = 3 * std::ldexp(1.0, -24) * exact.magnitude(0, h, t, c);
        if (!(error <= unit * (4 + exact.logits(0, h, t, 0)))) return false;
      }
  return true;
}

void save(const fovea::kv_cache<float, kv_heads>& cache, const std::filesystem::path& path) {
  std::ofstream file(path, std::ios::binary);
  cache.save(file);
}

}  // namespace

int main() {
  std::srand(7);
  const Rows q = Rows::Random(prompt + steps, heads * dim), k = Rows::Random(prompt + steps, kv_heads * dim),
             v = Rows::Random(prompt + steps, kv_heads * dim);
  const fovea::attention<float, heads, kv_heads> attend;
  const Rows first_q = q.topRows(prompt), first_k = k.topRows(prompt), first_v = v.topRows(prompt);

  fovea::kv_cache<float, kv_heads> cache(prompt + steps, dim);
  cache.append(first_k, first_v);
  const Rows prefill = attend(first_q, cache, fovea::causal);
  expect(within_bound(prefill, first_q, first_k, first_v, 0), "prefill within the bound of the reference");
  fovea::threads pool{2};
  const fovea::attention<float, heads, kv_heads> parallel{{.executor = pool}};
  expect(prefill == Rows(parallel(first_q, cache, fovea::causal)), "two threads give the same bits");

  const auto path = std::filesystem::temp_directory_path() / "fovea_prefill_decode_file.cache";
  save(cache, path);
  fovea::kv_cache<float, kv_heads> loaded(prompt + steps, dim);
  {
    std::ifstream file(path, std::ios::binary);
    loaded.load(file);
  }
  expect(loaded.tokens() == prompt, "the file holds the prompt");
  for (int step = prompt; step < prompt + steps; ++step) {
    const Rows one = q.row(step), one_k = k.row(step), one_v = v.row(step);
    cache.append(one_k, one_v), loaded.append(one_k, one_v);
    const Rows o = attend(one, cache, fovea::causal);
    expect(within_bound(o, one, k.topRows(step + 1), v.topRows(step + 1), step), "decode within the bound");
    expect(o == Rows(attend(one, loaded, fovea::causal)), "the cache of the file gives the same bits");
  }

  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  try {
    std::ifstream file(path, std::ios::binary);
    loaded.load(file);
    expect(false, "a file that is cut short is refused");
  } catch (const std::runtime_error&) {
  }
  std::filesystem::remove(path);
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
