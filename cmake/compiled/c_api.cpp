// The functions of fovea.h: each takes the machine's instruction set from the table. Compiled once, for every machine.
#include <fovea/compiled/table.hpp>

namespace {

const fovea_compiled_table& table() {
  static const fovea_compiled_table& best = *fovea_compiled_kernels();
  return best;
}

}  // namespace

extern "C" {

const char* fovea_version(void) { return FOVEA_COMPILED_VERSION; }
const char* fovea_isa(void) { return fovea_compiled_kernels_isa(); }

int32_t fovea_attend(const fovea_call* call, fovea_error* error) { return table().attend(call, error); }
int32_t fovea_attend_workspace(const fovea_call* call, size_t* bytes, fovea_error* error) {
  return table().attend_workspace(call, bytes, error);
}
int32_t fovea_backward(const fovea_call* call, const fovea_gradients* gradients, fovea_error* error) {
  return table().backward(call, gradients, error);
}
int32_t fovea_backward_workspace(const fovea_call* call, const fovea_gradients* gradients, size_t* bytes,
                                 fovea_error* error) {
  return table().backward_workspace(call, gradients, bytes, error);
}
int32_t fovea_weights(const fovea_call* call, const fovea_tensor* weights, fovea_error* error) {
  return table().weights(call, weights, error);
}
int32_t fovea_logits(const fovea_call* call, const fovea_tensor* logits, fovea_error* error) {
  return table().logits(call, logits, error);
}
int32_t fovea_measure(const fovea_call* call, const fovea_statistics* to, fovea_error* error) {
  return table().measure(call, to, error);
}
int32_t fovea_plan_create(const fovea_call* call, const fovea_gradients* gradients, fovea_plan** plan,
                          fovea_error* error) {
  return table().plan_create(call, gradients, plan, error);
}
void fovea_plan_destroy(fovea_plan* plan) { return table().plan_destroy(plan); }
int64_t fovea_plan_workspace(const fovea_plan* plan) { return table().plan_workspace(plan); }
int32_t fovea_plan_explain(const fovea_plan* plan, char* text, size_t size, fovea_error* error) {
  return table().plan_explain(plan, text, size, error);
}
int32_t fovea_rotate(const fovea_rotary* angles, const fovea_tensor* x, int64_t first, const fovea_tensor* to,
                     fovea_error* error) {
  return table().rotate(angles, x, first, to, error);
}
int32_t fovea_threads_create(int64_t workers, fovea_threads** threads, fovea_error* error) {
  return table().threads_create(workers, threads, error);
}
void fovea_threads_destroy(fovea_threads* threads) { return table().threads_destroy(threads); }
int32_t fovea_pool_create(const fovea_pool_options* options, fovea_pool** pool, fovea_error* error) {
  return table().pool_create(options, pool, error);
}
void fovea_pool_destroy(fovea_pool* pool) { return table().pool_destroy(pool); }
int64_t fovea_pool_free_pages(const fovea_pool* pool) { return table().pool_free_pages(pool); }
int32_t fovea_cache_create(const fovea_cache_options* options, fovea_cache** cache, fovea_error* error) {
  return table().cache_create(options, cache, error);
}
void fovea_cache_destroy(fovea_cache* cache) { return table().cache_destroy(cache); }
int32_t fovea_cache_append(fovea_cache* cache, const fovea_tensor* k, const fovea_tensor* v,
                           fovea_error* error) {
  return table().cache_append(cache, k, v, error);
}
int32_t fovea_cache_append_rotated(fovea_cache* cache, const fovea_tensor* k, const fovea_tensor* v,
                                   const fovea_rotary* angles, fovea_error* error) {
  return table().cache_append_rotated(cache, k, v, angles, error);
}
int32_t fovea_cache_save(const fovea_cache* cache, const char* path, fovea_error* error) {
  return table().cache_save(cache, path, error);
}
int32_t fovea_cache_load(fovea_cache* cache, const char* path, fovea_error* error) {
  return table().cache_load(cache, path, error);
}
int32_t fovea_cache_truncate(fovea_cache* cache, int64_t tokens, fovea_error* error) {
  return table().cache_truncate(cache, tokens, error);
}
int32_t fovea_cache_keep(fovea_cache* cache, const fovea_list* kept, fovea_error* error) {
  return table().cache_keep(cache, kept, error);
}
int32_t fovea_cache_reserve(fovea_cache* cache, int64_t capacity, fovea_error* error) {
  return table().cache_reserve(cache, capacity, error);
}
int32_t fovea_cache_fork(const fovea_cache* cache, fovea_cache** fork, fovea_error* error) {
  return table().cache_fork(cache, fork, error);
}
int64_t fovea_cache_tokens(const fovea_cache* cache) { return table().cache_tokens(cache); }
int64_t fovea_cache_position(const fovea_cache* cache) { return table().cache_position(cache); }
int64_t fovea_cache_bytes(const fovea_cache* cache) { return table().cache_bytes(cache); }

}  // extern "C"
