/* What calls of the compiled library write beside O, from C99: gates, what keys receive, weights of some heads, gradients of
   tables; plans; rotations and files of caches. */
#include "c_calls.h"

static void expect_near(const float* a, const float* b, size_t count, double within, const char* what) {
  double worst = 0;
  for (size_t i = 0; i < count; ++i) worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
  if (!(worst <= within)) printf("failed: %s: off by %g\n", what, worst), ++failures;
}
static float bf16_of(uint16_t bits) {
  const uint32_t wide = (uint32_t)bits << 16;
  float x;
  memcpy(&x, &wide, sizeof x);
  return x;
}
static float sigmoid(float g) { return (float)(1 / (1 + exp(-(double)g))); }

static void test_looks(void) {
  fovea_call call = plain_call();
  expect(fovea_attend(&call, &error) == FOVEA_OK, "attend");
  memcpy(plain, o, all * sizeof *o);
  fovea_tensor to = f32(weights, heads, tokens, tokens);
  expect(fovea_weights(&call, &to, &error) == FOVEA_OK, "weights");

  const int32_t list[2] = {3, 1};
  float *some = numbers((size_t)batch * 2 * tokens * tokens, 0), *expected = numbers((size_t)batch * 2 * tokens * tokens, 0);
  double* received = calloc(batch * kv_heads * (tokens + 3), sizeof *received);
  call.weights = f32(some, 2, tokens, tokens), call.weight_heads = fovea_list_of(list, FOVEA_I32, 2);
  call.received = fovea_bhsd(received, FOVEA_F64, batch, kv_heads, tokens + 3, 1);
  call.gate = f32(gate, heads, tokens, dim);
  for (int round = 0; round < 2; ++round) expect(fovea_attend(&call, &error) == FOVEA_OK, "attend with all of it");
  double worst = 0;
  for (size_t i = 0; i < all; ++i) worst = fmax(worst, fabs((double)(plain[i] * sigmoid(gate[i]) - o[i])));
  expect(worst < 1e-6, "a gate is applied");
  for (int b = 0; b < batch; ++b)
    for (int n = 0; n < 2; ++n)
      memcpy(expected + (b * 2 + n) * tokens * tokens, weights + (b * heads + list[n]) * tokens * tokens,
             tokens * tokens * sizeof *weights);
  expect(memcmp(some, expected, (size_t)batch * 2 * tokens * tokens * sizeof *some) == 0, "weights of listed heads");
  worst = 0;
  for (int b = 0; b < batch; ++b)
    for (int g = 0; g < kv_heads; ++g)
      for (int j = 0; j < tokens + 3; ++j) {
        double sum = 0;
        for (int h = g * 2; h < g * 2 + 2 && j < tokens; ++h)
          for (int i = 0; i < tokens; ++i) sum += (double)weights[((b * heads + h) * tokens + i) * tokens + j];
        worst = fmax(worst, fabs(2 * sum - received[(b * kv_heads + g) * (tokens + 3) + j]));
      }
  expect(worst < 1e-4, "what keys receive is added twice");
  /* O may be Q, which is looked at afterwards. */
  memcpy(o, q, all * sizeof *o);
  call.q = call.o, call.gate.data = NULL;
  expect(fovea_attend(&call, &error) == FOVEA_OK, "O is Q");
  expect_near(some, expected, (size_t)batch * 2 * tokens * tokens, 1e-6, "weights where O is Q");
  call = plain_call(), call.gate = f32(gate, heads, tokens, 3);
  expect(fovea_attend(&call, &error) == FOVEA_INVALID_ARGUMENT && strstr(error.message, "3 columns"), "a gate of other columns");
  call = plain_call(), call.received = fovea_bhsd(received, FOVEA_F64, batch, kv_heads, tokens - 1, 1);
  expect(fovea_attend(&call, &error) == FOVEA_INVALID_ARGUMENT && strstr(error.message, "36"), "received has too few tokens");
  call = plain_call(), call.weights = f32(some, 2, tokens, tokens);
  expect(fovea_attend(&call, &error) == FOVEA_INVALID_ARGUMENT, "weights without a list");

  /* A gate of bf16 results: rounded once. */
  uint16_t *narrow = calloc(all * 4, sizeof *narrow), *x[4];
  for (int i = 0; i < 4; ++i) x[i] = narrow + i * all;
  const float* from[3] = {q, k, v};
  float* wide = numbers(all, 0);
  for (int i = 0; i < 3; ++i)
    for (size_t j = 0; j < (size_t)(i == 0 ? all : all / 2); ++j) {
      uint32_t bits;
      memcpy(&bits, &from[i][j], sizeof bits);
      x[i][j] = (uint16_t)(bits >> 16);
    }
  call = plain_call();
  call.q = fovea_bhsd(x[0], FOVEA_BF16, batch, heads, tokens, dim), call.o = fovea_bhsd(x[3], FOVEA_BF16, batch, heads, tokens, dim);
  call.k = fovea_bhsd(x[1], FOVEA_BF16, batch, kv_heads, tokens, dim);
  call.v = fovea_bhsd(x[2], FOVEA_BF16, batch, kv_heads, tokens, dim), call.gate = f32(gate, heads, tokens, 1);
  expect(fovea_attend(&call, &error) == FOVEA_OK, "a gate a row, of bf16");
  for (size_t i = 0; i < all; ++i) wide[i] = bf16_of(x[3][i]) - plain[i] * sigmoid(gate[i / dim]);
  expect_near(wide, numbers(all, 0), all, 2e-2, "a gate a row, of bf16");
  free(narrow), free(wide), free(some), free(expected), free(received);
}

/* d/dx of sum(d_o o), by a difference. */
static double slope(fovea_call* call, float* x, const float* d_o) {
  const float before = *x, step = 0.01f;
  double loss[2] = {0, 0};
  for (int side = 0; side < 2; ++side) {
    *x = before + (side ? step : -step);
    expect(fovea_attend(call, &error) == FOVEA_OK, "attend");
    for (size_t i = 0; i < all; ++i) loss[side] += (double)d_o[i] * (double)o[i];
  }
  *x = before;
  return (loss[1] - loss[0]) / (2 * (double)step);
}

static void test_gradients(void) {
  float *d_o = numbers(all, 0.7f), *d_q = numbers(all, 0), *d_k = numbers(all, 0), *d_v = numbers(all, 0), *d_gate = numbers(all, 0);
  fovea_call call = plain_call();
  call.gate = f32(gate, heads, tokens, dim);
  expect(fovea_attend(&call, &error) == FOVEA_OK, "attend");
  fovea_gradients g = {sizeof g, f32(d_o, heads, tokens, dim), {0}, f32(d_q, heads, tokens, dim), f32(d_k, kv_heads, tokens, dim),
                       f32(d_v, kv_heads, tokens, dim), f32(d_gate, heads, tokens, dim)};
  expect(fovea_backward(&call, &g, &error) == FOVEA_OK, "backward of a gate");
  const struct { float *x, *d; } at[4] = {{q + 77, d_q + 77}, {k + 30, d_k + 30}, {v + 30, d_v + 30}, {gate + 99, d_gate + 99}};
  for (int i = 0; i < 4; ++i) expect(fabs(slope(&call, at[i].x, d_o) - (double)*at[i].d) < 1e-3, "a gradient under a gate");
  call.gate.data = NULL;
  expect(fovea_backward(&call, &g, &error) == FOVEA_INVALID_ARGUMENT, "d_gate without a gate");

  /* A table through listed slots, and T5's: the gradient is that of the bias that they make. */
  enum { slots = 2 * tokens - 1 };
  float *table = numbers(slots * heads, 1.9f), *d_table = numbers(slots * heads, 0), *bias = numbers(heads * tokens * tokens, 0),
        *d_bias = numbers(heads * tokens * tokens, 0), *sums = numbers(slots * heads, 0), *other = numbers(all, 0);
  int32_t* slot = calloc(tokens * tokens, sizeof *slot);
  for (int i = 0; i < tokens * tokens; ++i) slot[i] = i % tokens - i / tokens + tokens - 1;
  slot[5] = -1;
  for (int h = 0; h < heads; ++h)
    for (int i = 0; i < tokens * tokens; ++i)
      bias[h * tokens * tokens + i] = slot[i] < 0 ? 0 : table[slot[i] * heads + h];
  fovea_score score = fovea_score_of(FOVEA_BIAS);
  score.matrix = fovea_bhsd(bias, FOVEA_F32, 1, heads, tokens, tokens);
  score.gradient = fovea_bhsd(d_bias, FOVEA_F32, 1, heads, tokens, tokens);
  call = plain_call();
  call.scores = &score, call.score_count = 1, g.d_gate.data = NULL;
  expect(fovea_attend(&call, &error) == FOVEA_OK && fovea_backward(&call, &g, &error) == FOVEA_OK, "a bias");
  memcpy(other, o, all * sizeof *o);
  for (int h = 0; h < heads; ++h)
    for (int i = 0; i < tokens * tokens; ++i)
      if (slot[i] >= 0) sums[slot[i] * heads + h] += d_bias[h * tokens * tokens + i];
  score = fovea_score_of(FOVEA_BIAS_TABLE);
  score.matrix = fovea_bhsd(table, FOVEA_F32, 1, 1, slots, heads), score.gradient = fovea_bhsd(d_table, FOVEA_F32, 1, 1, slots, heads);
  score.slots = fovea_bhsd(slot, FOVEA_I32, 1, 1, tokens, tokens);
  expect(fovea_attend(&call, &error) == FOVEA_OK && fovea_backward(&call, &g, &error) == FOVEA_OK, "a table");
  expect_near(o, other, all, 1e-6, "a table's results"), expect_near(d_table, sums, slots * heads, 1e-5, "a table's gradient");
  score.slots.tokens = 5;
  expect(fovea_attend(&call, &error) == FOVEA_INVALID_ARGUMENT && strstr(error.message, "5"), "slots of other sizes");
  score = fovea_score_of(FOVEA_T5_BIAS);
  score.matrix = fovea_bhsd(table, FOVEA_F32, 1, 1, 32, heads), score.gradient = fovea_bhsd(d_table, FOVEA_F32, 1, 1, 32, heads);
  expect(fovea_attend(&call, &error) == FOVEA_OK && fovea_backward(&call, &g, &error) == FOVEA_OK, "T5's buckets");
  expect(fabs(slope(&call, table + 2 * heads + 1, d_o) - (double)d_table[2 * heads + 1]) < 2e-3, "the gradient of a bucket");
  free(d_o), free(d_q), free(d_k), free(d_v), free(d_gate), free(table), free(d_table), free(bias), free(d_bias), free(sums);
  free(other), free(slot);
}

static void test_plans(void) {
  fovea_call call = plain_call();
  fovea_plan *plan = NULL, *backward = NULL;
  expect(fovea_plan_create(&call, NULL, &plan, &error) == FOVEA_OK, "a plan");
  size_t bytes = 0;
  char text[1000];
  expect(fovea_attend_workspace(&call, &bytes, &error) == FOVEA_OK && (int64_t)bytes == fovea_plan_workspace(plan), "its workspace");
  expect(fovea_plan_explain(plan, text, sizeof text, &error) == FOVEA_OK && strstr(text, "2 x 4 query heads"), "a plan explains itself");
  expect(fovea_plan_explain(plan, text, 4, &error) == FOVEA_OK && strlen(text) == 3, "in the room that there is");
  call.plan = plan, call.workspace = malloc(bytes), call.workspace_bytes = bytes;
  for (int round = 0; round < 2; ++round) expect(fovea_attend(&call, &error) == FOVEA_OK, "a planned call");
  expect(memcmp(o, plain, all * sizeof *o) == 0, "the same bits by a plan");
  free(call.workspace);
  call.workspace = NULL, call.workspace_bytes = 0;
  call.q.batch = call.k.batch = call.v.batch = call.o.batch = call.lse.batch = 1;
  expect(fovea_attend(&call, &error) == FOVEA_INVALID_ARGUMENT && strstr(error.message, "sequences"), "another plan is needed");
  call = plain_call();
  float* d = numbers(4 * all, 0);
  const fovea_gradients g = {sizeof g, f32(o, heads, tokens, dim), {0}, f32(d, heads, tokens, dim), f32(d + all, kv_heads, tokens, dim),
                             f32(d + 2 * all, kv_heads, tokens, dim), {0}};
  expect(fovea_plan_create(&call, &g, &backward, &error) == FOVEA_OK, "a plan of backward");
  call.plan = backward;
  expect(fovea_backward(&call, &g, &error) == FOVEA_OK, "a planned backward call");
  expect(fovea_attend(&call, &error) == FOVEA_INVALID_ARGUMENT && strstr(error.message, "backward"), "a plan of the other kind");
  fovea_plan_destroy(plan), fovea_plan_destroy(backward), free(d);
}

static void test_caches(const char* path) {
  enum { positions = 60, half = dim / 2 };
  float *cosines = numbers(positions * half, 0), *sines = numbers(positions * half, 0), *turned = numbers(all, 0);
  for (int p = 0; p < positions; ++p)
    for (int i = 0; i < half; ++i)
      cosines[p * half + i] = (float)cos(p * pow(10000, -i / (double)half)), sines[p * half + i] = (float)sin(p * pow(10000, -i / (double)half));
  fovea_rotary angles = {sizeof angles, fovea_bhsd(cosines, FOVEA_F32, 1, 1, positions, half),
                         fovea_bhsd(sines, FOVEA_F32, 1, 1, positions, half), 0, 0};
  fovea_tensor one_k = f32(k, kv_heads, tokens, dim), one_v = f32(v, kv_heads, tokens, dim), one_turned = f32(turned, kv_heads, tokens, dim);
  one_k.batch = one_v.batch = one_turned.batch = 1;
  expect(fovea_rotate(&angles, &one_k, 0, &one_turned, &error) == FOVEA_OK, "rotate");
  const float a = k[3 * dim + 1], b = k[3 * dim + 1 + half], c = cosines[3 * half + 1], s = sines[3 * half + 1];
  expect(fabsf(turned[3 * dim + 1] - (a * c - b * s)) + fabsf(turned[3 * dim + 1 + half] - (a * s + b * c)) < 1e-6f, "two numbers turn together");
  for (int element = FOVEA_F32; element <= FOVEA_I8; ++element) {
    if (element == FOVEA_F64) continue;
    const fovea_cache_options options = {sizeof options, FOVEA_CONTIGUOUS, element, kv_heads, dim, 0, 2 * tokens, 0, NULL};
    fovea_cache *fused = NULL, *apart = NULL, *read = NULL;
    expect(fovea_cache_create(&options, &fused, &error) == FOVEA_OK && fovea_cache_create(&options, &apart, &error) == FOVEA_OK &&
               fovea_cache_create(&options, &read, &error) == FOVEA_OK, "caches");
    expect(fovea_cache_append_rotated(fused, &one_k, &one_v, &angles, &error) == FOVEA_OK, "rotated on append");
    expect(fovea_cache_append(apart, &one_turned, &one_v, &error) == FOVEA_OK, "append");
    expect(fovea_cache_append_rotated(fused, &one_k, &one_v, &angles, &error) == FOVEA_INVALID_ARGUMENT && strstr(error.message, "60"),
           "angles end before the positions");
    expect(fovea_cache_save(fused, path, &error) == FOVEA_OK && fovea_cache_load(read, path, &error) == FOVEA_OK, "a file of a cache");
    fovea_cache* each[3] = {fused, apart, read};
    float* results[3];
    float* sums = numbers(3 * kv_heads * tokens, 0);
    for (int i = 0; i < 3; ++i) {
      fovea_call call = plain_call();
      call.q.batch = call.o.batch = 1, call.q.tokens = call.o.tokens = 2, call.lse.data = NULL;
      memset(&call.k, 0, sizeof call.k), memset(&call.v, 0, sizeof call.v);
      call.caches = (const fovea_cache* const*)&each[i], call.cache_count = 1;
      call.received = fovea_bhsd(sums + i * kv_heads * tokens, FOVEA_F32, 1, kv_heads, tokens, 1);
      call.o.data = results[i] = numbers(all, 0);
      expect(fovea_attend(&call, &error) == FOVEA_OK, "attend to a cache");
      double sum = 0;
      for (int j = 0; j < kv_heads * tokens; ++j) sum += (double)sums[i * kv_heads * tokens + j];
      expect(fabs(sum - 2 * heads) < 1e-4, "keys of a cache receive what rows give");
    }
    expect(memcmp(results[0], results[1], all * sizeof *o) == 0 && memcmp(results[0], results[2], all * sizeof *o) == 0,
           "the same keys: turned on append, before it, and from a file");
    for (int i = 0; i < 3; ++i) fovea_cache_destroy(each[i]), free(results[i]);
    free(sums);
  }
  FILE* file = fopen(path, "r+b");
  expect(file != NULL && fseek(file, 100, SEEK_SET) == 0 && fputc('x', file) == 'x' && fclose(file) == 0, "a damaged file");
  const fovea_cache_options options = {sizeof options, FOVEA_CONTIGUOUS, FOVEA_I8, kv_heads, dim, 0, 2 * tokens, 0, NULL};
  fovea_cache* cache = NULL;
  expect(fovea_cache_create(&options, &cache, &error) == FOVEA_OK && fovea_cache_append(cache, &one_k, &one_v, &error) == FOVEA_OK, "a cache");
  expect(fovea_cache_load(cache, path, &error) == FOVEA_FAILED && strstr(error.message, "damaged"), "is refused");
  expect(fovea_cache_tokens(cache) == tokens, "and changes nothing");
  expect(fovea_cache_load(cache, "no such file", &error) == FOVEA_FAILED, "no file");
  fovea_cache_destroy(cache), remove(path), free(cosines), free(sines), free(turned);
}

int main(int argc, char** argv) {
  make_numbers();
  test_looks(), test_gradients(), test_plans(), test_caches(argc > 1 ? argv[1] : "c_beside.cache");
  return say();
}
