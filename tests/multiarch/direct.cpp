// Stands for what fovea_multiarch makes, where the kernels are compiled once and linked as they are.
#include "kernels.hpp"

extern "C" const char* kernels_isa() { return FOVEA_TEST_ISA; }
