// Cross-compiled for Windows: prefill, decode and the file of a cache, against the reference.
#include <fovea/attention.hpp>
#include <fovea/kv_cache.hpp>
#include <fovea/reference.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <vector>

namespace {

constexpr fovea::index_type heads = 4, kv_heads = 2, tokens = 70, dim = 16;

std::vector<float> numbers(fovea::index_type count, float seed) {
  std::vector<float> x;
  for (fovea::index_type i = 0; i < count; ++i) x.push_back(std::sin(seed * static_cast<float>(i)));
  return x;
}

template <class A, class B>
int expect_near(const char* what, const A& a, const B& b) {
  double worst = 0;
  bool near = true;
  for (fovea::index_type h = 0; h < a.heads; ++h)
    for (fovea::index_type t = 0; t < a.tokens; ++t)
      for (fovea::index_type c = 0; c < a.dim; ++c) {
        const double off = std::abs(static_cast<double>(a(0, h, t, c)) - static_cast<double>(b(0, h, t, c)));
        worst = std::max(worst, off), near = near && off <= 1e-6;  // a NaN is not near, but no maximum either
      }
  std::printf("%s: off by %.1e\n", what, worst);
  return near ? 0 : 1;
}

}  // namespace

int main() {
  const auto q = numbers(heads * tokens * dim, 1.3f), k = numbers(kv_heads * tokens * dim, 2.7f),
             v = numbers(kv_heads * tokens * dim, 4.1f);
  std::vector<float> o(q.size()), last(heads * dim), again(heads * dim);
  const auto of_q = fovea::bhsd(q.data(), 1, heads, tokens, dim),
             of_k = fovea::bhsd(k.data(), 1, kv_heads, tokens, dim),
             of_v = fovea::bhsd(v.data(), 1, kv_heads, tokens, dim);
  const auto of_o = fovea::bhsd(o.data(), 1, heads, tokens, dim);
  const fovea::threads pool{2};
  const fovea::attention<float> attend{{.kv_heads = kv_heads, .executor = pool}};
  attend.into(of_o, of_q, of_k, of_v, fovea::causal);
  const auto exact =
      fovea::reference(of_q, of_k, of_v, {.heads = heads, .kv_heads = kv_heads}, fovea::causal).out;
  int failures = expect_near("prefill", of_o, exact.view());

  fovea::kv_cache<float> cache(tokens, dim, {.heads = kv_heads}), read(tokens, dim, {.heads = kv_heads});
  cache.append(of_k, of_v);
  auto newest = of_q;
  auto newest_exact = of_o;
  newest.tokens = 1, newest.data += (tokens - 1) * dim;
  newest_exact.tokens = 1, newest_exact.data += (tokens - 1) * dim;
  const auto of_last = fovea::bhsd(last.data(), 1, heads, 1, dim),
             of_again = fovea::bhsd(again.data(), 1, heads, 1, dim);
  attend.into(of_last, newest, cache, fovea::causal);
  failures += expect_near("decode", of_last, newest_exact);

  {
    std::ofstream out("windows.cache", std::ios::binary);
    cache.save(out);
  }
  {
    std::ifstream in("windows.cache", std::ios::binary);
    read.load(in);
  }
  std::remove("windows.cache");
  attend.into(of_again, newest, read, fovea::causal);
  failures += last == again ? 0 : 1;
  std::printf("%s\n", failures == 0 ? "good" : "bad");
  return failures;
}
