#include "../memory.hpp"

template <>
std::unique_ptr<generate::memory> generate::make_memory<std::int8_t>(const memory_options& options) {
  return make_memory_of<std::int8_t>(options);
}
