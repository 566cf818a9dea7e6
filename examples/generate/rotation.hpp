// rotation.hpp - the angles by which a model turns queries and keys, for as many positions as are asked for.
#pragma once

#include "gguf.hpp"

#include <fovea/position.hpp>

namespace generate {

class rotation {
 public:
  /// factors: what each frequency is divided by (Llama 3.1's rope_freqs), or none.
  rotation(fovea::rotary_frequencies frequencies, const std::vector<float>& factors)
      : frequencies_(std::move(frequencies)) {
    for (std::size_t i = 0; i < factors.size(); ++i)
      frequencies_.values[i] /= static_cast<double>(factors[i]);
  }

  /// Of the positions from 0 on, at least `positions` of them.
  fovea::rotary_angles<float> angles(Eigen::Index positions) {
    if (positions > rows_) {
      rows_ = std::max<Eigen::Index>(2 * positions, 1024);
      table_ = fovea::rotary_table<float>(rows_, frequencies_);
    }
    return table_.angles();
  }

 private:
  fovea::rotary_frequencies frequencies_;
  Eigen::Index rows_ = 0;
  fovea::rotary_table<float> table_{0, frequencies_};
};

}  // namespace generate
