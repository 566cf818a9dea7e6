/* What the tests in C99 of calls have in common: numbers, a plain call, and what is expected. */
#include <fovea/compiled/fovea.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { batch = 2, heads = 4, kv_heads = 2, tokens = 37, dim = 12, width = tokens * dim, all = batch * heads * width };

static int failures = 0;
static fovea_error error;

static void expect(int holds, const char* what) {
  if (!holds) printf("failed: %s (%s)\n", what, error.message), ++failures;
}
static float* numbers(size_t count, float seed) {
  float* x = malloc(count * sizeof *x);
  for (size_t i = 0; i < count; ++i) x[i] = sinf(seed * (float)(i % 9973));
  return x;
}
static fovea_tensor f32(const float* x, int64_t n, int64_t rows, int64_t columns) {
  return fovea_bhsd(x, FOVEA_F32, batch, n, rows, columns);
}

static float *q, *k, *v, *o, *lse, *gate, *plain, *weights;
static fovea_mask causal;

static fovea_call plain_call(void) {
  fovea_call call;
  fovea_call_init(&call);
  call.q = f32(q, heads, tokens, dim), call.k = f32(k, kv_heads, tokens, dim), call.v = f32(v, kv_heads, tokens, dim);
  call.o = f32(o, heads, tokens, dim), call.lse = f32(lse, heads, tokens, 1);
  causal = fovea_mask_of(FOVEA_CAUSAL);
  call.masks = &causal, call.mask_count = 1;
  return call;
}

/* The numbers of plain_call, each one's own. */
static void make_numbers(void) {
  q = numbers(all, 1.3f), k = numbers(all / 2, 2.7f), v = numbers(all / 2, 4.1f), gate = numbers(all, 3.3f);
  o = numbers(all, 0), plain = numbers(all, 0), lse = numbers(batch * heads * tokens, 0);
  weights = numbers((size_t)batch * heads * tokens * tokens, 0);
}
static int say(void) {
  free(q), free(k), free(v), free(gate), free(o), free(plain), free(lse), free(weights);
  printf("%s\n", failures == 0 ? "good" : "bad");
  return failures != 0;
}
