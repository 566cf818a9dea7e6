// x86-64-v4-bf16: x86-64-v4, and calls in bf16 by products of pairs.
#include <fovea/compiled/pair_entries.hpp>

extern "C" const fovea_compiled_table*
fovea_compiled_kernels_of_x86_64_v4();  // what fovea_multiarch makes of entry.cpp

extern "C" const fovea_compiled_table* fovea_compiled_kernels() {
  return &fovea::described::pair_entries<fovea_compiled_kernels_of_x86_64_v4>::table();
}
