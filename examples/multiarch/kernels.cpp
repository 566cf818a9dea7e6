// Compiled once for each instruction set: the only file of the program that includes fovea.
#include "kernels.hpp"

#include <fovea/attention.hpp>

namespace {

void attend(float* o, const float* q, const float* k, const float* v, int tokens, int heads, int dim) {
  const auto view = [&](auto* x) { return fovea::bshd(x, 1, tokens, heads, dim); };
  const fovea::attention<float> call{{.heads = heads}};
  call.into(view(o), view(q), view(k), view(v), fovea::causal);
}

}  // namespace

extern "C" const kernel_table* kernels() {
  static constexpr kernel_table table{attend};
  return &table;
}
