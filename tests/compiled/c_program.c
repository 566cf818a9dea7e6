/* The compiled library from C99: forward, masks, errors, callbacks, caches, gradients. Prints the instruction set; fails
   where a result is wrong. With an argument: where another instruction set was chosen. */
#include <fovea/compiled/fovea.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { batch = 2, heads = 4, kv_heads = 2, tokens = 67, dim = 16, width = tokens * dim };

static int failures = 0;

static void expect(int holds, const char* what) {
  if (!holds) printf("failed: %s\n", what), ++failures;
}

static float* numbers(size_t count, float seed) {
  float* x = malloc(count * sizeof *x);
  for (size_t i = 0; i < count; ++i) x[i] = sinf(seed * (float)(i % 9973));
  return x;
}

/* Largest difference of o from causal attention in a window of 9 extra keys, in double, to the newest token of `last`. */
static double error_of(const float* o, const float* q, const float* k, const float* v, int last) {
  double worst = 0;
  for (int bh = 0; bh < batch * heads; ++bh) {
    const float* keys = k + (bh / heads * kv_heads + bh % heads / (heads / kv_heads)) * width;
    const float* values = v + (keys - k);
    for (int i = last ? tokens - 1 : 0; i < tokens; ++i) {
      double weight[tokens] = {0}, sum = 0;
      for (int j = i < 9 ? 0 : i - 9; j <= i; ++j) {
        double s = 0;
        for (int c = 0; c < dim; ++c) s += (double)q[bh * width + i * dim + c] * (double)keys[j * dim + c];
        sum += weight[j] = exp(s / 4);
      }
      for (int c = 0; c < dim; ++c) {
        double exact = 0;
        for (int j = 0; j <= i; ++j) exact += weight[j] / sum * (double)values[j * dim + c];
        const float got = last ? o[bh * dim + c] : o[bh * width + i * dim + c];
        worst = fmax(worst, fabs(exact - (double)got));
      }
    }
  }
  return worst;
}

static void run_all(void* user, int64_t count, void (*task)(void*, int64_t, int64_t), void* context) {
  ++*(int*)user;
  for (int64_t i = count; i-- > 0;) task(context, i, i % 3);
}

static fovea_tensor view(const float* x, int of_heads) {
  return fovea_bhsd(x, FOVEA_F32, batch, of_heads, tokens, dim);
}

int main(int argc, char** argv) {
  const size_t count = (size_t)batch * heads * width;
  float *q = numbers(count, 1.3f), *k = numbers(count / 2, 2.7f), *v = numbers(count / 2, 4.1f);
  float *o = numbers(count, 0), *lse = numbers((size_t)batch * heads * tokens, 0);
  fovea_error error;
  fovea_mask masks[2] = {fovea_mask_of(FOVEA_CAUSAL), fovea_mask_of(FOVEA_SLIDING_WINDOW)};
  masks[1].left = 9;

  fovea_call call;
  fovea_call_init(&call);
  call.q = view(q, heads), call.k = view(k, kv_heads), call.v = view(v, kv_heads), call.o = view(o, heads);
  call.masks = masks, call.mask_count = 2;
  call.lse = fovea_bhsd(lse, FOVEA_F32, batch, heads, tokens, 1);
  expect(fovea_attend(&call, &error) == FOVEA_OK, "attend");
  expect(error_of(o, q, k, v, 0) < 1e-6, "attend is exact");

  /* A callback does the work; the bits are the same. A workspace serves it. */
  float* again = numbers(count, 0);
  int calls = 0;
  const fovea_executor executor = {sizeof executor, 3, &calls, run_all};
  size_t bytes = 0;
  expect(fovea_attend_workspace(&call, &bytes, &error) == FOVEA_OK && bytes > 0, "workspace");
  call.executor = &executor, call.o = view(again, heads);
  expect(fovea_attend(&call, &error) == FOVEA_OK && calls > 0, "attend by a callback");
  expect(memcmp(o, again, count * sizeof *o) == 0, "the same bits by a callback");
  call.executor = NULL;
  fovea_threads* threads = NULL;
  expect(fovea_threads_create(2, &threads, &error) == FOVEA_OK, "threads");
  call.threads = threads;
  memset(again, 0, count * sizeof *again);
  expect(fovea_attend(&call, &error) == FOVEA_OK, "attend by threads");
  expect(memcmp(o, again, count * sizeof *o) == 0, "the same bits by threads");
  call.threads = NULL;

  /* Errors name both values and change nothing. */
  again[0] = 7;
  call.v.tokens = 5;
  expect(fovea_attend(&call, &error) == FOVEA_INVALID_ARGUMENT && again[0] == 7, "an error before it writes");
  expect(strstr(error.message, "67") && strstr(error.message, "5"), error.message);
  call.v = view(v, kv_heads);
  call.size_of_this += 8;
  expect(fovea_attend(&call, NULL) == FOVEA_INVALID_ARGUMENT, "a structure of a later version is refused");
  call.size_of_this = offsetof(fovea_call, dropout_rate);
  expect(fovea_attend(&call, NULL) == FOVEA_OK, "one of an earlier version serves");
  call.size_of_this = sizeof call;
  call.q.element = 77;
  expect(fovea_attend(&call, &error) == FOVEA_INVALID_ARGUMENT && strstr(error.message, "77"), error.message);
  call.q = view(q, heads);

  /* Decode: caches of each kind, the newest query. */
  fovea_pool* pool = NULL;
  const fovea_pool_options of_pool = {sizeof of_pool, FOVEA_F32, 0, kv_heads, dim, 0, 10, 16};
  expect(fovea_pool_create(&of_pool, &pool, &error) == FOVEA_OK, "pool");
  for (int kind = FOVEA_CONTIGUOUS; kind <= FOVEA_PAGED; ++kind) {
    fovea_cache* caches[batch] = {NULL, NULL};
    for (int b = 0; b < batch; ++b) {
      fovea_cache_options options = {sizeof options, kind, FOVEA_F32, kv_heads, dim, 0, tokens, 0, pool};
      expect(fovea_cache_create(&options, &caches[b], &error) == FOVEA_OK, error.message);
      fovea_tensor k_b = view(k + b * kv_heads * width, kv_heads), v_b = view(v + b * kv_heads * width, kv_heads);
      k_b.batch = v_b.batch = 1;
      expect(fovea_cache_append(caches[b], &k_b, &v_b, &error) == FOVEA_OK, error.message);
      expect(fovea_cache_tokens(caches[b]) == tokens, "tokens of a cache");
    }
    fovea_call decode = call;
    memset(&decode.k, 0, sizeof decode.k), memset(&decode.v, 0, sizeof decode.v), memset(&decode.lse, 0, sizeof decode.lse);
    decode.caches = (const fovea_cache* const*)caches, decode.cache_count = batch;
    decode.q = view(q + (tokens - 1) * dim, heads), decode.q.tokens = 1;
    decode.o = fovea_bhsd(again, FOVEA_F32, batch, heads, 1, dim);
    expect(fovea_attend(&decode, &error) == FOVEA_OK, error.message);
    expect(error_of(again, q, k, v, 1) < 1e-6, "decode is exact");
    fovea_cache* fork = NULL;
    const int forks = fovea_cache_fork(caches[0], &fork, &error) == FOVEA_OK;
    expect(forks == (kind == FOVEA_PAGED), "pages are forked");
    fovea_cache_destroy(fork);
    expect(fovea_cache_truncate(caches[0], tokens + 1, &error) == FOVEA_INVALID_ARGUMENT, "truncate beyond");
    for (int b = 0; b < batch; ++b) fovea_cache_destroy(caches[b]);
  }
  expect(fovea_pool_free_pages(pool) == 10, "pages come back");
  fovea_pool_destroy(pool);

  /* d/dq of sum(d_o o), against a difference. */
  float *d_o = numbers(count, 0.7f), *d_q = numbers(count, 0), *d_k = numbers(count / 2, 0), *d_v = numbers(count / 2, 0);
  call.o = view(o, heads);
  const fovea_gradients gradients = {sizeof gradients, view(d_o, heads), {0}, view(d_q, heads), view(d_k, kv_heads), view(d_v, kv_heads), {0}};
  expect(fovea_backward(&call, &gradients, &error) == FOVEA_OK, error.message);
  double loss[2] = {0, 0};
  const size_t at = 5 * dim + 3;
  const float before = q[at], step = 0.01f;
  call.o = view(again, heads);
  for (int side = 0; side < 2; ++side) {
    q[at] = before + (side ? step : -step);
    expect(fovea_attend(&call, &error) == FOVEA_OK, error.message);
    for (size_t i = 0; i < count; ++i) loss[side] += (double)d_o[i] * (double)again[i];
  }
  expect(fabs((loss[1] - loss[0]) / (2 * (double)step) - (double)d_q[at]) < 1e-4, "d_q is the slope");

  fovea_threads_destroy(threads);
  free(q), free(k), free(v), free(o), free(lse), free(again), free(d_o), free(d_q), free(d_k), free(d_v);
  expect(argc < 2 || strcmp(argv[1], fovea_isa()) == 0, fovea_isa());
  printf("fovea %s, %s: %s\n", fovea_version(), fovea_isa(), failures == 0 ? "good" : "bad");
  return failures != 0;
}
