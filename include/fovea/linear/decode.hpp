// fovea/linear/decode.hpp - few tokens, and a state that is read and written where it lies.
//
// One token does half an operation a byte: a state is a stream. So rows are taken in order, whole, four at
// a time, while the next state is fetched.
#pragma once

#include <fovea/linear/tokens.hpp>

FOVEA_NAMESPACE_BEGIN
namespace linear {

template <class Arch, class T>
class decode {
  using R = vec<Arch, T>;
  using isa = kernel::isa<Arch>;
  static constexpr index_type n = lanes<Arch, T>, line = 64 / static_cast<index_type>(sizeof(T));
  static constexpr int rows_at_once = 4;

 public:
  /// `s`: dim rows of width numbers, `row` apart; `next`: a state like it that comes then, or a null
  /// pointer; `w`: room for a row of width numbers.
  decode(const token_block<T>& x, T* s, index_type row, const T* next, T* w) noexcept
      : x_(x), s_(s), row_(row), next_(next), w_(w) {}

  void run() const noexcept {
    for (index_type t = 0; t < x_.count; ++t) {
      const T* const a = x_.decay ? x_.decay.row(t) : &one_;
      const index_type a_step = x_.decay && x_.decays_channels ? 1 : 0;
      T* const o = x_.o(0).row(t);
      const T* w = x_.v.row(t);
      if (x_.beta) {
        product(x_.k.row(t), a, a_step, w_);
        move_towards(t), w = w_;
      }
      std::fill_n(o, x_.width, T(0));
      update(x_.q(0).row(t), x_.k.row(t), a, a_step, w, o, t + 1 == x_.count ? next_ : nullptr);
      scale(o, x_.query_factors(0)[t]);
      for (index_type g = 1; g < x_.group; ++g) {
        product(x_.q(g).row(t), &one_, 0, x_.o(g).row(t));
        scale(x_.o(g).row(t), x_.query_factors(g)[t]);
      }
    }
  }

 private:
  /// w = beta (v - recalled), which w is.
  FOVEA_NOINLINE FOVEA_FLATTEN void move_towards(index_type t) const noexcept {
    const T* const v = x_.v.row(t);
    for (index_type c = 0; c < x_.width; c += n)
      (R(x_.beta[t]) * (R::load_unaligned(v + c) - R::load_aligned(w_ + c))).store_aligned(w_ + c);
  }

  FOVEA_NOINLINE FOVEA_FLATTEN void scale(T* o, T factor) const noexcept {
    for (index_type c = 0; c < x_.width; c += n)
      (R(factor) * R::load_unaligned(o + c)).store_unaligned(o + c);
  }

  /// f(constant rows, first) for blocks of rows.
  template <class F>
  void each_block(const F& f) const noexcept {
    index_type i = 0;
    for (; i + rows_at_once <= x_.dim; i += rows_at_once) f(std::integral_constant<int, rows_at_once>{}, i);
    for (; i < x_.dim; ++i) f(std::integral_constant<int, 1>{}, i);
  }

  /// to = (a S)^T k.
  FOVEA_NOINLINE FOVEA_FLATTEN void product(const T* k, const T* a, index_type a_step, T* to) const noexcept {
    std::fill_n(to, x_.width, T(0));
    each_block([&]<int Rows>(std::integral_constant<int, Rows>, index_type first) {
      R factor[std::size_t{Rows}];
      FOVEA_UNROLL_ALL
      for (int i = 0; i < Rows; ++i) factor[i] = R(k[first + i] * a[(first + i) * a_step]);
      for (index_type c = 0; c < x_.width; c += n) {
        R sum = R::load_unaligned(to + c);
        FOVEA_UNROLL_ALL
        for (int i = 0; i < Rows; ++i)
          sum = isa::fma(factor[i], R::load_unaligned(s_ + (first + i) * row_ + c), sum);
        sum.store_unaligned(to + c);
      }
    });
  }

  /// S <- a S + k w^T, and o += S^T q.
  FOVEA_NOINLINE FOVEA_FLATTEN void update(const T* q, const T* k, const T* a, index_type a_step, const T* w,
                                           T* o, const T* next) const noexcept {
    each_block([&]<int Rows>(std::integral_constant<int, Rows>, index_type first) {
      R of_q[std::size_t{Rows}], of_k[std::size_t{Rows}], of_a[std::size_t{Rows}];
      FOVEA_UNROLL_ALL
      for (int i = 0; i < Rows; ++i)
        of_q[i] = R(q[first + i]), of_k[i] = R(k[first + i]), of_a[i] = R(a[(first + i) * a_step]);
      for (index_type i = 0; next != nullptr && i < Rows; ++i)
        for (index_type c = 0; c < x_.width; c += line) FOVEA_PREFETCH(next + (first + i) * row_ + c, 1, 2);
      for (index_type c = 0; c < x_.width; c += n) {
        const R of_w = R::load_unaligned(w + c);
        R sum = R::load_unaligned(o + c);
        FOVEA_UNROLL_ALL
        for (int i = 0; i < Rows; ++i) {
          T* const at = s_ + (first + i) * row_ + c;
          const R x = isa::fma(of_k[i], of_w, R::load_unaligned(at) * of_a[i]);
          x.store_unaligned(at);
          sum = isa::fma(of_q[i], x, sum);
        }
        sum.store_unaligned(o + c);
      }
    });
  }

  const token_block<T>& x_;
  T* s_;
  index_type row_;
  const T* next_;
  T* w_;
  T one_ = T(1);
};

}  // namespace linear
FOVEA_NAMESPACE_END
