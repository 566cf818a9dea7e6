#include <fovea/attention.hpp>

#include <cstdio>

int main() { std::printf("fovea %d.%d\n", FOVEA_VERSION_MAJOR, FOVEA_VERSION_MINOR); }
