// A fovea_call and all that it points to, from Python's arguments.
#pragma once

#include "values.hpp"

#include <deque>
#include <optional>
#include <span>

namespace native {

/// Runs f(arguments..., &error) while other threads run; what it refuses is a ValueError, MemoryError or RuntimeError.
template <class F, class... A>
void run(const F& f, A... arguments) {
  fovea_error error;
  std::int32_t status = 0;
  {
    const py::gil_scoped_release others;
    status = f(arguments..., &error);
  }
  if (status == FOVEA_OK) return;
  if (status == FOVEA_OUT_OF_MEMORY) throw std::bad_alloc();
  if (status == FOVEA_INVALID_ARGUMENT || status == FOVEA_TOO_LARGE) throw py::value_error(error.message);
  throw std::runtime_error(error.message);
}

/// What the library creates, destroyed with this.
template <class Handle, void (*Destroy)(Handle*)>
struct owner {
  owner() = default;
  owner(const owner&) = delete;
  ~owner() { Destroy(handle); }
  Handle* handle = nullptr;
};
using threads = owner<fovea_threads, fovea_threads_destroy>;
struct pool : owner<fovea_pool, fovea_pool_destroy> {
  fovea_pool_options options{};
};
struct kept_pool {
  py::object keeps;  // the pool of a paged cache
};
/// The pool is a base before the handle, so that it goes after it: pages go back to a pool that is alive.
struct cache : kept_pool, owner<fovea_cache, fovea_cache_destroy> {
  std::int64_t value_dim = 0;
};

/// A mask as data.
struct mask {
  mask(int kind, const py::dict& fields);
  mask(int kind, const std::vector<const mask*>& parts, py::object keeps);
  mask(const mask&) = delete;

  fovea_mask c;

 private:
  std::deque<array> arrays_;
  std::vector<fovea_mask> parts_;
  py::object keeps_;
};

/// The functions that take options.
enum function { of_attention = 1, of_backward = 2, of_weights = 4 };

/// Calls of attention and the like: q, k, v, or q and caches; options by name.
class call {
 public:
  /// of: the function that is called. An option that it would pass over is refused.
  call(function of, py::handle q, py::handle k, py::handle v, const py::dict& options);
  call(const call&) = delete;

  fovea_call c;
  std::optional<array> q, k, v;
  std::int64_t value_dim = 0;
  fovea_gradients gradients{};

  /// An argument's array, alive as long as the call.
  const array& keep(py::handle x, const char* name) { return arrays_.emplace_back(x, name); }
  /// Sizes of q but for the last, and one in its place.
  std::vector<std::int64_t> rows_and(std::int64_t columns) const;
  std::vector<std::int64_t> rows() const;
  static py::tuple option_names();
  /// What sums are made in: LSE and weights.
  std::int32_t sums() const noexcept { return q->element == FOVEA_F64 ? FOVEA_F64 : FOVEA_F32; }

 private:
  struct option;
  static std::span<const option> options();
  template <py::object call::*Place>
  static void keep_as(call& to, py::handle x);
  static const option& named(const std::string& name);
  void set(const py::dict& options, function of);
  void refuse_without_partner(const py::dict& options) const;
  void finish(const py::dict& options);
  fovea_tensor gate_of(const array& gate) const;
  fovea_score& score(int kind);
  const array& keep_numbers(py::handle x, const char* name, bool integers = false) {
    return arrays_.emplace_back(numbers(x, name, integers));
  }

  std::deque<array> arrays_;
  std::deque<mask> made_;
  std::vector<fovea_mask> masks_;
  std::vector<fovea_score> scores_;
  std::vector<const fovea_cache*> caches_;
  std::vector<py::object> kept_;
  // Options that several names make together.
  py::object mask_, bias_, window_, d_bias_, d_alibi_, d_t5_, d_swin_, d_table_, slots_, alibi_, t5_, swin_,
      table_, swin_window_;
  int causal_ = 0;
  double softcap_ = 0;
  std::int64_t alibi_offset_ = 0, t5_max_distance_ = 128;
  bool t5_bidirectional_ = true;
};

}  // namespace native
