// memory.hpp - what a model remembers of a text: a cache of keys and values for each layer.
#pragma once

#include "gguf.hpp"

#include <fovea/executor.hpp>
#include <fovea/position.hpp>

#include <memory>

namespace generate {

enum class layout { contiguous, paged, ring };

struct memory_options {
  int layers = 0, heads = 0, kv_heads = 0, dim = 0;
  std::ptrdiff_t capacity = 0;  // tokens; of a ring: of its window
  std::ptrdiff_t sinks = 4;     // of a ring
  generate::layout layout = layout::contiguous;
};

class memory {
 public:
  virtual ~memory() = default;
  /// Appends keys (turned to their positions on the way) and values, and attends to all: the queries, already
  /// turned, are those of the newest tokens.
  virtual void attend(int layer, Matrix& out, const Matrix& q, const Matrix& k, const Matrix& v,
                      const fovea::rotary_angles<float>& angles, fovea::executor_ref executor) = 0;
  virtual std::ptrdiff_t position() const = 0;
  virtual std::ptrdiff_t bytes() const = 0;
  /// How many tokens may come at once: as many as there are places that nothing need make room for.
  virtual std::ptrdiff_t at_once() const = 0;
};

/// E: float, bf16, fp16 or std::int8_t; what it is made of is long to compile, and stays in memory.cpp.
template <class E>
std::unique_ptr<memory> make_memory(const memory_options& options);

}  // namespace generate
