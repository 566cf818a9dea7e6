// weights.hpp - the weights of a model as float, in one piece of memory.
#pragma once

#include "gguf.hpp"

#include <fovea/kv_cache/memory.hpp>

#include <set>

namespace generate {

using weight = Eigen::Map<const Matrix>;

/// All of them are read for each token, so where the system gives large pages they lie in these: one thread
/// reads 540 MB in 18 ms then, not in 22.
class weights {
 public:
  explicit weights(const gguf& file)
      : memory_(with_memory_for("the model's weights", static_cast<double>(bytes_of(file)),
                                [&] { return fovea::caching::zeroed_memory(bytes_of(file)); })) {}

  /// A tensor of that file, rows x columns; it is taken once.
  weight take(const gguf& file, const std::string& name, Eigen::Index rows, Eigen::Index columns) {
    float* const to = reinterpret_cast<float*>(memory_.get()) + taken_;
    file.tensor(name, rows, columns, to);
    names_.insert(name);
    taken_ += rows * columns;
    return {to, rows, columns};
  }

  /// Throws input_error where the file has a tensor that was not taken: it belongs to what is computed.
  void check_all_taken(const gguf& file) const {
    for (const std::string& name : file.tensor_names())
      if (!names_.contains(name)) file.fail("has a tensor " + name + ", which generate has no use for");
  }

 private:
  static Eigen::Index bytes_of(const gguf& file) {
    return file.numbers() * static_cast<Eigen::Index>(sizeof(float));
  }

  fovea::caching::zeroed_memory memory_;
  Eigen::Index taken_ = 0;
  std::set<std::string> names_;
};

}  // namespace generate
