// What the programs of this folder and their kernels share.
#pragma once

struct kernel_table {
  /// Writes what the kernels compute of `count` numbers; returns how many numbers that is, at most 4096.
  int (*compute)(float* results, const float* numbers, int count);
  /// Throws std::invalid_argument with a text of fovea's.
  void (*fail)();
};

extern "C" {
const kernel_table* kernels();
const char* kernels_isa();
}
