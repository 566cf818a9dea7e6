// fovea/linear/recurrence.hpp - the update rules token by token: S <- a S + k w^T, o = S^T q.
//
//   w = v                       linear, gated
//   w = beta (v - (a S)^T k)    delta, gated delta
//
// Columns of S do not know each other, so a strip of them, which fits the L1 cache, is taken through all
// tokens before the next one.
#pragma once

#include <fovea/linear/tokens.hpp>

FOVEA_NAMESPACE_BEGIN
namespace linear {

/// A strip of V registers.
template <class Arch, class T, int V>
struct strip_rows {
  using R = vec<Arch, T>;
  static constexpr index_type n = lanes<Arch, T>;
  T* s;
  index_type step, dim;

  /// sums = (a S)^T k: factors k_i a_i, two rows at a time, so that no sum waits for itself.
  void product(const T* k, const T* a, index_type a_step, R* sums) const noexcept {
    R even[std::size_t{V}], odd[std::size_t{V}];
    FOVEA_UNROLL_ALL
    for (int c = 0; c < V; ++c) even[c] = odd[c] = R(T(0));
    index_type i = 0;
    for (; i + 2 <= dim; i += 2) {
      const R one(k[i] * a[i * a_step]), two(k[i + 1] * a[(i + 1) * a_step]);
      FOVEA_UNROLL_ALL
      for (int c = 0; c < V; ++c) {
        even[c] = kernel::isa<Arch>::fma(one, R::load_unaligned(s + i * step + c * n), even[c]);
        odd[c] = kernel::isa<Arch>::fma(two, R::load_unaligned(s + (i + 1) * step + c * n), odd[c]);
      }
    }
    if (i < dim) {
      const R one(k[i] * a[i * a_step]);
      FOVEA_UNROLL_ALL
      for (int c = 0; c < V; ++c)
        even[c] = kernel::isa<Arch>::fma(one, R::load_unaligned(s + i * step + c * n), even[c]);
    }
    FOVEA_UNROLL_ALL
    for (int c = 0; c < V; ++c) sums[c] = even[c] + odd[c];
  }

  /// S <- a S + k w^T, and o = factor S^T q.
  void update(const T* q, const T* k, const T* a, index_type a_step, const R* w, T factor,
              T* o) const noexcept {
    R sum[std::size_t{V}], of_v[std::size_t{V}];
    FOVEA_UNROLL_ALL
    for (int c = 0; c < V; ++c) sum[c] = R(T(0)), of_v[c] = w[c];
    for (index_type i = 0; i < dim; ++i) {
      const R of_k(k[i]), of_a(a[i * a_step]), of_q(q[i]);
      FOVEA_UNROLL_ALL
      for (int c = 0; c < V; ++c) {
        T* const at = s + i * step + c * n;
        const R x = kernel::isa<Arch>::fma(of_k, of_v[c], R::load_unaligned(at) * of_a);
        x.store_unaligned(at);
        sum[c] = kernel::isa<Arch>::fma(of_q, x, sum[c]);
      }
    }
    FOVEA_UNROLL_ALL
    for (int c = 0; c < V; ++c) (sum[c] * R(factor)).store_unaligned(o + c * n);
  }

  /// All tokens; `column`: where the strip begins in rows of v and o.
  FOVEA_NOINLINE FOVEA_FLATTEN void run(const token_block<T>& x, index_type column) const noexcept {
    const T one = T(1);
    for (index_type t = 0; t < x.count; ++t) {
      const T* const a = x.decay ? x.decay.row(t) : &one;
      const index_type a_step = x.decay && x.decays_channels ? 1 : 0;
      const T* const k = x.k.row(t);
      R w[std::size_t{V}];
      if (x.beta) product(k, a, a_step, w);
      const R beta(x.beta ? x.beta[t] : one);
      FOVEA_UNROLL_ALL
      for (int c = 0; c < V; ++c) {
        const R v = R::load_unaligned(x.v.row(t) + column + c * n);
        w[c] = x.beta ? beta * (v - w[c]) : v;
      }
      update(x.q(0).row(t), k, a, a_step, w, x.scale, x.o(0).row(t) + column);
      for (index_type g = 1; g < x.group; ++g) {
        product(x.q(g).row(t), &one, 0, w);
        FOVEA_UNROLL_ALL
        for (int c = 0; c < V; ++c) (w[c] * R(x.scale)).store_unaligned(x.o(g).row(t) + column + c * n);
      }
    }
  }
};

/// f(constant registers) for the strip's number of them.
template <int Most, class F>
void with_registers(index_type count, const F& f) noexcept {
  if constexpr (Most > 0) {
    if (count == Most) return f(std::integral_constant<int, Most>{});
    with_registers<Most - 1>(count, f);
  }
}

/// Takes the state through the tokens.
template <class Arch, class T>
void recur(const token_block<T>& x, const state_strips<Arch, T>& state) noexcept {
  for (index_type j = 0; j < state.count(); ++j)
    with_registers<strip_registers>(state.width_of(j) / lanes<Arch, T>, [&](auto registers) {
      strip_rows<Arch, T, registers>{state.strip(j), state.width_of(j), x.dim}.run(x, state.column(j));
    });
}

}  // namespace linear
FOVEA_NAMESPACE_END
