// fovea/linear/decays.hpp - the decays of a chunk: what each token's row is multiplied by.
//
// P_t = a_1 ... a_t from the chunk's start, D_ts = a_(s+1) ... a_t, E_s = D_ns for the last token n. Of a
// number a token D and E are products of decays, never quotients: nothing overflows however small they are.
// Decays of channels stand inside the sum over channels: D_ts = P_t / P_s there, while all of these lie
// within `widest` of 1; so sums of (k / P) u, before they are multiplied by P_n, and of (k / P)(P q) overflow
// where |k| |u| or |k| |q| is beyond the largest number over `widest`: 3e22 in float.
#pragma once

#include <fovea/linear/tokens.hpp>

#include <array>

FOVEA_NAMESPACE_BEGIN
namespace linear {

/// Of a number a token: P, its negative, and D, chunk_tokens numbers a row, the last of which is E.
template <class Arch, class T>
class token_decays {
  using R = vec<Arch, T>;
  using isa = kernel::isa<Arch>;
  static constexpr index_type n = lanes<Arch, T>, pitch = chunk_tokens;
  static constexpr T least = std::numeric_limits<T>::min();

 public:
  static constexpr index_type numbers = pitch * (pitch + 2);
  explicit token_decays(T* memory) noexcept : p(memory), minus_p(memory + pitch), d(memory + 2 * pitch) {}

  FOVEA_NOINLINE FOVEA_FLATTEN void make(const row_list<const T>& decay, index_type count) const noexcept {
    for (index_type c = 0; c < count; c += n) {
      R ratio(T(0));
      index_type t = c;
      // Two at a time, the second from the one before both: a chain of half the length.
      for (; t + 2 <= count; t += 2) {
        const R first(*decay.row(t)), second(*decay.row(t + 1));
        const R begin = normal(isa::fma(begins(t - c), second, begins(t + 1 - c)));
        normal(isa::fma(ratio, first, begins(t - c))).store_aligned(d + t * pitch + c);
        ratio = normal(isa::fma(ratio, normal(first * second), begin));
        ratio.store_aligned(d + (t + 1) * pitch + c);
      }
      if (t < count)
        normal(isa::fma(ratio, R(*decay.row(t)), begins(t - c))).store_aligned(d + t * pitch + c);
    }
    // P is not read from d: sixteen numbers just stored, then read as a register, wait for the cache.
    T product(1);
    for (index_type t = 0; t < count; ++t) {
      product *= *decay.row(t), product = product < least ? T(0) : product;
      p[t] = product, minus_p[t] = -product;
    }
  }

  /// E of a chunk of so many tokens.
  row_list<const T> e(index_type count) const noexcept { return {d + (count - 1) * pitch, 1}; }

  T *p, *minus_p, *d;

 private:
  /// 1 in lane t, where there is one.
  static R begins(index_type t) noexcept {
    alignas(64) static constexpr auto one = [] {
      std::array<T, std::size_t{2 * n + 1}> x{};
      x[n] = T(1);
      return x;
    }();
    return R::load_unaligned(one.data() + (t < n ? n - t : n + 1));
  }
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
