// A small translation unit, compiled with every set of flags that must not share a function.
#include <fovea/kv_cache.hpp>
#include <fovea/position.hpp>

fovea::index_type use_a_little_of_the_library(const Eigen::MatrixXf& m) {
  fovea::kv_cache<fovea::bf16, 2> cache(8, 4);
  const fovea::rotary_table<float> table(8, 4);
  cache.append(m, m, table.angles());
  return cache.tokens();
}
