// memory.hpp - what a model remembers of a text: a cache of keys and values for each layer.
#pragma once

#include "gguf.hpp"

#include <fovea/executor.hpp>
#include <fovea/position.hpp>

#include <memory>

namespace generate {

enum class layout { contiguous, paged, ring };

struct memory_options {
  Eigen::Index layers = 0, heads = 0, kv_heads = 0, dim = 0;
  Eigen::Index tokens = 0;  // at most; of a ring: its window
  Eigen::Index sinks = 4;   // of a ring
  generate::layout layout = layout::contiguous;
};

/// A ring is as long as its window from the start; other caches grow with the text, to twice their size.
class memory {
 public:
  virtual ~memory() = default;
  /// Appends keys (turned to their positions on the way) and values, and attends to all: the queries, already
  /// turned, are those of the newest tokens. Throws input_error where there is no memory for them.
  virtual void attend(Eigen::Index layer, Matrix& out, const Matrix& q, const Matrix& k, const Matrix& v,
                      const fovea::rotary_angles<float>& angles, fovea::executor_ref executor) = 0;
  virtual Eigen::Index position() const = 0;
  virtual Eigen::Index bytes() const = 0;
  /// How many tokens may still come, and how many of them at once: as many as there are places that nothing
  /// need make room for.
  virtual Eigen::Index room() const = 0;
  virtual Eigen::Index at_once() const = 0;
};

/// E: float, bf16, fp16, fp8 or std::int8_t; what it is made of is long to compile, and stays in memory.cpp.
template <class E>
std::unique_ptr<memory> make_memory(const memory_options& options);
/// In 4 bits, in one piece.
std::unique_ptr<memory> make_memory_of_4_bits(const memory_options& options);

}  // namespace generate
