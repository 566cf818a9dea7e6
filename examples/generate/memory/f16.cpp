#include "../memory.hpp"

template <>
std::unique_ptr<generate::memory> generate::make_memory<fovea::fp16>(const memory_options& options) {
  return make_memory_of<fovea::fp16>(options);
}
