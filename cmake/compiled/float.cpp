// Calls in float: see entry.cpp.
#include <fovea/compiled/attend.hpp>

template struct fovea::described::calls_of<float>;
