// weights.hpp - the weights of a model as float, in one piece of memory.
#pragma once

#include "gguf.hpp"

#include <fovea/kv_cache/memory.hpp>

namespace generate {

using weight = Eigen::Map<const Matrix>;

/// All of them are read for each token, so where the system gives large pages they lie in these: one thread
/// reads 540 MB in 18 ms then, not in 22.
class weights {
 public:
  explicit weights(const gguf& file) : memory_(file.numbers() * static_cast<std::ptrdiff_t>(sizeof(float))) {}

  /// A tensor of that file, rows x columns; it is taken once.
  weight take(const gguf& file, const std::string& name, Eigen::Index rows, Eigen::Index columns) {
    float* const to = reinterpret_cast<float*>(memory_.get()) + taken_;
    file.tensor(name, rows, columns, to);
    taken_ += rows * columns;
    return {to, rows, columns};
  }

 private:
  fovea::caching::zeroed_memory memory_;
  Eigen::Index taken_ = 0;
};

}  // namespace generate
