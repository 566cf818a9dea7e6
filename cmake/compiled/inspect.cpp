// Weights, logits and statistics: see entry.cpp.
#include <fovea/compiled/inspect.hpp>

template struct fovea::described::inspections_of<float>;
template struct fovea::described::inspections_of<double>;
