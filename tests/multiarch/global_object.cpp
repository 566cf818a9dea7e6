// Has an initialiser that runs before main: fovea_multiarch refuses it.
#include <string>

std::string from_somewhere();
std::string global = from_somewhere();

extern "C" const void* kernels();
extern "C" const void* kernels() { return &global; }
