// fovea/kernel/arch/generic.hpp - what kernels ask of an instruction set, for every one that xsimd has.
#pragma once

#include <fovea/kernel/arch/geometry.hpp>
#include <fovea/kernel/arch/registers.hpp>

#include <cstring>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// x reinterpreted bit by bit as registers of To.
template <class To, class Arch, class T>
FOVEA_INLINE vec<Arch, To> bits_as(const vec<Arch, T>& x) noexcept {
  using given = typename vec<Arch, T>::register_type;
  using wanted = typename vec<Arch, To>::register_type;
  return vec<Arch, To>(std::bit_cast<wanted>(static_cast<given>(x)));
}

/// 2^f on [-1/2, 1/2], Horner's scheme; p(0) = 1 exactly, so a lone key keeps its value. float: minimax of
/// degree 5, relative error 9.2e-8 (degree 4: 2.8e-6, no faster where measured). double: Taylor of degree 13,
/// 4e-18. On a Zen 4 a register of 16 exponents, its sum and its store take 8.0 cycles; 2, 4 or 6 registers
/// step by step 7.8, 7.7, 7.6, which is 0.3 % of a call; 16 powers in a permutation and degree 3, 8.0.
template <class T>
struct exp2_polynomial;
template <>
struct exp2_polynomial<float> {
  static constexpr float highest_first[] = {0x1.5bba14p-10f, 0x1.3cea88p-7f, 0x1.c6b752p-5f,
                                            0x1.ebf9bcp-3f,  0x1.62e42ap-1f, 1.0f};
};
template <>
struct exp2_polynomial<double> {
  static constexpr double highest_first[] = {1.3691488853904128881e-12, 2.5678435993488205141e-11,
                                             4.4455382718708114976e-10, 7.0549116208011233299e-9,
                                             1.0178086009239699728e-7,  1.3215486790144309488e-6,
                                             1.5252733804059840280e-5,  1.5403530393381609954e-4,
                                             1.3333558146428443423e-3,  9.6181291076284771619e-3,
                                             5.5504108664821579953e-2,  2.4022650695910071233e-1,
                                             6.9314718055994530942e-1,  1.0};
};

/// The least x that exp2 takes as it is. From there on down 2^x is 0, exactly: as sums of weights are, when
/// their floats are too small. Or it stays the smallest normal number: what is seen is then told from what is
/// hidden, which alone has a weight of 0. (None is subnormal but between the two, in half a step: some
/// processors multiply such numbers a hundred times slower. exp2_or_zero gives none.)
template <class T>
struct exp2_limits {
  static constexpr T zero = sizeof(T) == 4 ? T(-127) : T(-1023), smallest = zero + 1;
};

/// From where on down a weight is 0; or, where what it is multiplied by may not be finite, never 0, so that
/// it is told from what is hidden: exp2_limits.
template <class Arch, class T>
FOVEA_INLINE vec<Arch, T> least_exponent(bool finite) noexcept {
  return vec<Arch, T>(finite ? exp2_limits<T>::zero : exp2_limits<T>::smallest);
}

template <class Arch>
struct isa;

/// The instructions that kernels use beyond xsimd's operators.
template <class Arch>
struct generic_isa {
  template <class T>
  FOVEA_INLINE static vec<Arch, T> fma(const vec<Arch, T>& a, const vec<Arch, T>& b,
                                       const vec<Arch, T>& c) noexcept {
    return xsimd::fma(a, b, c);
  }

  /// a / b.
  template <class T>
  FOVEA_INLINE static vec<Arch, T> quotient(const vec<Arch, T>& a, const vec<Arch, T>& b) noexcept {
    return a / b;
  }

  /// a0 b0 a1 b1 ... of the lower halves, of the upper halves.
  template <class T>
  FOVEA_INLINE static vec<Arch, T> zip_lo(const vec<Arch, T>& a, const vec<Arch, T>& b) noexcept {
    return xsimd::zip_lo(a, b);
  }
  template <class T>
  FOVEA_INLINE static vec<Arch, T> zip_hi(const vec<Arch, T>& a, const vec<Arch, T>& b) noexcept {
    return xsimd::zip_hi(a, b);
  }

  /// op over all lanes of v, in each lane: zipped with itself, v brings lane i together with lane i + n / 2.
  template <class T, class Op>
  FOVEA_INLINE static vec<Arch, T> over_lanes(vec<Arch, T> v, const Op& op) noexcept {
    unroll<std::countr_zero(static_cast<unsigned>(lanes<Arch, T>))>(
        [&](auto) FOVEA_INLINE_LAMBDA { v = op(isa<Arch>::zip_lo(v, v), isa<Arch>::zip_hi(v, v)); });
    return v;
  }

  /// Whether there are load_twice and sums_of_halves: registers of two halves that products share.
  static constexpr bool has_halves = false;

  /// Keeps x in a register, where a compiler would read it again for each use.
  template <class T>
  FOVEA_INLINE static void keep_in_register(vec<Arch, T>&) noexcept {}

  /// x, rounded: what is subtracted from it afterwards is not taken off its summands instead, whatever order
  /// of sums the compiler may choose.
  template <class T>
  FOVEA_INLINE static vec<Arch, T> as_rounded(const vec<Arch, T>& x) noexcept {
    typename vec<Arch, T>::register_type rounded = x;
    if constexpr (requires { rounded.size(); })  // an array: one of xsimd's emulated batches
      FOVEA_AS_ROUNDED("+m", rounded);
    else
      FOVEA_AS_ROUNDED(FOVEA_VECTOR_REGISTER, rounded);
    return vec<Arch, T>(rounded);
  }

  /// Lane i of the result is the sum over the lanes of v[i]: a tree, instead of a horizontal sum for each.
  template <class T>
  FOVEA_INLINE static vec<Arch, T> sums_of_lanes(vec<Arch, T>* v) noexcept {
    constexpr int n = lanes<Arch, T>, depth = std::countr_zero(static_cast<unsigned>(n));
    unroll<depth>([&](auto level) FOVEA_INLINE_LAMBDA {
      constexpr int half = n >> (level + 1);
      unroll<half>([&](auto i) FOVEA_INLINE_LAMBDA {
        v[i] = isa<Arch>::zip_lo(v[i], v[i + half]) + isa<Arch>::zip_hi(v[i], v[i + half]);
      });
    });
    return v[0];
  }

  /// A register of float from contiguous elements of other types.
  FOVEA_INLINE static vec<Arch, float> load_bf16(const void* from) noexcept {
    const auto bits = widened<std::uint16_t>(
        from, [](std::uint16_t x) FOVEA_INLINE_LAMBDA { return static_cast<std::int32_t>(x); });
    return bits_as<float, Arch>(bits << 16);
  }
  FOVEA_INLINE static vec<Arch, float> load_fp16(const void* from) noexcept {
    using P = xsimd::batch<std::int32_t, Arch>;
    const P h = widened<std::uint16_t>(
        from, [](std::uint16_t x) FOVEA_INLINE_LAMBDA { return static_cast<std::int32_t>(x); });
    // As fp16::widen: the fraction under the exponent of 2^-14, less that, is a subnormal's value.
    const P magnitude = (h & P(0x7fff)) << 13, sign = (h & P(0x8000)) << 16;
    const auto subnormal =
        bits_as<float, Arch>(magnitude + P(113 << 23)) - vec<Arch, float>(std::bit_cast<float>(113 << 23));
    const P finite = xsimd::select(magnitude < P(1 << 23), bits_as<std::int32_t, Arch>(subnormal),
                                   magnitude + P(112 << 23));
    const P special = magnitude | P(0x7f800000);
    return bits_as<float, Arch>(xsimd::select(magnitude >= P(31 << 23), special, finite) | sign);
  }
  FOVEA_INLINE static vec<Arch, float> load_int8(const void* from) noexcept {
    return widened<std::int8_t>(from,
                                [](std::int8_t x) FOVEA_INLINE_LAMBDA { return static_cast<float>(x); });
  }

  /// The reverse, rounded to nearest, ties to even, as bf16 is.
  static void store_bf16(const vec<Arch, float>& x, void* to) noexcept {
    using P = xsimd::batch<std::int32_t, Arch>;
    const P bits = bits_as<std::int32_t, Arch>(x);
    const P nearest = bits + P(0x7fff) + ((bits >> 16) & P(1)), quiet = bits | P(0x00400000);
    const auto chosen = xsimd::select(x == x, bits_as<float, Arch>(nearest), bits_as<float, Arch>(quiet));
    isa<Arch>::store_upper_halves(bits_as<std::int32_t, Arch>(chosen), to);
  }
  static void store_upper_halves(const xsimd::batch<std::int32_t, Arch>& x, void* to) noexcept {
    constexpr int n = lanes<Arch, float>;
    alignas(64) std::int32_t wide[std::size_t{n}];
    x.store_aligned(wide);
    std::uint16_t halves[std::size_t{n}];
    for (int i = 0; i < n; ++i)
      halves[i] = static_cast<std::uint16_t>(static_cast<std::uint32_t>(wide[i]) >> 16);
    std::memcpy(to, halves, sizeof halves);
  }

  /// Rows become columns, in place. Interleaving row i with row i + n/2, log2(n) times, is a perfect shuffle
  /// of indices.
  template <class T>
  FOVEA_INLINE static void transpose(vec<Arch, T>* v) noexcept {
    constexpr int n = lanes<Arch, T>;
    unroll<std::countr_zero(static_cast<unsigned>(n))>([&](auto) FOVEA_INLINE_LAMBDA {
      vec<Arch, T> w[std::size_t{n}];
      unroll<n / 2>([&](auto i) FOVEA_INLINE_LAMBDA {
        w[2 * i] = isa<Arch>::zip_lo(v[i], v[i + n / 2]);
        w[2 * i + 1] = isa<Arch>::zip_hi(v[i], v[i + n / 2]);
      });
      unroll<n>([&](auto i) FOVEA_INLINE_LAMBDA { v[i] = w[i]; });
    });
  }

  template <class T>
  FOVEA_INLINE static vec<Arch, T> log(const vec<Arch, T>& x) noexcept {
    return xsimd::log(x);
  }

  /// 2^x for x <= 127 (1023); 0 where it is smaller than half of the smallest normal number, about. A NaN
  /// stays one. Adding 1.5 * 2^23 rounds to an integer and leaves it, biased, where a shift makes it the
  /// exponent: of what is clamped to -127 (-1023) that is the exponent of 0.
  template <class T>
  FOVEA_INLINE static vec<Arch, T> exp2(const vec<Arch, T>& x) noexcept {
    return isa<Arch>::exp2(x, vec<Arch, T>(exp2_limits<T>::zero));
  }
  /// 2^max(x, least), of which exp2_limits says two.
  template <class T>
  FOVEA_INLINE static vec<Arch, T> exp2(const vec<Arch, T>& x, const vec<Arch, T>& least) noexcept {
    return exp2_with<generic_isa>(x, least);
  }

  /// The same without subnormal numbers: what is smaller than 2^-126 (2^-1022) is 0. Two instructions more:
  /// 1.7 % of a call where all is as fast. Where scores spread logits wide it spares what subnormals cost: of
  /// ALiBi with a slope of 0.1, 1,024 keys, the weights of 3 keys a row are such numbers, and one product of
  /// 300 has one in its register.
  template <class T>
  FOVEA_INLINE static vec<Arch, T> exp2_or_zero(const vec<Arch, T>& x, const vec<Arch, T>& least) noexcept {
    return exp2_with<generic_isa, T, false>(x, least);
  }

 protected:
  template <class From, class F>
  FOVEA_INLINE static auto widened(const void* from, const F& f) noexcept {
    using P = decltype(f(From{}));
    constexpr int n = lanes<Arch, P>;
    From given[std::size_t{n}];
    std::memcpy(given, from, sizeof given);
    alignas(64) P wide[std::size_t{n}];
    for (int i = 0; i < n; ++i) wide[i] = f(given[i]);
    return xsimd::batch<P, Arch>::load_aligned(wide);
  }

  template <class Isa, class T, bool Subnormal = true>
  FOVEA_INLINE static vec<Arch, T> exp2_with(const vec<Arch, T>& x, const vec<Arch, T>& least) noexcept {
    using V = vec<Arch, T>;
    constexpr bool single = sizeof(T) == 4;
    const V magic(single ? T(0x1.8p23) + T(127) : T(0x1.8p52) + T(1023));
    const V clamped = xsimd::max(least, x);
    const V shifted = isa<Arch>::as_rounded(clamped + magic);
    const V fraction = clamped - isa<Arch>::as_rounded(shifted - magic);
    V power = bits_as<T, Arch>(bits_as<position_t<T>, Arch>(shifted) << (single ? 23 : 52));
    if constexpr (!Subnormal) power = xsimd::select(clamped < V(exp2_limits<T>::smallest), V(T(0)), power);
    return polynomial<Isa>(fraction) * power;
  }

  template <class Isa, class T>
  FOVEA_INLINE static vec<Arch, T> polynomial(const vec<Arch, T>& f) noexcept {
    constexpr auto& c = exp2_polynomial<T>::highest_first;
    vec<Arch, T> p(c[0]);
    unroll<static_cast<int>(std::size(c)) - 1>(
        [&](auto i) FOVEA_INLINE_LAMBDA { p = Isa::fma(p, f, vec<Arch, T>(c[i + 1])); });
    return p;
  }
};

template <class Arch>
struct isa : generic_isa<Arch> {};

}  // namespace kernel
FOVEA_NAMESPACE_END
