// fovea/compiled/table.hpp - what the compiled library takes of an instruction set: functions of plain data.
#pragma once

#include <fovea/compiled/fovea.h>

#include <cstddef>
#include <cstdint>

extern "C" {

/// What runs a call once nothing is left to do beside it, and makes its plan (kept at `plan`, a fovea::plan):
/// what an instruction set may have of its own, while all else is another's. Both throw.
struct fovea_forward_kernels {
  void (*attend)(const fovea_call&);
  void (*attend_plan)(const fovea_call&, void* plan);
  /// Whether they take a call of caches whose queries have 16 bits as it is; else it comes in float.
  bool (*takes_narrow)(const fovea_call&);
};

/// The functions of fovea.h that work, as one instruction set does it.
struct fovea_compiled_table {
  std::int32_t (*attend)(const fovea_call*, fovea_error*);
  std::int32_t (*attend_workspace)(const fovea_call*, std::size_t*, fovea_error*);
  std::int32_t (*backward)(const fovea_call*, const fovea_gradients*, fovea_error*);
  std::int32_t (*backward_workspace)(const fovea_call*, const fovea_gradients*, std::size_t*, fovea_error*);
  std::int32_t (*weights)(const fovea_call*, const fovea_tensor*, fovea_error*);
  std::int32_t (*logits)(const fovea_call*, const fovea_tensor*, fovea_error*);
  std::int32_t (*measure)(const fovea_call*, const fovea_statistics*, fovea_error*);
  std::int32_t (*plan_create)(const fovea_call*, const fovea_gradients*, fovea_plan**, fovea_error*);
  void (*plan_destroy)(fovea_plan*);
  std::int64_t (*plan_workspace)(const fovea_plan*);
  std::int32_t (*plan_explain)(const fovea_plan*, char*, std::size_t, fovea_error*);
  std::int32_t (*rotate)(const fovea_rotary*, const fovea_tensor*, std::int64_t, const fovea_tensor*,
                         fovea_error*);
  std::int32_t (*threads_create)(std::int64_t, fovea_threads**, fovea_error*);
  void (*threads_destroy)(fovea_threads*);
  std::int32_t (*pool_create)(const fovea_pool_options*, fovea_pool**, fovea_error*);
  void (*pool_destroy)(fovea_pool*);
  std::int64_t (*pool_free_pages)(const fovea_pool*);
  std::int32_t (*cache_create)(const fovea_cache_options*, fovea_cache**, fovea_error*);
  void (*cache_destroy)(fovea_cache*);
  std::int32_t (*cache_append)(fovea_cache*, const fovea_tensor*, const fovea_tensor*, fovea_error*);
  std::int32_t (*cache_append_rotated)(fovea_cache*, const fovea_tensor*, const fovea_tensor*,
                                       const fovea_rotary*, fovea_error*);
  std::int32_t (*cache_save)(const fovea_cache*, const char*, fovea_error*);
  std::int32_t (*cache_load)(fovea_cache*, const char*, fovea_error*);
  std::int32_t (*cache_truncate)(fovea_cache*, std::int64_t, fovea_error*);
  std::int32_t (*cache_keep)(fovea_cache*, const fovea_list*, fovea_error*);
  std::int32_t (*cache_reserve)(fovea_cache*, std::int64_t, fovea_error*);
  std::int32_t (*cache_fork)(const fovea_cache*, fovea_cache**, fovea_error*);
  std::int64_t (*cache_tokens)(const fovea_cache*);
  std::int64_t (*cache_position)(const fovea_cache*);
  std::int64_t (*cache_bytes)(const fovea_cache*);
  // The kernels of these, and those three functions by others.
  const fovea_forward_kernels* forward;
  std::int32_t (*attend_by)(const fovea_forward_kernels*, const fovea_call*, fovea_error*);
  std::int32_t (*attend_workspace_by)(const fovea_forward_kernels*, const fovea_call*, std::size_t*,
                                      fovea_error*);
  std::int32_t (*plan_create_by)(const fovea_forward_kernels*, const fovea_call*, const fovea_gradients*,
                                 fovea_plan**, fovea_error*);
};

/// That of the best instruction set that this machine runs, and its name. (fovea_multiarch makes the choice.)
const fovea_compiled_table* fovea_compiled_kernels();
const char* fovea_compiled_kernels_isa();
}
