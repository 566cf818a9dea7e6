#include "../memory.hpp"

template <>
std::unique_ptr<generate::memory> generate::make_memory<fovea::bf16>(const memory_options& options) {
  return make_memory_of<fovea::bf16>(options);
}
