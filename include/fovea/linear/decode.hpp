// fovea/linear/decode.hpp - few tokens, and a state that is read and written where it lies.
//
// One token does half an operation a byte: a state is a stream. So rows are taken in order, whole where they
// have up to 8 registers, and read once from memory: the delta rule needs S^T k before it can change S, and
// takes S^T q with it, as
//
//   w = beta (v - (a S)^T k)      o = (a S)^T q + (q . k) w      S <- a S + k w^T
//
// A state that is passed over once is read as hardware foresees: asking for the next one took 2 to 8 % more
// time (Zen 5; 15 to 20 % within caches). So it is with the delta rule's two passes over float rows that
// begin at a line of cache (0 to 4 %, and 15 % within caches). Where rows do not, each register is of two
// lines, the whole takes 1.35 times as long, and the next state is asked for with the rows that are read
// first (7 % less); in bf16 with those that are written (13 to 18 % less; in float 12 % more). Rejected: half
// with each, into L2 alone, the last rows written first, which the L1 cache still has (all within noise),
// half of the columns at a time, which it holds (5 to 15 % slower), and a state written beside the reads of
// the next one (10 to 25 %).
#pragma once

#include <fovea/linear/tokens.hpp>

#include <cstdint>

FOVEA_NAMESPACE_BEGIN
namespace linear {

/// S: the element of the state, T or bf16.
template <class Arch, class T, class S>
class decode {
  using R = vec<Arch, T>;
  using isa = kernel::isa<Arch>;
  static constexpr index_type n = lanes<Arch, T>, line = 64 / static_cast<index_type>(sizeof(S));
  static constexpr bool asks_late = sizeof(S) < sizeof(T);  // with the rows that are written
  static constexpr int columns_at_once = kernel::geometry<Arch>::tile_columns * 2;  // registers

 public:
  /// `s`: dim rows of width numbers, `row` apart; `next`: a state like it that comes then, or a null
  /// pointer.
  decode(const token_block<T>& x, S* s, index_type row, const S* next) noexcept
      : x_(x), s_(s), row_(row), next_(asks_late || crosses_lines(s) ? next : nullptr) {}

  void run() const noexcept {
    for (index_type t = 0; t < x_.count; ++t) {
      const bool last = t + 1 == x_.count;
      kernel::in_tiles<columns_at_once>(x_.width / n, [&](auto columns, index_type c) {
        for (index_type g = 1; g < x_.group; ++g) read<columns>(g, t, c * n);
        x_.beta ? recall<columns>(t, c * n, last ? next_ : nullptr) : store<columns>(t, c * n);
      });
    }
  }

 private:
  static bool crosses_lines(const S* s) noexcept { return reinterpret_cast<std::uintptr_t>(s) % 64 != 0; }

  struct factors {
    const T* decay;
    index_type step;
  };
  factors decay_of(index_type t) const noexcept {
    if (!x_.decay) return {&one_, 0};
    return {x_.decay.row(t), x_.decays_channels ? 1 : 0};
  }

  /// Asks for the same columns of row i of the next state.
  template <int Columns>
  static void ask(const S* next, index_type i, index_type row) noexcept {
    for (index_type c = 0; c < Columns * n; c += line) FOVEA_PREFETCH(next + i * row + c, 1, 2);
  }

  /// w = v: S <- a S + k v^T, o = S^T q.
  template <int Columns>
  FOVEA_NOINLINE FOVEA_FLATTEN void store(index_type t, index_type column) const noexcept {
    const auto [a, a_step] = decay_of(t);
    const T *const q = x_.q(0).row(t), *const k = x_.k.row(t);
    R w[std::size_t{Columns}], o[std::size_t{Columns}];
    FOVEA_UNROLL_ALL
    for (int c = 0; c < Columns; ++c) w[c] = R::load_unaligned(x_.v.row(t) + column + c * n), o[c] = R(T(0));
    S* at = s_ + column;
    for (index_type i = 0; i < x_.dim; ++i, at += row_) {
      const R of_k(k[i]), of_a(a[i * a_step]), of_q(q[i]);
      FOVEA_UNROLL_ALL
      for (int c = 0; c < Columns; ++c) {
        const R x = isa::fma(of_k, w[c], kernel::load_lanes<Arch, T>(at + c * n) * of_a);
        kernel::store_register<Arch, T>(x, at + c * n);
        o[c] = isa::fma(of_q, x, o[c]);
      }
    }
    finish<Columns>(0, t, column, o), add_new<Columns>(t, column, w);
  }

  /// w = beta (v - (a S)^T k).
  template <int Columns>
  FOVEA_NOINLINE FOVEA_FLATTEN void recall(index_type t, index_type column, const S* next) const noexcept {
    const auto [a, a_step] = decay_of(t);
    const T *const q = x_.q(0).row(t), *const k = x_.k.row(t);
    R w[std::size_t{Columns}], o[std::size_t{Columns}];
    FOVEA_UNROLL_ALL
    for (int c = 0; c < Columns; ++c) w[c] = o[c] = R(T(0));
    T q_k = 0;
    const S* from = s_ + column;
    for (index_type i = 0; i < x_.dim; ++i, from += row_) {
      if (next && !asks_late) ask<Columns>(next + column, i, row_);
      q_k += q[i] * k[i];
      const R of_k(k[i] * a[i * a_step]), of_q(q[i] * a[i * a_step]);
      FOVEA_UNROLL_ALL
      for (int c = 0; c < Columns; ++c) {
        const R x = kernel::load_lanes<Arch, T>(from + c * n);
        w[c] = isa::fma(of_k, x, w[c]), o[c] = isa::fma(of_q, x, o[c]);
      }
    }
    FOVEA_UNROLL_ALL
    for (int c = 0; c < Columns; ++c) {
      w[c] = R(x_.beta[t]) * (R::load_unaligned(x_.v.row(t) + column + c * n) - w[c]);
      o[c] = isa::fma(R(q_k), w[c], o[c]);
    }
    finish<Columns>(0, t, column, o), add_new<Columns>(t, column, w);
    S* at = s_ + column;
    for (index_type i = 0; i < x_.dim; ++i, at += row_) {
      if (next && asks_late) ask<Columns>(next + column, i, row_);
      const R of_k(k[i]), of_a(a[i * a_step]);
      FOVEA_UNROLL_ALL
      for (int c = 0; c < Columns; ++c)
        kernel::store_register<Arch, T>(isa::fma(of_k, w[c], kernel::load_lanes<Arch, T>(at + c * n) * of_a),
                                        at + c * n);
    }
  }

  /// o = (a S)^T q of another query head, before S is changed (and rounded), without its factor.
  template <int Columns>
  FOVEA_NOINLINE FOVEA_FLATTEN void read(index_type g, index_type t, index_type column) const noexcept {
    const auto [a, a_step] = decay_of(t);
    R o[std::size_t{Columns}];
    FOVEA_UNROLL_ALL
    for (int c = 0; c < Columns; ++c) o[c] = R(T(0));
    const S* from = s_ + column;
    for (index_type i = 0; i < x_.dim; ++i, from += row_) {
      const R of_q(x_.q(g).row(t)[i] * a[i * a_step]);
      FOVEA_UNROLL_ALL
      for (int c = 0; c < Columns; ++c)
        o[c] = isa::fma(of_q, kernel::load_lanes<Arch, T>(from + c * n), o[c]);
    }
    FOVEA_UNROLL_ALL
    for (int c = 0; c < Columns; ++c) o[c].store_unaligned(x_.o(g).row(t) + column + c * n);
  }

  /// And (q . k) w, times its factor.
  template <int Columns>
  void add_new(index_type t, index_type column, const R* w) const noexcept {
    for (index_type g = 1; g < x_.group; ++g) {
      T q_k = 0;
      for (index_type i = 0; i < x_.dim; ++i) q_k += x_.q(g).row(t)[i] * x_.k.row(t)[i];
      R o[std::size_t{Columns}];
      FOVEA_UNROLL_ALL
      for (int c = 0; c < Columns; ++c)
        o[c] = isa::fma(R(q_k), w[c], R::load_unaligned(x_.o(g).row(t) + column + c * n));
      finish<Columns>(g, t, column, o);
    }
  }

  template <int Columns>
  void finish(index_type g, index_type t, index_type column, const R* o) const noexcept {
    FOVEA_UNROLL_ALL
    for (int c = 0; c < Columns; ++c) (o[c] * R(x_.scale)).store_unaligned(x_.o(g).row(t) + column + c * n);
  }

  const token_block<T>& x_;
  S* s_;
  index_type row_;
  const S* next_;
  T one_ = T(1);
};

}  // namespace linear
FOVEA_NAMESPACE_END
