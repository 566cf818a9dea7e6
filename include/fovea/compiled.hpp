// fovea/compiled.hpp - the compiled library from C++: fovea.h with exceptions, lists and owners.
//
//   fovea::compiled::call call;
//   call.q = fovea_bhsd(q, FOVEA_F32, batch, heads, tokens, dim);        // k, v and o likewise
//   call.add(fovea_mask_of(FOVEA_CAUSAL)), call.softcap(30);
//   call.attend();                                                       // O = softmax(score(scale Q K^T)) V
//
// Link fovea::compiled; neither Eigen, nor xsimd, nor a -march is needed. What a call means, its errors and
// its results are those of the headers (attention.hpp), at the best of the processor that runs it:
// compiled/fovea.h says more. Over the headers (Zen 5, AVX-512, one thread) a call
// takes 0.3 us more of 1 x 4 x 16 x 32; 1.00 to 1.01 times as long of 1 x 8 x 1024 x 64, causal or not, up to
// 1.03 to decode 32/8 heads x 4,096 x 128 (bf16 1.05, int8 1.08), 1.04 backward, 1.00 to 1.02 with a boolean
// matrix, ALiBi or a softcap, 1.02 to 1.04 with a bias of floats. These hold for one such score in float,
// with causal masks and windows or none; several scores, or double, take 1.2 to 1.36 times as long, as they
// are asked about each register.
#pragma once

#include <fovea/compiled/fovea.h>
#include <fovea/config.hpp>

#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace compiled {

/// Throws what the headers would throw: std::invalid_argument, std::length_error, std::bad_alloc, and
/// std::runtime_error for what the system refuses; nothing where the status is FOVEA_OK.
inline void check(std::int32_t status, const fovea_error& error) {
  if (status == FOVEA_INVALID_ARGUMENT) throw std::invalid_argument(error.message);
  if (status == FOVEA_TOO_LARGE) throw std::length_error(error.message);
  if (status == FOVEA_OUT_OF_MEMORY) throw std::bad_alloc();
  if (status != FOVEA_OK) throw std::runtime_error(error.message);
}

/// Runs f(arguments..., &error) and throws what went wrong.
template <class F, class... A>
void run_checked(const F& f, A... arguments) {
  fovea_error error;
  const std::int32_t status = f(arguments..., &error);
  check(status, error);
}

/// What fovea.h creates, destroyed with this.
template <class Handle, void (*Destroy)(Handle*)>
class owner {
 public:
  owner(owner&& other) noexcept : handle_(other.handle_) { other.handle_ = nullptr; }
  owner& operator=(owner&& other) noexcept {
    Handle* const before = handle_;
    handle_ = other.handle_, other.handle_ = before;
    return *this;
  }
  ~owner() { Destroy(handle_); }
  Handle* get() const noexcept { return handle_; }

 protected:
  owner() = default;
  Handle* handle_ = nullptr;
};

/// Threads that calls name to do their work: the calling one and workers - 1 others.
struct threads : owner<fovea_threads, fovea_threads_destroy> {
  explicit threads(std::int64_t workers) { run_checked(fovea_threads_create, workers, &handle_); }
};

/// How a call, or its backward, is cut into jobs: made once, named by the same calls.
struct plan : owner<fovea_plan, fovea_plan_destroy> {
  explicit plan(const fovea_call& call) {
    const fovea_gradients* const none = nullptr;
    run_checked(fovea_plan_create, &call, none, &handle_);
  }
  plan(const fovea_call& call, fovea_gradients gradients) {
    gradients.size_of_this = sizeof gradients;
    run_checked(fovea_plan_create, &call, &gradients, &handle_);
  }
  std::int64_t workspace_bytes() const noexcept { return fovea_plan_workspace(handle_); }
  std::string explain() const {
    char text[2048];
    run_checked(fovea_plan_explain, handle_, text, sizeof text);
    return text;
  }
};

/// Writes x, turned to the positions from `first` on, to `to`: x itself, or apart from it.
inline void rotate(fovea_rotary angles, const fovea_tensor& x, std::int64_t first, const fovea_tensor& to) {
  angles.size_of_this = sizeof angles;
  run_checked(fovea_rotate, &angles, &x, first, &to);
}

/// Pages that paged caches share; it outlives them.
struct page_pool : owner<fovea_pool, fovea_pool_destroy> {
  explicit page_pool(fovea_pool_options options) {
    options.size_of_this = sizeof options;
    run_checked(fovea_pool_create, &options, &handle_);
  }
  std::int64_t free_pages() const noexcept { return fovea_pool_free_pages(handle_); }
};

/// Keys and values kept for decoding: see kv_cache.hpp.
struct cache : owner<fovea_cache, fovea_cache_destroy> {
  explicit cache(fovea_cache_options options) {
    options.size_of_this = sizeof options;
    run_checked(fovea_cache_create, &options, &handle_);
  }
  /// Of batch 1 and any real element.
  void append(const fovea_tensor& k, const fovea_tensor& v) {
    run_checked(fovea_cache_append, handle_, &k, &v);
  }
  /// The keys turned to the positions that they take.
  void append(const fovea_tensor& k, const fovea_tensor& v, fovea_rotary angles) {
    angles.size_of_this = sizeof angles;
    run_checked(fovea_cache_append_rotated, handle_, &k, &v, &angles);
  }
  /// To and from a file: contiguous caches.
  void save(const char* path) const { run_checked(fovea_cache_save, handle_, path); }
  void load(const char* path) { run_checked(fovea_cache_load, handle_, path); }
  void truncate(std::int64_t tokens) { run_checked(fovea_cache_truncate, handle_, tokens); }
  void keep(const fovea_list& kept) { run_checked(fovea_cache_keep, handle_, &kept); }
  void reserve(std::int64_t capacity) { run_checked(fovea_cache_reserve, handle_, capacity); }
  /// The same tokens in the same pages, of a paged cache.
  cache fork() const {
    cache other;
    run_checked(fovea_cache_fork, handle_, &other.handle_);
    return other;
  }
  std::int64_t tokens() const noexcept { return fovea_cache_tokens(handle_); }
  std::int64_t position() const noexcept { return fovea_cache_position(handle_); }
  std::int64_t bytes() const noexcept { return fovea_cache_bytes(handle_); }

 private:
  cache() = default;
};

/// A fovea_call with lists of its own. Views and lists that it is given outlive it.
struct call : fovea_call {
  call() { fovea_call_init(this); }
  call(const call&) = delete;
  call& operator=(const call&) = delete;

  void add(const fovea_mask& mask) {
    masks_.push_back({mask});
    masks = masks_.data(), mask_count = static_cast<std::int64_t>(masks_.size());
  }
  void add(const fovea_score& score) {
    scores_.push_back({score});
    scores = scores_.data(), score_count = static_cast<std::int64_t>(scores_.size());
  }
  void add(const cache& one) {
    caches_.push_back({one.get()});
    caches = &caches_.front().one, cache_count = static_cast<std::int64_t>(caches_.size());
  }
  void softcap(double cap) {
    fovea_score score = fovea_score_of(FOVEA_SOFTCAP);
    score.value = cap;
    add(score);
  }
  void scale_by(double factor) { scale = factor, has_scale = 1; }
  void work_by(const compiled::threads& pool) { threads = pool.get(); }
  void planned_by(const compiled::plan& made) { plan = made.get(); }

  void attend() const { run_checked(fovea_attend, this); }
  std::size_t workspace_needed() const {
    std::size_t bytes = 0;
    run_checked(fovea_attend_workspace, this, &bytes);
    return bytes;
  }
  void backward(fovea_gradients gradients) const {
    gradients.size_of_this = sizeof gradients;
    run_checked(fovea_backward, this, &gradients);
  }
  void weights(const fovea_tensor& to) const { run_checked(fovea_weights, this, &to); }
  void logits(const fovea_tensor& to) const { run_checked(fovea_logits, this, &to); }
  void measure(fovea_statistics to) const {
    to.size_of_this = sizeof to;
    run_checked(fovea_measure, this, &to);
  }

 private:
  // Of types of this namespace, which tells the instruction set: so do the names of what their vectors call.
  struct kept_mask : fovea_mask {};
  struct kept_score : fovea_score {};
  struct kept_cache {
    const fovea_cache* one;
  };
  std::vector<kept_mask> masks_;
  std::vector<kept_score> scores_;
  std::vector<kept_cache> caches_;
};

}  // namespace compiled
FOVEA_NAMESPACE_END
