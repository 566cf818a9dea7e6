/* Calls of the compiled library that are refused, from C99, and what is asked of a call: neither writes a result. */
#include "c_calls.h"

static void expect_refused(int32_t status, const char* part, const char* what) {
  expect(status == FOVEA_INVALID_ARGUMENT && strstr(error.message, part) != NULL, what);
}

static void test_refused(void) {
  double* received = calloc(batch * kv_heads * tokens, sizeof *received);
  memcpy(plain, o, all * sizeof *o);
  fovea_call call = plain_call();
  call.gate = f32(gate, heads, tokens, dim), call.gate.element = FOVEA_I8;
  expect_refused(fovea_attend(&call, &error), "gate has elements I8", "a gate of I8");
  call = plain_call(), call.received = fovea_bhsd(received, FOVEA_F64, batch, kv_heads, tokens, 1);
  call.sink = fovea_list_of(received + 5, FOVEA_F64, heads);
  expect_refused(fovea_attend(&call, &error), "received and sink", "received where the sink is");
  call.sink.data = NULL, call.workspace = received, call.workspace_bytes = 64;
  expect_refused(fovea_attend(&call, &error), "workspace and received", "received in the workspace");
  call.received.batch = 1, call.workspace = NULL, call.workspace_bytes = 0;
  expect_refused(fovea_attend(&call, &error), "1 batch entries but k has 2", "received of fewer batch entries");
  fovea_mask masks[2] = {fovea_mask_of(FOVEA_CAUSAL_TOP_LEFT), fovea_mask_of(FOVEA_CAUSAL_TOP_LEFT)};
  fovea_score scores[2] = {fovea_score_of(FOVEA_SOFTCAP), fovea_score_of(FOVEA_SOFTCAP)};
  masks[1].size_of_this += 8, scores[1].size_of_this -= 8, scores[0].value = scores[1].value = 30;
  call = plain_call(), call.masks = masks, call.mask_count = 2;
  expect_refused(fovea_attend(&call, &error), "entry 1 of masks has a size of", "a mask larger than the first");
  call.mask_count = 0, call.scores = scores, call.score_count = 2;
  expect_refused(fovea_attend(&call, &error), "entry 1 of scores has a size of", "a score smaller than the first");
  const fovea_cache* none[1] = {NULL};
  call = plain_call(), call.caches = none, call.cache_count = -1;
  const fovea_tensor weights = fovea_bhsd(received, FOVEA_F32, batch, heads, tokens, tokens);
  expect_refused(fovea_attend(&call, &error), "caches has -1 entries", "fewer caches than none");
  call.cache_count = 1;
  expect_refused(fovea_attend(&call, &error), "cache 0 of a call is a null pointer", "no cache");
  call.caches = NULL;
  expect_refused(fovea_attend(&call, &error), "cache 0 of a call is a null pointer", "no caches");
  call.caches = none, call.cache_count = -1;
  expect_refused(fovea_weights(&call, &weights, &error), "caches has -1 entries", "weights of fewer caches than none");
  expect(memcmp(o, plain, all * sizeof *o) == 0, "o is as it was");
  free(received);
}

/* Lists of documents' ids that are read one after another, and sizes below 0. */
static void test_lists(void) {
  const int32_t ids[2 * tokens] = {0};
  fovea_call call = plain_call();
  fovea_mask same = fovea_mask_of(FOVEA_DOCUMENTS);
  same.list = fovea_list_of(ids, FOVEA_I32, tokens), same.list2 = same.list, same.list.stride = 2;
  call.masks = &same;
  expect_refused(fovea_attend(&call, &error), "documents' ids has entries 2 apart", "ids of keys apart");
  same.list.stride = 1, same.list2.stride = 2;
  expect_refused(fovea_attend(&call, &error), "documents' query ids has entries 2 apart", "ids of queries apart");
  same.list2.stride = 1, same.list2.count = -1;
  expect_refused(fovea_attend(&call, &error), "documents' query ids has -1 entries", "fewer ids than none");
  call = plain_call(), call.k.tokens = INT64_MIN;
  expect_refused(fovea_attend(&call, &error), "k has a negative size", "fewer keys than none");
  call = plain_call(), call.gate = f32(gate, heads, tokens, dim), call.o.tokens = call.gate.tokens = INT64_MIN;
  expect_refused(fovea_attend(&call, &error), "below 0", "fewer results than none");
}

static void expect_too_far(int32_t status, const char* part, const char* what) {
  expect(status == FOVEA_TOO_LARGE && strstr(error.message, part) != NULL, what);
}

/* Strides that reach further than can be counted, and results of looks that can not be written. */
static void test_places(void) {
  memcpy(plain, o, all * sizeof *o);
  fovea_call call = plain_call();
  call.o.head_stride = INT64_MAX / 2;
  expect_too_far(fovea_attend(&call, &error), "o has", "o reaches too far");
  call.gate = f32(gate, heads, tokens, dim);
  expect_too_far(fovea_attend(&call, &error), "o has", "o reaches too far, with a gate");
  call = plain_call(), call.gate = f32(gate, heads, tokens, dim), call.gate.token_stride = INT64_MIN;
  expect_too_far(fovea_attend(&call, &error), "gate has", "a gate reaches too far");
  call = plain_call(), call.k.head_stride = INT64_MAX;
  expect_too_far(fovea_attend(&call, &error), "k has", "k reaches too far");
  call = plain_call(), call.sink = fovea_list_of(gate, FOVEA_F32, heads), call.sink.stride = INT64_MAX;
  expect_too_far(fovea_attend(&call, &error), "sink's logits has", "sinks too far apart");
  fovea_mask keep = fovea_mask_of(FOVEA_BOOLEAN);
  keep.matrix = fovea_bhsd(gate, FOVEA_U8, 1, 1, tokens, tokens), keep.matrix.token_stride = INT64_MAX;
  call = plain_call(), call.masks = &keep, call.mask_count = 1;
  expect_too_far(fovea_attend(&call, &error), "boolean_mask", "a matrix reaches too far");

  float* w = calloc((size_t)batch * heads * tokens * tokens, sizeof *w);
  const fovea_tensor good = fovea_bhsd(w, FOVEA_F32, batch, heads, tokens, tokens);
  fovea_tensor bad = good;
  call = plain_call(), bad.dim_stride = 0;
  expect_refused(fovea_weights(&call, &bad, &error), "weights has elements that lie at the same place", "weights at one place");
  bad = good, bad.data = call.q.data;
  expect_refused(fovea_logits(&call, &bad, &error), "logits and q", "logits where q is");
  bad = good, bad.data = NULL;
  expect_refused(fovea_weights(&call, &bad, &error), "weights is a null pointer", "no weights");
  bad = good, bad.tokens -= 1;
  expect_refused(fovea_logits(&call, &bad, &error), "logits has", "fewer rows of logits");
  fovea_statistics to = {sizeof to, NULL, NULL, NULL, NULL, NULL, NULL, NULL};
  to.entropy = to.mass = (double*)w;
  expect_refused(fovea_measure(&call, &to, &error), "entropy", "two statistics at a place");
  expect(w[0] == 0 && fovea_weights(&call, &good, &error) == FOVEA_OK && w[0] > 0, "weights");
  expect(memcmp(o, plain, all * sizeof *o) == 0, "o is as it was");
  free(w);
}

/* What is asked of a call with a gate in bf16 writes none of its results; and they lie apart. */
static void test_narrow(void) {
  uint16_t *x = calloc(all * 3, sizeof *x), *o_of_call = x + 2 * all;
  fovea_call call = plain_call();
  call.q = fovea_bhsd(x, FOVEA_BF16, batch, heads, tokens, dim), call.o = fovea_bhsd(o_of_call, FOVEA_BF16, batch, heads, tokens, dim);
  call.k = call.v = fovea_bhsd(x + all, FOVEA_BF16, batch, kv_heads, tokens, dim), call.gate = f32(gate, heads, tokens, 1);
  uint16_t *d = calloc(all * 4, sizeof *d), *kept = calloc(all * 4, sizeof *kept);
  for (size_t i = 0; i < all * 4; ++i) d[i] = kept[i] = (uint16_t)i;
  fovea_gradients g = {sizeof g, call.o, {0}, call.q, call.k, call.v, call.gate};
  fovea_plan *plan = NULL, *backward = NULL;
  size_t bytes = 0;
  memcpy(o_of_call, kept, all * sizeof *kept);
  expect(fovea_attend_workspace(&call, &bytes, &error) == FOVEA_OK && fovea_plan_create(&call, NULL, &plan, &error) == FOVEA_OK, "plans");
  g.d_q.data = d, g.d_k.data = d + all, g.d_v.data = d + 2 * all, g.d_gate.data = d + 3 * all, g.d_gate.element = FOVEA_BF16;
  expect(fovea_backward_workspace(&call, &g, &bytes, &error) == FOVEA_OK && fovea_plan_create(&call, &g, &backward, &error) == FOVEA_OK,
         "plans of gradients");
  g.d_gate.element = FOVEA_F64;
  expect_refused(fovea_backward(&call, &g, &error), "d_gate has elements F64", "d_gate of F64");
  g.d_gate.element = FOVEA_I8;
  expect_refused(fovea_backward(&call, &g, &error), "d_gate has elements I8", "d_gate of I8");
  g.d_gate.element = FOVEA_BF16, g.d_o.heads = 1;
  expect_refused(fovea_backward(&call, &g, &error), "d_o has 1 heads but o has 4", "d_o of fewer heads");
  g.d_o.heads = heads, g.d_v.data = g.d_k.data;
  expect_refused(fovea_backward(&call, &g, &error), "d_k and d_v", "two gradients at a place");
  g.d_v.element = FOVEA_F32, g.d_v.data = d + 2 * all;
  expect_refused(fovea_backward(&call, &g, &error), "d_v has elements F32, not BF16", "a gradient of F32");
  call.workspace = o_of_call, call.workspace_bytes = 64;
  expect_refused(fovea_attend(&call, &error), "workspace and o", "a workspace in o");
  expect(memcmp(d, kept, all * 4 * sizeof *d) == 0 && memcmp(o_of_call, kept, all * sizeof *kept) == 0, "all is as it was");
  call.workspace = NULL, call.workspace_bytes = 0;
  call.k.tokens = call.v.tokens = 0, call.k.data = call.v.data = NULL, call.mask_count = 0, call.lse.data = NULL;
  expect(fovea_attend(&call, &error) == FOVEA_OK && o_of_call[5] == 0, "no keys, and no memory of them");
  fovea_plan_destroy(plan), fovea_plan_destroy(backward), free(d), free(kept), free(x);
}

/* Two sequences of one query, packed: two caches receive. */
static void test_packed(void) {
  enum { wanted = kv_heads * tokens };
  const int64_t offsets[3] = {0, 1, 2};
  float *sums = calloc(3 * wanted, sizeof *sums), *got = numbers(all, 0), given = 0;
  fovea_cache* caches[2];
  for (int b = 0; b < 2; ++b) {
    const fovea_cache_options options = {sizeof options, FOVEA_CONTIGUOUS, FOVEA_F32, kv_heads, dim, 0, tokens, 0, NULL};
    fovea_tensor one_k = f32(k, kv_heads, tokens, dim), one_v = f32(v, kv_heads, tokens, dim);
    one_k.batch = one_v.batch = 1;
    expect(fovea_cache_create(&options, &caches[b], &error) == FOVEA_OK && fovea_cache_append(caches[b], &one_k, &one_v, &error) == FOVEA_OK,
           "a cache");
  }
  fovea_call call = plain_call();
  call.q.batch = call.o.batch = 1, call.q.tokens = call.o.tokens = 2, call.lse.data = NULL, call.o.data = got;
  memset(&call.k, 0, sizeof call.k), memset(&call.v, 0, sizeof call.v);
  call.caches = (const fovea_cache* const*)caches, call.cache_count = 2, call.query_offsets = fovea_list_of(offsets, FOVEA_I64, 3);
  call.received = fovea_bhsd(sums, FOVEA_F32, 1, kv_heads, tokens, 1);
  expect_refused(fovea_attend(&call, &error), "1 batch entries but the call has 2 caches", "received of one cache");
  call.received.batch = 2;
  expect(fovea_attend(&call, &error) == FOVEA_OK, "packed queries of two caches");
  for (int b = 0; b < 3; ++b, given = 0) {
    for (int j = 0; j < wanted; ++j) given += sums[b * wanted + j];
    expect(fabsf(given - (b < 2 ? heads : 0)) < 1e-4f, "each cache receives from its query");
  }
  for (int b = 0; b < 2; ++b) fovea_cache_destroy(caches[b]);
  free(sums), free(got);
}

static void test_files(const char* path) {
  const fovea_cache_options options = {sizeof options, FOVEA_RING, FOVEA_F32, kv_heads, dim, 0, 2 * tokens, 0, NULL};
  fovea_cache* cache = NULL;
  FILE* file = fopen(path, "wb");
  expect(file != NULL && fputc('x', file) == 'x' && fclose(file) == 0, "a file");
  expect(fovea_cache_create(&options, &cache, &error) == FOVEA_OK, "a ring");
  expect_refused(fovea_cache_save(cache, path, &error), "not of a ring cache", "a file of a ring");
  file = fopen(path, "rb");
  expect(file != NULL && fgetc(file) == 'x' && fclose(file) == 0, "the file that was there is as it was");
  fovea_cache_destroy(cache), remove(path);
  fovea_tensor x = f32(q, heads, tokens, dim), to = f32(o, heads, tokens, dim);
  const fovea_rotary angles = {sizeof angles, f32(gate, 1, 1, 1), f32(gate, 1, 1, 1), 0, 0};
  x.element = to.element = FOVEA_I8;
  expect_refused(fovea_rotate(&angles, &x, 0, &to, &error), "not F32, F64, BF16 or F16", "I8 is not turned");
}

int main(int argc, char** argv) {
  make_numbers();
  test_refused(), test_lists(), test_places(), test_narrow(), test_packed(), test_files(argc > 1 ? argv[1] : "c_refused.cache");
  return say();
}
