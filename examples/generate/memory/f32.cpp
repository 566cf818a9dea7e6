#include "../memory.hpp"

template <>
std::unique_ptr<generate::memory> generate::make_memory<float>(const memory_options& options) {
  return make_memory_of<float>(options);
}
