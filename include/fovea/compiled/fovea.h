// fovea/compiled/fovea.h - the compiled library in C99: attention on CPUs, at the best of each processor.
//
//   O = softmax(score(scale * Q K^T)) V
//
//   fovea_call call;
//   fovea_call_init(&call);
//   call.q = fovea_bhsd(q, FOVEA_F32, batch, heads, tokens, dim);     /* k, v and o likewise */
//   fovea_mask causal = fovea_mask_of(FOVEA_CAUSAL);
//   call.masks = &causal, call.mask_count = 1;
//   fovea_error error;
//   if (fovea_attend(&call, &error) != FOVEA_OK) puts(error.message);
//
// Meanings, the order of arithmetic and accuracy are those of the C++ headers (attention.hpp, mask.hpp,
// score.hpp), whose results these calls give bit for bit, of the instruction set that fovea_isa names (where
// a call has several scores, but for the last bit).
//
// Errors. Each call returns FOVEA_OK or another fovea_status and, where `error` is not NULL, writes a
// sentence to it that names the argument and both values. Arguments are checked before anything is written.
// No C++ exception leaves a call, and none may leave a callback.
//
// Lifetime. What a call is given (views, lists, masks, scores) is read during the call and never kept; what
// is created is destroyed by its own fovea_..._destroy, which takes NULL as well. A pool outlives its caches,
// threads outlive the calls that they work for. Calls may run at the same time, unless they write the same
// memory or change the same cache or pool.
//
// ABI. Structures begin with their size, as the caller's header has it (but for fovea_tensor, fovea_list and
// fovea_error, which stay as they are): fields are only ever added at the end, the library takes those that
// it is not given for 0, and refuses a structure larger than its own. Entries of an array (masks, scores) all
// have the size that its first one says. Numbers of enumerations stay. Handles are opaque. Memory is freed by
// who allocated it.
#ifndef FOVEA_COMPILED_FOVEA_H
#define FOVEA_COMPILED_FOVEA_H

#include <fovea/compiled/fovea_types.h>

#include <string.h>

#if defined(FOVEA_COMPILED_SHARED) && defined(_WIN32) && defined(FOVEA_COMPILED_BUILDS)
#define FOVEA_API __declspec(dllexport)
#elif defined(FOVEA_COMPILED_SHARED) && defined(_WIN32)
#define FOVEA_API __declspec(dllimport)
#elif defined(FOVEA_COMPILED_SHARED) && defined(__GNUC__)
#define FOVEA_API __attribute__((visibility("default")))
#else
#define FOVEA_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/// The library's version as text, and the instruction set that it works with: x86-64, x86-64-v3, x86-64-v4,
/// x86-64-v4-bf16, aarch64, or "as compiled" where the build knew of one alone.
/// It is the best that the machine runs, chosen once; the environment variable FOVEA_ISA names another.
FOVEA_API const char* fovea_version(void);
FOVEA_API const char* fovea_isa(void);

/// Writes O and, where they are given, the LSE, what keys receive and weights of some heads. O may be q
/// itself. (A gate of 16-bit O takes copies of q, k and v in float; received and weights take the logits once
/// more, of a cache by way of a copy of its keys in float.)
FOVEA_API int32_t fovea_attend(const fovea_call* call, fovea_error* error);
/// Bytes of a workspace that serves the same call.
FOVEA_API int32_t fovea_attend_workspace(const fovea_call* call, size_t* bytes, fovea_error* error);
/// Writes d_q, d_k and d_v, and the gradients that scores, sink and d_gate name (of one score at most). Not
/// for caches. With a gate, o is what fovea_attend gave: gated.
FOVEA_API int32_t fovea_backward(const fovea_call* call, const fovea_gradients* gradients,
                                 fovea_error* error);
/// Bytes of a workspace that serves the same call.
FOVEA_API int32_t fovea_backward_workspace(const fovea_call* call, const fovea_gradients* gradients,
                                           size_t* bytes, fovea_error* error);
/// How a call (with gradients: its backward) is cut into jobs, made once: the same call then names it in its
/// `plan`, and is refused where its sizes, masks or workers need another one. Bytes of the workspace; and a
/// sentence that explains the plan, cut where it is longer than `size`.
FOVEA_API int32_t fovea_plan_create(const fovea_call* call, const fovea_gradients* gradients,
                                    fovea_plan** plan, fovea_error* error);
FOVEA_API void fovea_plan_destroy(fovea_plan* plan);
FOVEA_API int64_t fovea_plan_workspace(const fovea_plan* plan);
FOVEA_API int32_t fovea_plan_explain(const fovea_plan* plan, char* text, size_t size, fovea_error* error);

/// Writes the probabilities of q and k (or of a cache), batch x heads x Lq x Lk, or the logits: F32, or F64
/// where q is. v, o, lse and gate of the call are not read. Not for packed sequences, nor with a dropout.
FOVEA_API int32_t fovea_weights(const fovea_call* call, const fovea_tensor* weights, fovea_error* error);
FOVEA_API int32_t fovea_logits(const fovea_call* call, const fovea_tensor* logits, fovea_error* error);
/// Writes the statistics of each row, in O(Lq) memory; reads what fovea_weights reads.
FOVEA_API int32_t fovea_measure(const fovea_call* call, const fovea_statistics* to, fovea_error* error);

FOVEA_API int32_t fovea_threads_create(int64_t workers, fovea_threads** threads, fovea_error* error);
FOVEA_API void fovea_threads_destroy(fovea_threads* threads);

FOVEA_API int32_t fovea_pool_create(const fovea_pool_options* options, fovea_pool** pool, fovea_error* error);
FOVEA_API void fovea_pool_destroy(fovea_pool* pool);
FOVEA_API int64_t fovea_pool_free_pages(const fovea_pool* pool);

FOVEA_API int32_t fovea_cache_create(const fovea_cache_options* options, fovea_cache** cache,
                                     fovea_error* error);
FOVEA_API void fovea_cache_destroy(fovea_cache* cache);
/// Appends the tokens of k and v, batch 1, of any real element.
FOVEA_API int32_t fovea_cache_append(fovea_cache* cache, const fovea_tensor* k, const fovea_tensor* v,
                                     fovea_error* error);
/// The same, the keys turned to the positions that they take.
FOVEA_API int32_t fovea_cache_append_rotated(fovea_cache* cache, const fovea_tensor* k,
                                             const fovea_tensor* v, const fovea_rotary* angles,
                                             fovea_error* error);
/// Writes x, its tokens turned to the positions from `first` on, to `to`: the same tensor, or one apart. x
/// and `to`: F32, F64, BF16 or F16, both the same.
FOVEA_API int32_t fovea_rotate(const fovea_rotary* angles, const fovea_tensor* x, int64_t first,
                               const fovea_tensor* to, fovea_error* error);
/// Writes the tokens to a file; and reads them in place of all tokens of a cache of the same sizes:
/// contiguous caches. FOVEA_FAILED, and the cache as it was, where the file can not be read or is damaged.
FOVEA_API int32_t fovea_cache_save(const fovea_cache* cache, const char* path, fovea_error* error);
FOVEA_API int32_t fovea_cache_load(fovea_cache* cache, const char* path, fovea_error* error);
/// Takes back the newest tokens, so that `tokens` are left.
FOVEA_API int32_t fovea_cache_truncate(fovea_cache* cache, int64_t tokens, fovea_error* error);
/// Keeps the tokens listed (ascending integers) and lets go of the others: contiguous caches.
FOVEA_API int32_t fovea_cache_keep(fovea_cache* cache, const fovea_list* kept, fovea_error* error);
/// Makes room for `capacity` tokens: contiguous caches.
FOVEA_API int32_t fovea_cache_reserve(fovea_cache* cache, int64_t capacity, fovea_error* error);
/// The same tokens again, in the same pages: paged caches.
FOVEA_API int32_t fovea_cache_fork(const fovea_cache* cache, fovea_cache** fork, fovea_error* error);
/// Tokens that are kept; the position of the next one in the whole sequence; bytes of the memory.
FOVEA_API int64_t fovea_cache_tokens(const fovea_cache* cache);
FOVEA_API int64_t fovea_cache_position(const fovea_cache* cache);
FOVEA_API int64_t fovea_cache_bytes(const fovea_cache* cache);

/// A call, a mask and a score with their sizes, all else 0 (a window open on both sides).
static inline void fovea_call_init(fovea_call* call) {
  memset(call, 0, sizeof *call);
  call->size_of_this = sizeof *call;
}
static inline fovea_mask fovea_mask_of(int32_t kind) {
  fovea_mask mask;
  memset(&mask, 0, sizeof mask);
  mask.size_of_this = sizeof mask;
  mask.kind = kind;
  mask.left = mask.right = -1;
  return mask;
}
static inline fovea_score fovea_score_of(int32_t kind) {
  fovea_score score;
  memset(&score, 0, sizeof score);
  score.size_of_this = sizeof score;
  score.kind = kind;
  return score;
}
/// [batch][head][token][dim], as PyTorch has it, and [batch][token][head][dim], contiguous.
static inline fovea_tensor fovea_bhsd(const void* data, int32_t element, int64_t batch, int64_t heads,
                                      int64_t tokens, int64_t dim) {
  fovea_tensor view;
  memset(&view, 0, sizeof view), memcpy(&view.data, &data, sizeof data);
  view.element = element;
  view.batch = batch, view.heads = heads, view.tokens = tokens, view.dim = dim;
  view.batch_stride = heads * tokens * dim, view.head_stride = tokens * dim;
  view.token_stride = dim, view.dim_stride = 1;
  return view;
}
static inline fovea_tensor fovea_bshd(const void* data, int32_t element, int64_t batch, int64_t tokens,
                                      int64_t heads, int64_t dim) {
  fovea_tensor view = fovea_bhsd(data, element, batch, heads, tokens, dim);
  view.head_stride = dim, view.token_stride = heads * dim;
  return view;
}
/// Numbers one after another.
static inline fovea_list fovea_list_of(const void* data, int32_t element, int64_t count) {
  const fovea_list list = {data, element, 0, count, 1};
  return list;
}

#ifdef __cplusplus
}
#endif

#endif
