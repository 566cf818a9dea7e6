// Calls with caches: see entry.cpp.
#include <fovea/compiled/caches.hpp>

template struct fovea::described::cached_calls_of<float>;
template struct fovea::described::cached_calls_of<fovea::bf16>;
template struct fovea::described::cached_calls_of<fovea::fp16>;
template struct fovea::described::cached_calls_of<std::int8_t>;
template struct fovea::described::cached_calls_of<double>;
