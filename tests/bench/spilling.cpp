// More accumulators than AVX2 has registers: what bench/hot_loops must notice.
#include <cstddef>
#include <utility>

typedef float lanes __attribute__((vector_size(32)));

template <std::size_t... R>
__attribute__((always_inline)) inline void sum(const float* a, const lanes* b, lanes* out,
                                               std::ptrdiff_t depth, std::index_sequence<R...>) {
  lanes sums[] = {out[R]...};
  for (std::ptrdiff_t t = 0; t < depth; ++t) ((sums[R] += a[t * 20 + R] * b[t]), ...);
  ((out[R] = sums[R]), ...);
}

void dot_keys(const float* a, const lanes* b, lanes* out, std::ptrdiff_t depth) {
  sum(a, b, out, depth, std::make_index_sequence<20>{});
}
