// rotation.hpp - the angles by which a model turns queries and keys: pair i of a head by
//   position / scale * base^(-2i / dim) / factors[i]
#pragma once

#include "gguf.hpp"

#include <fovea/position.hpp>

#include <cmath>

namespace generate {

class rotation {
 public:
  /// dim: how many dimensions of each head turn. scale: "linear" scaling, arXiv:2306.15595. factors: dim / 2
  /// of them (Llama 3.1's rope_freqs), or none.
  rotation(Eigen::Index dim, double base, double scale, const std::vector<float>& factors) {
    for (Eigen::Index i = 0; i < dim / 2; ++i) {
      const double step = std::pow(base, -static_cast<double>(i) / static_cast<double>(dim / 2)) / scale;
      steps_.push_back(factors.empty() ? step
                                       : step / static_cast<double>(factors[static_cast<std::size_t>(i)]));
    }
  }

  /// Of the positions from 0 on, at least `positions` of them.
  fovea::rotary_angles<float> angles(Eigen::Index positions) {
    if (positions > cos_.rows()) compute(std::max<Eigen::Index>(2 * positions, 1024));
    const auto view = [](const Matrix& m) {
      return fovea::matrix_view<const float>{m.data(), m.rows(), m.cols(), m.cols(), 1};
    };
    return {view(cos_), view(sin_)};
  }

 private:
  void compute(Eigen::Index positions) {
    cos_.resize(positions, static_cast<Eigen::Index>(steps_.size()));
    sin_.resize(cos_.rows(), cos_.cols());
    for (Eigen::Index p = 0; p < cos_.rows(); ++p)
      for (Eigen::Index i = 0; i < cos_.cols(); ++i) {
        const double angle = static_cast<double>(p) * steps_[static_cast<std::size_t>(i)];
        cos_(p, i) = static_cast<float>(std::cos(angle)), sin_(p, i) = static_cast<float>(std::sin(angle));
      }
  }

  std::vector<double> steps_;
  Matrix cos_, sin_;
};

}  // namespace generate
