// bench/call.hpp - what a row times: a call with its data; and that data, random, in the layout of the
// workload.
#pragma once

#include "numbers.hpp"
#include "workload.hpp"

#include <fovea/attention.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace bench {

/// Owns all that it touches, so that run() can be repeated.
struct call {
  std::function<void()> run;
  index_type scratch_bytes = 0;  // beyond inputs and outputs, of all workers
};

/// fovea's attention on random data, and the textbook's: products and a row softmax by Eigen, a head at a
/// time.
call fovea_call(const workload& w);
call textbook_call(const workload& w);

/// fovea's attention over caches that hold the keys and values.
call cached_call(const workload& w);
call latent_call(const workload& w);
call backward_call(const workload& w);
call hard_call(const workload& w);
call additive_call(const workload& w);
call decomposed_call(const workload& w);
call linear_call(const workload& w);
call gate_call(const workload& w);
call differential_call(const workload& w);
call sigmoid_call(const workload& w);
call transformer_xl_call(const workload& w);
call talking_heads_call(const workload& w);
call cosine_call(const workload& w);
call luong_call(const workload& w);
call weights_into_call(const workload& w);
call feature_call(const workload& w);
call dsa_call(const workload& w);

/// The part of fovea_call whose q has elements T; in translation units of their own, as they take long to
/// compile.
template <class T>
call fovea_call_for(const workload& w);

template <class T, class KV>
struct operands {
  explicit operands(const workload& w)
      : q(normal_numbers<T>(w.batch * w.heads * w.queries * w.dim, 1)),
        k(normal_numbers<KV>(w.batch * w.kv_heads * w.keys * w.dim, 2)),
        v(normal_numbers<KV>(w.batch * w.kv_heads * w.keys * w.value_dim, 3)),
        o(static_cast<std::size_t>(w.batch * w.heads * w.queries * w.value_dim)) {
    if (w.threads > 1) pool.emplace(w.threads);
  }

  fovea::executor_ref executor() { return pool ? fovea::executor_ref(*pool) : fovea::executor_ref{}; }

  numbers<T> q;
  numbers<KV> k, v;
  numbers<T> o;
  std::optional<fovea::threads> pool;
  std::vector<std::byte> workspace;
};

/// The elements at `data` in the workload's layout, every layout told by its strides.
template <class E>
fovea::tensor_view<E> strided(layout l, E* data, index_type batch, index_type heads, index_type tokens,
                              index_type dim) {
  if (l == layout::bhsd) return fovea::bhsd(data, batch, heads, tokens, dim);
  if (l == layout::eigen_col) return {data, batch, heads, tokens, dim, 0, dim * tokens, 1, tokens};
  return fovea::bshd(data, batch, tokens, heads, dim);  // one sequence: a row-major matrix
}

/// f(T{}) with the storage type of an element; only those of `Allowed` are compiled.
template <class... Allowed, class F>
void with_element(element e, const F& f) {
  const auto is = [e]<class E>(E) {
    return e == (std::is_same_v<E, float>         ? element::f32
                 : std::is_same_v<E, double>      ? element::f64
                 : std::is_same_v<E, fovea::bf16> ? element::bf16
                 : std::is_same_v<E, fovea::fp16> ? element::f16
                 : std::is_same_v<E, fovea::fp8>  ? element::f8
                                                  : element::i8);
  };
  static_cast<void>(((is(Allowed{}) && (f(Allowed{}), true)) || ...));
}

}  // namespace bench
