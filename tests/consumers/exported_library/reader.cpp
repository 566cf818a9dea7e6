#include <fovea/attention.hpp>

int version_of_fovea();
int version_of_fovea() { return 100 * FOVEA_VERSION_MAJOR + FOVEA_VERSION_MINOR; }
