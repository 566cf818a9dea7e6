// fovea/linear/decay_gradient.hpp - the gradients of a chunk's decays, from those of its rows.
//
//   d_g_r = sum over t >= r of (q_t d_q_t + k_t left d_k_t - k_t right d_k_t) + <dS, S> after the chunk
//
// (chunk_gradient.hpp); of channels the same without the sums over them, and with the sign of left d_k, which
// is given here. 0 where the decay itself is 0.
#pragma once

#include <fovea/linear/chunk_gradient.hpp>

FOVEA_NAMESPACE_BEGIN
namespace linear {

template <class Arch, class T>
FOVEA_FLATTEN T dot(const T* a, const T* b, index_type width) noexcept {
  using R = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  R sum(T(0));
  for (index_type c = 0; c < width; c += n)
    sum = kernel::isa<Arch>::fma(R::load_unaligned(a + c), R::load_unaligned(b + c), sum);
  return total<Arch, T>(sum);
}

/// to += factor x.
template <class T>
void add(const T* x, T* to, index_type width, T factor = T(1)) noexcept {
  for (index_type c = 0; c < width; ++c) to[c] += factor * x[c];
}

/// The term of token t and the channels from c on.
template <class Arch, class T>
vec<Arch, T> decay_term(const token_block<T>& x, const gradient_memory<Arch, T>& m, index_type t,
                        index_type c) noexcept {
  using R = vec<Arch, T>;
  const auto of = [&](const T* row) { return R::load_unaligned(row + c); };
  const R key = of(x.k.row(t));
  R sum = R(T(0)) - key * of(m.d_right.row(t));
  if (x.beta) sum = kernel::isa<Arch>::fma(key, of(m.d_left.row(t)), sum);
  for (index_type g = 0; g < x.group; ++g)
    sum = kernel::isa<Arch>::fma(of(x.q(g).row(t)), of(m.d_q_of(g).row(t)), sum);
  return sum;
}

/// d_q and d_k from those of P q, P k and k / P, and, where `to` is given, the gradients of decays. `later`:
/// <dS, S>, a number a channel. In one pass: in three of them each row was read and written again.
template <class Arch, class T>
FOVEA_NOINLINE FOVEA_FLATTEN void finish_channels(const token_block<T>& x, const row_list<const T>& p,
                                                  const gradient_memory<Arch, T>& m, const T* later,
                                                  const row_list<T>& to) noexcept {
  using R = vec<Arch, T>;
  using isa = kernel::isa<Arch>;
  for (index_type c = 0; c < x.dim_step; c += lanes<Arch, T>) {
    R sum = R::load_aligned(later + c);
    for (index_type t = x.count - 1; t >= 0; --t) {
      const R of_p = R::load_aligned(p.row(t) + c), key = R::load_unaligned(x.k.row(t) + c);
      T *const right_at = m.d_right.row(t) + c, *const left_at = m.d_left.row(t) + c;
      R right = isa::quotient(R::load_unaligned(right_at), of_p);
      sum = sum - key * right;
      if (x.beta) {
        const R left = R::load_unaligned(left_at) * of_p;
        sum = sum - key * left, right = right - left;
      }
      right.store_unaligned(right_at);
      for (index_type g = 0; g < x.group; ++g) {
        T* const at = m.d_q_of(g).row(t) + c;
        const R d_q = R::load_unaligned(at) * of_p;
        d_q.store_unaligned(at);
        sum = isa::fma(R::load_unaligned(x.q(g).row(t) + c), d_q, sum);
      }
      if (!to) continue;
      const R a = R::load_unaligned(x.decay.row(t) + c);
      xsimd::select(a == R(T(0)), R(T(0)), sum).store_unaligned(to.row(t) + c);
    }
  }
}

/// Sums by lanes, a row a token; then lanes are added for a register of tokens at a time. `room`: its rows
/// `scaled` and its columns are written.
template <class Arch, class T>
FOVEA_NOINLINE FOVEA_FLATTEN void token_decay_gradient(const token_block<T>& x,
                                                       const gradient_memory<Arch, T>& m,
                                                       const gradient_memory<Arch, T>& room, const T* later,
                                                       T* to) noexcept {
  using R = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  const row_list<T> sums{room.scaled.first, n};
  R sum(T(0));
  for (index_type i = 0; i < x.dim_step; i += n) sum = sum + R::load_aligned(later + i);
  for (index_type t = x.count - 1; t >= 0; --t) {
    for (index_type c = 0; c < x.dim_step; c += n) sum = sum + decay_term<Arch>(x, m, t, c);
    sum.store_aligned(sums.row(t));
  }
  transpose_rows<Arch, T>(sums, x.count, n, room.u_columns);
  for (index_type t = 0; t < x.count; t += n) {
    R of_tokens = R::load_aligned(room.u_columns + t);
    for (index_type i = 1; i < n; ++i)
      of_tokens = of_tokens + R::load_aligned(room.u_columns + i * chunk_tokens + t);
    const R a = R::load_unaligned(x.decay.first + t);
    xsimd::select(a == R(T(0)), R(T(0)), of_tokens).store_aligned(to + t);
  }
}

}  // namespace linear
FOVEA_NAMESPACE_END
