// The kernels of a program, compiled once: see include/fovea/kernels.hpp and FoveaKernels.cmake.
#define FOVEA_DEFINE_KERNELS
#include <fovea/multi_head.hpp>
