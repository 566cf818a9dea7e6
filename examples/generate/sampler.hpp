// sampler.hpp - which token comes next, given the logits. Holtzman et al., arXiv:1904.09751.
#pragma once

#include "gguf.hpp"

#include <algorithm>
#include <numeric>
#include <random>

namespace generate {

/// The next token: the likeliest where the temperature is 0, otherwise one drawn from softmax(logits /
/// temperature), and of that from the likeliest that have probability top_p together (nucleus sampling).
class sampler {
 public:
  sampler(double temperature, double top_p, std::uint32_t seed)
      : temperature_(temperature), top_p_(top_p), random_(seed) {}

  int operator()(const Matrix& logits) {
    const auto row = logits.row(logits.rows() - 1);
    Eigen::Index best = 0;
    const float most = row.maxCoeff(&best);
    if (temperature_ == 0) return static_cast<int>(best);
    const Eigen::RowVectorXd weights =
        ((row.array() - most).cast<double>() / temperature_).exp();  // relative to the likeliest's
    double left = std::uniform_real_distribution<double>(0, top_p_ * weights.sum())(random_);
    std::vector<int> rest(static_cast<std::size_t>(row.size()));  // a heap: the few likeliest are enough
    std::iota(rest.begin(), rest.end(), 0);
    const auto less = [&](int a, int b) { return row(a) < row(b); };
    std::make_heap(rest.begin(), rest.end(), less);
    for (;; rest.pop_back()) {
      std::pop_heap(rest.begin(), rest.end(), less);
      left -= weights(rest.back());
      if (left <= 0 || rest.size() == 1) return rest.back();
    }
  }

 private:
  double temperature_, top_p_;
  std::mt19937 random_;
};

}  // namespace generate
