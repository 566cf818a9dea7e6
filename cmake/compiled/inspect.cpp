// Weights, logits and statistics, and what calls write beside O: see entry.cpp.
#include <fovea/compiled/beside.hpp>

template struct fovea::described::inspections_of<float>;
template struct fovea::described::inspections_of<double>;
