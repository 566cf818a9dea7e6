// fovea/compiled/fovea_types.h - what calls of fovea.h are made of: plain structures and numbers, in C99.
#ifndef FOVEA_COMPILED_FOVEA_TYPES_H
#define FOVEA_COMPILED_FOVEA_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// What a call returns.
typedef enum fovea_status {
  FOVEA_OK = 0,
  FOVEA_INVALID_ARGUMENT = 1,  // the message names it and both values
  FOVEA_TOO_LARGE = 2,         // sizes whose product can not be counted
  FOVEA_OUT_OF_MEMORY = 3,
  FOVEA_FAILED = 4  // the system gave no thread; a file can not be read or written
} fovea_status;

/// The sentence of an error, ended by a 0; cut where it is longer.
typedef struct fovea_error {
  int32_t status;
  char message[508];
} fovea_error;

/// What an element is.
typedef enum fovea_element {
  FOVEA_NO_ELEMENT = 0,
  FOVEA_F32 = 1,
  FOVEA_F64 = 2,
  FOVEA_BF16 = 3,
  FOVEA_F16 = 4,
  FOVEA_I8 = 5,   // what a cache stores, with scales
  FOVEA_U8 = 6,   // booleans and bytes: not 0 keeps
  FOVEA_I32 = 7,  // lists
  FOVEA_I64 = 8,  // lists
  FOVEA_U64 = 9   // lists: words of bits
} fovea_element;

/// Element (b, h, t, c) lies b * batch_stride + h * head_stride + t * token_stride + c * dim_stride elements
/// behind the first one. Strides may be anything for what is read. data NULL: not given. What is read is not
/// written.
typedef struct fovea_tensor {
  void* data;
  int32_t element;  // fovea_element
  int32_t reserved;
  int64_t batch, heads, tokens, dim;
  int64_t batch_stride, head_stride, token_stride, dim_stride;
} fovea_tensor;

/// `count` numbers, `stride` elements apart. data NULL: not given.
typedef struct fovea_list {
  const void* data;
  int32_t element;  // F32, F64 for real numbers; I32, I64 for integers; U64 for bits
  int32_t reserved;
  int64_t count, stride;
} fovea_list;

/// Which mask; beside it the fields of fovea_mask that it reads.
typedef enum fovea_mask_kind {
  FOVEA_CAUSAL = 1,               // needs as many queries as keys, or a cache
  FOVEA_CAUSAL_TOP_LEFT = 2,      // k <= q
  FOVEA_CAUSAL_BOTTOM_RIGHT = 3,  // k <= q + Lk - Lq
  FOVEA_CAUSAL_OFFSET = 4,        // offset: k <= q + offset
  FOVEA_SLIDING_WINDOW = 5,       // left, right: extra keys a side, -1 open; from, offset where has_offset
  FOVEA_KEY_LENGTHS = 6,          // list: a length a sequence
  FOVEA_LEFT_PADDING = 7,         // list: a start a sequence
  FOVEA_PREFIX = 8,               // list: a length a sequence
  FOVEA_DOCUMENTS = 9,            // list: an id a key; list2, if given: an id a query
  FOVEA_BLOCK_DIFFUSION = 10,     // size
  FOVEA_CHUNKED = 11,             // size
  FOVEA_BOOLEAN = 12,             // matrix of U8, sizes 1 or full, not 0 keeps
  FOVEA_BLOCK_MAP = 13,           // matrix of U8, a block each; size: queries a block, size2: keys
  FOVEA_DRAFT_TREE = 14,          // list of U64: bits of ancestors; size: drafts, or 0: as many as words
  FOVEA_DILATED = 15,             // size: the step; offset where has_offset
  FOVEA_GLOBAL_TOKENS = 16,       // list: positions, ascending; offset where has_offset
  FOVEA_NEIGHBOURHOOD = 17,       // axes 1 to 3; sizes, kernel, dilation (0: 1), causal_axes
  FOVEA_BIG_BIRD = 18,            // size: side, window, global, random, seed
  FOVEA_ALL_OF = 32,              // parts: a & b & ...
  FOVEA_ANY_OF = 33,              // parts: a | b | ...
  FOVEA_NOT = 34                  // parts, one of them: !a
} fovea_mask_kind;

/// Where the diagonal of a window starts.
typedef enum fovea_corner { FOVEA_NO_CORNER = 0, FOVEA_TOP_LEFT = 1, FOVEA_BOTTOM_RIGHT = 2 } fovea_corner;

/// A mask. Masks of a call intersect.
typedef struct fovea_mask {
  size_t size_of_this;
  int32_t kind;  // fovea_mask_kind
  int32_t from;  // fovea_corner
  int64_t left, right, offset;
  int32_t has_offset, axes;
  int64_t size, size2;
  fovea_list list, list2;
  fovea_tensor matrix;
  int64_t sizes[3], kernel[3], dilation[3];
  int32_t causal_axes[3], reserved;
  int64_t window, global, random;
  uint64_t seed;
  const struct fovea_mask* parts;
  int64_t part_count;
} fovea_mask;

/// Which score; beside it the fields of fovea_score that it reads.
typedef enum fovea_score_kind {
  FOVEA_SOFTCAP = 1,  // value: the cap; first of all scores
  FOVEA_ALIBI = 2,    // list: a slope a query head; offset; gradient_list in backward, of F32
  FOVEA_BIAS = 3,     // matrix of real numbers, sizes 1 or full; -inf hides; gradient in backward, of F32 (or
                      // F64 where the call is)
  FOVEA_T5_BIAS = 4,  // matrix: 1 x 1 x buckets x heads (or 1); one_direction, max_distance (0: 128), offset
  FOVEA_SWIN_BIAS = 5,  // matrix: 1 x 1 x offsets x heads (or 1); height, width
  FOVEA_BIAS_TABLE = 6  // matrix: 1 x 1 x slots x heads (or 1); slots: I32, sizes 1 or full, the slot of a
                        // cell; one that the table lacks adds nothing
  // 4 to 6: gradient in backward, of the matrix's sizes, of F32 (or F64 where the call is)
} fovea_score_kind;

/// A score: what happens to logits before the mask, in the order listed.
typedef struct fovea_score {
  size_t size_of_this;
  int32_t kind;  // fovea_score_kind
  int32_t one_direction;
  double value;
  fovea_list list, gradient_list;
  fovea_tensor matrix, gradient;
  int64_t offset, max_distance, height, width;
  fovea_tensor slots;
} fovea_score;

/// Threads of the library's own; keys and values kept for decoding; pages that caches share; how a call is
/// cut into jobs.
typedef struct fovea_threads fovea_threads;
typedef struct fovea_plan fovea_plan;
typedef struct fovea_cache fovea_cache;
typedef struct fovea_pool fovea_pool;

/// Who works, where it is the caller: for_each calls task(context, i, worker) once for each i in [0, count),
/// from any threads, with worker in [0, workers) and no two calls with the same worker at a time, and returns
/// when all are done.
typedef struct fovea_executor {
  size_t size_of_this;
  int64_t workers;
  void* user;
  void (*for_each)(void* user, int64_t count, void (*task)(void* context, int64_t i, int64_t worker),
                   void* context);
} fovea_executor;

/// A call. q, k, v and o have elements of one type, F32, F64, BF16 or F16; query head h reads key/value head
/// h / (heads of q / heads of k).
typedef struct fovea_call {
  size_t size_of_this;
  fovea_tensor q, k, v, o;  // Lq x d, Lk x d, Lk x dv, Lq x dv a head
  fovea_tensor lse;         // batch x heads x Lq x 1, F32 (F64 where q is); data NULL: not wanted
  // In place of k and v: a cache each batch entry, whose last tokens the queries are.
  const fovea_cache* const* caches;
  int64_t cache_count;
  // Packed sequences, q, o and lse (and k, v) being one batch entry: sequence b is tokens offsets[b] to
  // offsets[b + 1]. Not given: batch entries.
  fovea_list query_offsets, key_offsets;
  const fovea_mask* masks;
  int64_t mask_count;
  const fovea_score* scores;
  int64_t score_count;
  fovea_list sink;           // a logit a query head
  fovea_list sink_gradient;  // F32, written by fovea_backward, if given
  int32_t off_by_one;        // 1 joins every denominator
  int32_t has_scale;
  double scale;         // where has_scale is not 0; else 1 / sqrt(d)
  double dropout_rate;  // not with caches, nor where weights, logits or statistics are asked for
  uint64_t dropout_seed;
  const fovea_threads* threads;    // the library's, or
  const fovea_executor* executor;  // the caller's; both NULL: the calling thread
  // fovea_attend_workspace (fovea_backward_workspace) bytes: the kernels then allocate nothing. (What a gate,
  // received, weights, and caches of calls in 16 bits need beside them is allocated still.)
  void* workspace;
  size_t workspace_bytes;
  // Of results: o times sigmoid(gate), batch x heads x Lq x dv, or x 1 for all of a row; any real elements.
  fovea_tensor gate;
  // What each key receives is added to it: as many batch entries as k has (or caches that there are) x heads
  // of k x Lk or more x 1, F32 or F64.
  fovea_tensor received;
  // The probabilities of the query heads listed, in that order: batch x heads listed x Lq x Lk, F32 (F64
  // where q is). Not of packed sequences.
  fovea_tensor weights;
  fovea_list weight_heads;
  const fovea_plan* plan;  // of the same sizes: the call is refused where it needs another
} fovea_call;

/// What fovea_backward reads beside a call, whose o and lse are what fovea_attend gave, and what it writes.
typedef struct fovea_gradients {
  size_t size_of_this;
  fovea_tensor d_o;    // of some loss by O
  fovea_tensor d_lse;  // by the LSE, batch x heads x Lq x 1 as lse; data NULL: 0
  fovea_tensor d_q, d_k, d_v;
  fovea_tensor d_gate;  // of the gate's sizes, of real elements (F64 where q is); data NULL: not wanted
} fovea_gradients;

/// Numbers of each row of probabilities, batch x heads x Lq, contiguous; NULL: not wanted. See
/// row_statistics.
typedef struct fovea_statistics {
  size_t size_of_this;
  double *entropy, *distance, *largest, *mass, *lse;
  int64_t *key, *visible;
} fovea_statistics;

/// How a cache is made.
typedef enum fovea_cache_kind {
  FOVEA_CONTIGUOUS = 1,  // capacity tokens
  FOVEA_RING = 2,        // the newest capacity tokens and the first `sinks`
  FOVEA_PAGED = 3        // pages of `pool`, whose sizes it has
} fovea_cache_kind;

/// Options of a cache.
typedef struct fovea_cache_options {
  size_t size_of_this;
  int32_t kind;                   // fovea_cache_kind
  int32_t element;                // F32, BF16, F16, I8 for calls in F32, BF16 and F16; F64 for calls in F64
  int64_t heads, dim, value_dim;  // of keys and values; value_dim 0: as dim
  int64_t capacity, sinks;
  fovea_pool* pool;
} fovea_cache_options;

/// Angles of a rotation (rotary position embedding): cosines and sines, 1 x 1 x positions x r / 2, of real
/// elements. Of each head's first r numbers two turn together: i and i + r / 2, or, interleaved, 2 i and
/// 2 i + 1.
typedef struct fovea_rotary {
  size_t size_of_this;
  fovea_tensor cos, sin;
  int32_t interleaved, reserved;
} fovea_rotary;

/// Options of a pool.
typedef struct fovea_pool_options {
  size_t size_of_this;
  int32_t element, reserved;
  int64_t heads, dim, value_dim, pages, page_tokens;
} fovea_pool_options;

#ifdef __cplusplus
}
#endif

#endif
