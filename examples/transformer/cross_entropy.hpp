// transformer/cross_entropy.hpp - how wrong logits are, and in which direction. Label smoothing: Szegedy et
// al., arXiv:1512.00567, 7.
#pragma once

#include "parameter.hpp"

#include <algorithm>
#include <cmath>

namespace transformer {

template <class T>
struct loss {
  double sum = 0;      // of -sum_j q_j log p_j over the tokens that count
  Index tokens = 0;    // how many those are
  Matrix<T> gradient;  // of sum / divisor by the logits

  double mean() const { return tokens > 0 ? sum / static_cast<double>(tokens) : 0; }
};

/// The cross-entropy between p = softmax(logits) and q = (1 - smoothing) [target] + smoothing / vocabulary.
template <class T>
struct cross_entropy {
  T smoothing = 0;
  int ignored = -1;  // a target that does not count: padding

  Index counted(std::span<const int> targets) const {
    Index count = 0;
    for (const int target : targets) count += target != ignored;
    return count;
  }

  /// Moved logits become the gradient in place. A part of a batch gives the number of tokens of the whole as
  /// `divisor`.
  loss<T> operator()(Matrix<T> logits, std::span<const int> targets, Index divisor) const {
    if (static_cast<Index>(targets.size()) != logits.rows())
      throw std::invalid_argument("there are " + std::to_string(targets.size()) + " targets for " +
                                  std::to_string(logits.rows()) + " rows of logits");
    loss<T> result;
    const T share = 1 / static_cast<T>(divisor), spread = smoothing / static_cast<T>(logits.cols());
    for (Index i = 0; i < logits.rows(); ++i) {
      auto z = logits.row(i).array();
      const int target = targets[static_cast<std::size_t>(i)];
      if (target == ignored) {
        z.setZero();
        continue;
      }
      if (target < 0 || target >= z.size())
        throw std::out_of_range("target " + std::to_string(target) + " of a vocabulary of " +
                                std::to_string(z.size()));
      z -= z.maxCoeff();
      const T wanted = (1 - smoothing) * z(target) + spread * z.sum();
      z = z.exp();
      const T total = z.sum();
      result.sum += static_cast<double>(std::log(total) - wanted);  // log sum exp z - sum_j q_j z_j
      ++result.tokens;
      z = z * (share / total) - spread * share;  // p - q
      z(target) -= (1 - smoothing) * share;
    }
    result.gradient = std::move(logits);
    return result;
  }

  loss<T> operator()(Matrix<T> logits, std::span<const int> targets) const {
    const Index count = std::max<Index>(counted(targets), 1);
    return (*this)(std::move(logits), targets, count);
  }
};

}  // namespace transformer
