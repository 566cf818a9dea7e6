// Calls in fp16: see entry.cpp.
#include <fovea/compiled/attend.hpp>

template struct fovea::described::calls_of<fovea::fp16>;
