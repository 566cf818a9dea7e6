// What the program and its kernels share: plain data, and pointers to functions that take plain data.
#pragma once

struct kernel_table {
  /// Causal self-attention of `heads` heads, on matrices of tokens x (heads * dim), rows one after another.
  void (*attend)(float* o, const float* q, const float* k, const float* v, int tokens, int heads, int dim);
};

extern "C" {
/// Of the best instruction set that this machine runs, and its name. (fovea_multiarch makes the choice.)
const kernel_table* kernels();
const char* kernels_isa();
}
