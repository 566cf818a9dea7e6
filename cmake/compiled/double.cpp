// Calls in double: see entry.cpp.
#include <fovea/compiled/attend.hpp>

template struct fovea::described::calls_of<double>;
