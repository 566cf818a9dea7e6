// A small translation unit, compiled with every set of flags that must not share a function.
#include <fovea/compiled.hpp>
#include <fovea/kv_cache.hpp>
#include <fovea/position.hpp>

fovea::index_type use_a_little_of_the_library(const Eigen::MatrixXf& m) {
  fovea::kv_cache<fovea::bf16, 2> cache(8, 4);
  const fovea::rotary_table<float> table(8, 4);
  cache.append(m, m, table.angles());
  return cache.tokens();
}

void use_a_little_of_the_compiled_library(const float* x) {
  fovea::compiled::cache cache({.kind = FOVEA_CONTIGUOUS, .element = FOVEA_F32, .heads = 2, .dim = 4, .capacity = 8});
  const fovea_tensor view = fovea_bhsd(x, FOVEA_F32, 1, 2, 1, 4);
  cache.append(view, view);
  cache = cache.fork();
  const fovea::compiled::threads pool(2);
  fovea::compiled::call call;
  call.q = call.o = view;
  call.add(cache), call.add(fovea_mask_of(FOVEA_CAUSAL)), call.softcap(3), call.work_by(pool);
  call.attend();
}
