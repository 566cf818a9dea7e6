// look.hpp - what one query sees of a cache, whatever holds it, and whether that is the needle.
#pragma once

#include <fovea/attention.hpp>
#include <fovea/weights_into.hpp>

#include "../stopwatch.hpp"
#include "haystack.hpp"

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <vector>

namespace long_context {

/// The result, its LSE, and each head's weights. (Over slices of the tokens on several processes these are
/// partial results, which merge by their LSE.)
struct view {
  Matrix o, lse;
  std::vector<float> weights;
  double seconds;
};
template <class Cache>
view look(const Matrix& q, const Cache& cache, Index threads) {
  view seen{Matrix(1, q.cols()), Matrix(1, cache.heads()),
            std::vector<float>(static_cast<std::size_t>(cache.heads() * cache.tokens())), 0};
  const fovea::threads pool(threads);
  const fovea::attention<float> attend{{.heads = cache.heads(), .executor = pool}};
  std::vector<Index> heads(static_cast<std::size_t>(cache.heads()));
  std::iota(heads.begin(), heads.end(), Index(0));
  Eigen::Map<Matrix> weights(seen.weights.data(), 1, static_cast<Index>(seen.weights.size()));
  const examples::stopwatch since_start;
  attend.with_lse_into(seen.o, seen.lse, q, cache, fovea::weights_into(weights, heads));
  seen.seconds = since_start.seconds();
  return seen;
}

/// Whether each head's weights are largest at the needle, and the answer is right.
inline bool report(const haystack& text, const Matrix& o, const std::vector<float>& weights) {
  const auto& sizes = text.sizes();
  bool found = true;
  for (Index h = 0; h < sizes.heads; ++h) {
    const auto first = weights.begin() + h * sizes.tokens;
    const auto largest = std::max_element(first, first + sizes.tokens);
    const Index peak = largest - first;
    std::printf("  head %td: peak at token %td, weight %.4f\n", h, peak, double(*largest));
    found = found && peak == text.needle();
  }
  const Index answer = text.nearest(o);
  std::printf("the needle stands at token %td and says %04td; attention says %04td: %s\n", text.needle(),
              text.secret(), answer, found && answer == text.secret() ? "found" : "not found");
  return found && answer == text.secret();
}

}  // namespace long_context
