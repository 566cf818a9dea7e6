// The compiled library, once an instruction set: its functions by element, which the other files hold.
#include <fovea/compiled/fill_table.hpp>

namespace fovea::described {
extern template struct calls_of<float>;
extern template struct calls_of<double>;
extern template struct calls_of<bf16>;
extern template struct calls_of<fp16>;
extern template struct inspections_of<float>;
extern template struct inspections_of<double>;
extern template struct cached_calls_of<float>;
extern template struct cached_calls_of<double>;
extern template struct cached_calls_of<bf16>;
extern template struct cached_calls_of<fp16>;
extern template struct cached_calls_of<std::int8_t>;
}  // namespace fovea::described

extern "C" const fovea_compiled_table* fovea_compiled_kernels() { return &fovea::described::entries::table; }
