// fovea/linear/decays.hpp - the decays of a chunk: what each token's row is multiplied by.
//
// P_t = a_1 ... a_t from the chunk's start, D_ts = a_(s+1) ... a_t, E_s = D_ns for the last token n. Of a
// number a token D and E are products of decays, never quotients: nothing overflows however small they are.
// Decays of channels stand inside the sum over channels: D_ts = P_t / P_s there, while all of these lie
// within `widest` of 1; so sums of (k / P) u, before they are multiplied by P_n, and of (k / P)(P q) overflow
// where |k| |u| or |k| |q| is beyond the largest number over `widest`: 3e22 in float.
#pragma once

#include <fovea/linear/tokens.hpp>

FOVEA_NAMESPACE_BEGIN
namespace linear {

/// Of a number a token: P, its negative, E, and D, chunk_tokens numbers a row.
template <class Arch, class T>
class token_decays {
  using R = vec<Arch, T>;
  static constexpr index_type n = lanes<Arch, T>, pitch = chunk_tokens;
  static constexpr T least = std::numeric_limits<T>::min();

 public:
  static constexpr index_type numbers = pitch * (pitch + 3);
  explicit token_decays(T* memory) noexcept
      : p(memory), minus_p(memory + pitch), e(memory + 2 * pitch), d(memory + 3 * pitch) {}

  FOVEA_NOINLINE FOVEA_FLATTEN void make(const row_list<const T>& decay, index_type count) const noexcept {
    alignas(64) T one[std::size_t{2 * n + 1}] = {};  // read from n - i on it has its 1 in lane i
    one[n] = T(1);
    for (index_type c = 0; c < count; c += n) {
      R ratio(T(0));
      for (index_type t = c; t < count; ++t) {
        const T* const begins = one + (t < c + n ? n - (t - c) : n + 1);
        ratio = normal(kernel::isa<Arch>::fma(ratio, R(*decay.row(t)), R::load_unaligned(begins)));
        ratio.store_aligned(d + t * pitch + c);
      }
    }
    for (index_type t = 0; t < count; ++t) p[t] = d[t * pitch];  // the products without the first of them
    for (index_type t = 0; t < count; t += n) {
      const R all = normal(R::load_aligned(p + t) * R(*decay.row(0)));
      all.store_aligned(p + t), (R(T(0)) - all).store_aligned(minus_p + t);
    }
    std::copy_n(d + (count - 1) * pitch, count, e);
  }

  T *p, *minus_p, *e, *d;

 private:
  /// 0 for less than the smallest normal number.
  static R normal(const R& x) noexcept { return xsimd::select(x < R(least), R(T(0)), x); }
};

/// Of a row of channels a token: rows P_t, P_t q_t, -P_t k_t and k_t / P_t. (E_s k_s are the last of these
/// times P_n, which the sum over s is multiplied by.)
template <class Arch, class T>
class channel_decays {
  using R = vec<Arch, T>;
  static constexpr index_type n = lanes<Arch, T>;
  static constexpr T widest = sizeof(T) == 4 ? T(1e16) : T(1e130);

 public:
  static index_type numbers(index_type dim_step) noexcept { return 4 * chunk_tokens * dim_step; }
  channel_decays(T* memory, index_type dim_step) noexcept
      : q{memory, dim_step},
        k_recalling{q.row(chunk_tokens), dim_step},
        k_inverse{k_recalling.row(chunk_tokens), dim_step},
        p{k_inverse.row(chunk_tokens), dim_step} {}

  /// False where the decays of some channel lie too far apart. `first_is_one`: the first token's decay is
  /// taken for 1, with which the decays of a single token always lie near enough.
  FOVEA_NOINLINE FOVEA_FLATTEN bool make(const token_block<T>& x, bool first_is_one) const noexcept {
    R furthest(T(1)), nearest(T(1));
    xsimd::batch_bool<T, Arch> broken = furthest != furthest;
    for (index_type c = 0; c < x.dim_step; c += n) {
      R product(T(1));
      for (index_type t = 0; t < x.count; ++t) {
        if (t > 0 || !first_is_one) product = product * R::load_unaligned(x.decay.row(t) + c);
        furthest = xsimd::max(furthest, product), nearest = xsimd::min(nearest, product);
        product.store_aligned(p.row(t) + c);
        const R key = R::load_unaligned(x.k.row(t) + c);
        if (x.beta) (-(key * product)).store_aligned(k_recalling.row(t) + c);
        kernel::isa<Arch>::quotient(key, product).store_aligned(k_inverse.row(t) + c);
      }
      broken = broken || (product != product);  // a NaN stays one
    }
    return !xsimd::any(broken) && !xsimd::any(nearest < R(T(1) / widest)) &&
           !xsimd::any(furthest > R(widest));
  }

  FOVEA_NOINLINE FOVEA_FLATTEN void decay_queries(const token_block<T>& x, index_type g) const noexcept {
    const row_list<const T> query = x.q(g);
    for (index_type t = 0; t < x.count; ++t)
      for (index_type c = 0; c < x.dim_step; c += n)
        (R::load_unaligned(query.row(t) + c) * R::load_aligned(p.row(t) + c)).store_aligned(q.row(t) + c);
  }

  row_list<T> q, k_recalling, k_inverse, p;
};

}  // namespace linear
FOVEA_NAMESPACE_END
