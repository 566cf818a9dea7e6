// fovea/linear/chunk.hpp - the update rules by products of matrices, a chunk of tokens at a time.
//
// With a_t the decays, P_t = a_1 ... a_t from the chunk's start, D_ts = a_(s+1) ... a_t, and E_s = D_ns
// for the last token n (numbers, or vectors over the channels of k), S the state before the chunk, all
// causal:
//
//   o_t = (P_t q_t) S + sum_{s <= t} (q_t D_ts k_s) u_s          S <- P_n S + sum_s (E_s k_s) u_s^T
//   u_t = v_t                                                                       linear, gated
//   u_t = beta_t (v_t - (P_t k_t) S - sum_{s < t} (k_t D_ts k_s) u_s)               delta, gated delta
//
// The last line is solved row by row: the UT transform of Yang et al., arXiv:2406.06484, without its
// inverse. D is made by products of decays, never by quotients: nothing overflows however small they are.
// Decays of channels stand inside the sum over channels: D_ts = P_t / P_s there, while all of these lie
// within `widest` of 1; a chunk in which they do not goes token by token.
#pragma once

#include <fovea/kernel/tile/packing.hpp>
#include <fovea/linear/recurrence.hpp>

FOVEA_NAMESPACE_BEGIN
namespace linear {

/// What a chunk is worked on in: numbers of T, in the order of the members.
template <class T>
struct chunk_memory {
  static constexpr index_type tokens = chunk_tokens;
  T *q_decayed, *k_decayed, *k_left, *k_inverse, *k_columns, *u, *attention, *solve, *ratios, *running;

  static index_type numbers(index_type dim_step, index_type width) noexcept {
    return tokens * (5 * dim_step + width + 3 * tokens) + dim_step + tokens;
  }
  chunk_memory(T* first, index_type dim_step, index_type width) noexcept {
    const auto take = [&](index_type count) { return std::exchange(first, first + count); };
    q_decayed = take(tokens * dim_step), k_decayed = take(tokens * dim_step);
    k_left = take(tokens * dim_step), k_inverse = take(tokens * dim_step);
    k_columns = take(tokens * dim_step);
    u = take(tokens * width), attention = take(tokens * tokens), solve = take(tokens * tokens);
    ratios = take(tokens * tokens), running = take(dim_step + tokens);
  }
};

template <class Arch, class T>
class chunk {
  using R = vec<Arch, T>;
  using isa = kernel::isa<Arch>;
  template <int Rows, int Columns>
  using tile = kernel::tile<Arch, T, Rows, Columns>;
  static constexpr index_type n = lanes<Arch, T>, pitch = chunk_tokens;
  static constexpr int rows_of_tile = kernel::geometry<Arch>::tile_queries,
                       columns_of_tile = kernel::geometry<Arch>::tile_columns;
  static constexpr T widest = sizeof(T) == 4 ? T(1e16) : T(1e130);
  static_assert(pitch % n == 0 && strip_registers % columns_of_tile == 0);

 public:
  chunk(const packed_tokens<T>& tokens, const state_strips<Arch, T>& state,
        const chunk_memory<T>& memory) noexcept
      : x_(tokens), s_(state), m_(memory) {}

  /// False, and nothing done, where the decays of some channel lie too far apart.
  bool run() const noexcept {
    if (x_.decays_channels && !channels_decay()) return false;
    if (!x_.decays_channels) tokens_decay();
    const T* const keys = x_.decays_channels ? m_.k_inverse : x_.k;
    for (index_type t = 0; t < x_.count; t += n)
      kernel::pack<Arch, T, T>({keys, x_.count, x_.dim, x_.dim_step, 1}, {t, std::min(t + n, x_.count)}, T(1),
                               m_.k_columns + t, pitch);
    if (x_.beta) {
      scores(x_.decays_channels ? m_.k_left : x_.k, m_.solve);
      weigh(m_.solve, x_.beta);
    }
    for (index_type g = 0; g < x_.group; ++g) {
      T* const q = x_.q_row(g, 0);
      const T* from_state = q;
      if (x_.decay) decay_queries(q), from_state = m_.q_decayed;
      scores(x_.decays_channels ? m_.q_decayed : q, m_.attention);
      weigh(m_.attention, nullptr);
      for (index_type j = 0; j < s_.count(); ++j) {
        const T* const u = right_side(j, g == 0);
        rows<false>(from_state, m_.attention, j, nullptr, u, u_step(j), x_.o_row(g, 0) + column(j), x_.width);
        if (g + 1 == x_.group) update(j, u);
      }
    }
    return true;
  }

 private:
  index_type column(index_type j) const noexcept { return j * strip_width<Arch, T>; }
  index_type u_step(index_type) const noexcept { return x_.width; }

  /// u of strip j: the values, or what they are solved for.
  const T* right_side(index_type j, bool first) const noexcept {
    if (!x_.beta) return x_.v + column(j);
    T* const u = m_.u + column(j);
    if (first) rows<true>(m_.k_left, m_.solve, j, x_.v + column(j), u, x_.width, u, x_.width);
    return u;
  }

  /// P_t, D_ts and what they are multiplied to, of a number a token.
  FOVEA_NOINLINE FOVEA_FLATTEN void tokens_decay() const noexcept {
    const T one = T(1);
    if (x_.decay) {
      for (index_type t = 0; t < x_.count; ++t) {
        const T a = x_.decay[t * x_.decay_step];
        m_.running[t] = t == 0 ? a : normal(m_.running[t - 1] * a);
        T* const now = m_.ratios + t * pitch;
        for (index_type c = 0; c < t; c += n) {
          const R ratio = R::load_aligned(now - pitch + c) * R(a);
          xsimd::select(xsimd::abs(ratio) < R(least), R(T(0)), ratio).store_aligned(now + c);
        }
        now[t] = one;
        for (index_type c = t + 1; c < round_up(t + 1, n); ++c) now[c] = T(0);
      }
      const T* const last = m_.ratios + (x_.count - 1) * pitch;
      for (index_type t = 0; t < x_.count; ++t)
        scale_row(x_.k_row(t), last[t], m_.k_decayed + t * x_.dim_step);
    }
    if (!x_.beta) return;
    for (index_type t = 0; t < x_.count; ++t)
      scale_row(x_.k_row(t), -x_.beta[t] * (x_.decay ? m_.running[t] : one), m_.k_left + t * x_.dim_step);
  }

  /// The same of a vector over channels a token; whether all stay within `widest`.
  FOVEA_NOINLINE FOVEA_FLATTEN bool channels_decay() const noexcept {
    R furthest(T(1)), nearest(T(1));
    xsimd::batch_bool<T, Arch> broken = furthest != furthest;
    for (index_type c = 0; c < x_.dim_step; c += n) {
      R p(T(1));
      for (index_type t = 0; t < x_.count; ++t) {
        const index_type at = t * x_.dim_step + c;
        p = p * R::load_aligned(x_.decay + at);
        furthest = xsimd::max(furthest, p), nearest = xsimd::min(nearest, p), broken = broken || (p != p);
        const R k = R::load_aligned(x_.k + at);
        if (x_.beta) (k * p * R(-x_.beta[t])).store_aligned(m_.k_left + at);
        (k / p).store_aligned(m_.k_inverse + at);
      }
      p.store_aligned(m_.running + c);
      R e(T(1));
      for (index_type t = x_.count - 1; t >= 0; --t) {
        const index_type at = t * x_.dim_step + c;
        (R::load_aligned(x_.k + at) * e).store_aligned(m_.k_decayed + at);
        e = e * R::load_aligned(x_.decay + at);
      }
    }
    return !xsimd::any(broken) && !xsimd::any(nearest < R(T(1) / widest)) &&
           !xsimd::any(furthest > R(widest));
  }

  FOVEA_NOINLINE FOVEA_FLATTEN void decay_queries(const T* q) const noexcept {
    for (index_type t = 0; !x_.decays_channels && t < x_.count; ++t)
      scale_row(q + t * x_.dim_step, m_.running[t], m_.q_decayed + t * x_.dim_step);
    for (index_type c = 0; x_.decays_channels && c < x_.dim_step; c += n) {
      R p(T(1));
      for (index_type t = 0; t < x_.count; ++t) {
        const index_type at = t * x_.dim_step + c;
        p = p * R::load_aligned(x_.decay + at);
        (R::load_aligned(q + at) * p).store_aligned(m_.q_decayed + at);
      }
    }
  }

  void scale_row(const T* from, T factor, T* to) const noexcept {
    for (index_type c = 0; c < x_.dim_step; c += n)
      (R::load_aligned(from + c) * R(factor)).store_aligned(to + c);
  }

  /// f(constant rows, first) for tiles of rows; 8 at the end are 4 and 4, as 2 leave registers idle.
  template <class F>
  static void in_row_tiles(index_type count, const F& f) noexcept {
    index_type i = 0;
    for (; count - i >= rows_of_tile && count - i != rows_of_tile + 2; i += rows_of_tile)
      f(std::integral_constant<int, rows_of_tile>{}, i);
    kernel::in_tiles<4>(count - i, [&](auto rows, index_type more) { f(rows, i + more); });
  }

  /// to(t, s) = left_t . k_s, for s <= t, and further where a tile goes on.
  FOVEA_NOINLINE FOVEA_FLATTEN void scores(const T* left, T* to) const noexcept {
    in_row_tiles(x_.count, [&](auto rows, index_type r) {
      kernel::in_tiles<columns_of_tile>(ceil_div(r + rows, n), [&](auto columns, index_type c) {
        auto sum = kernel::outer_sum<Arch, rows, columns>(left + r * x_.dim_step, x_.dim_step, kernel::unit{},
                                                          m_.k_columns + c * n, pitch, x_.dim);
        sum.each([&](int i, int j, R& s) { s.store_aligned(to + (r + i) * pitch + (c + j) * n); });
      });
    });
  }

  /// Times D_ts, where that is not in the product yet, and -beta_t.
  FOVEA_NOINLINE FOVEA_FLATTEN void weigh(T* scores, const T* beta) const noexcept {
    if (x_.decays_channels || (!x_.decay && !beta)) return;
    for (index_type t = 0; t < x_.count; ++t) {
      const R factor(beta ? -beta[t] : T(1));
      for (index_type c = t * pitch; c <= t * pitch + t; c += n) {
        const R s = R::load_aligned(scores + c) * factor;
        (x_.decay ? s * R::load_aligned(m_.ratios + c) : s).store_aligned(scores + c);
      }
    }
  }

  /// to_t = left_t S + sum_s weight_ts u_s over s <= t; when it solves, u is `to` itself: beta_t v_t is
  /// added, and s < t.
  template <bool Solves>
  FOVEA_NOINLINE void rows(const T* left, const T* weight, index_type j, const T* v, const T* u,
                           index_type u_row, T* to, index_type to_row) const noexcept {
    in_row_tiles(x_.count, [&](auto rows, index_type r) {
      kernel::in_tiles<columns_of_tile>(s_.width_of(j) / n, [&](auto columns, index_type c) {
        row_tile<Solves, rows, columns>(left + r * x_.dim_step, weight, r, s_.strip(j) + c * n,
                                        s_.row_step(j), v ? v + c * n : v, u + c * n, u_row, to + c * n,
                                        to_row);
      });
    });
  }

  template <bool Solves, int Rows, int Columns>
  FOVEA_NOINLINE FOVEA_FLATTEN void row_tile(const T* left, const T* weight, index_type r, const T* s,
                                             index_type s_row, const T* v, const T* u, index_type u_row,
                                             T* to, index_type to_row) const noexcept {
    tile<Rows, Columns> sum =
        kernel::outer_sum<Arch, Rows, Columns>(left, x_.dim_step, kernel::unit{}, s, s_row, x_.dim);
    if constexpr (Solves)
      sum.each([&](int i, int c, R& x) {
        x = isa::fma(R(x_.beta[r + i]), R::load_unaligned(v + (r + i) * x_.width + c * n), x);
      });
    kernel::add_outer(sum, weight + r * pitch, std::integral_constant<index_type, pitch>{}, kernel::unit{}, u,
                      u_row, r, kernel::no_prefetch{});
    const T* const corner = weight + r * pitch + r;
    FOVEA_UNROLL_ALL
    for (int i = 0; i < Rows; ++i) {
      R of_u[std::size_t{Columns}];
      FOVEA_UNROLL_ALL
      for (int c = 0; c < Columns; ++c)
        of_u[c] = Solves ? sum.at[i][c] : R::load_unaligned(u + (r + i) * u_row + c * n);
      FOVEA_UNROLL_ALL
      for (int below = i + (Solves ? 1 : 0); below < Rows; ++below) {
        const R factor(corner[below * pitch + i]);
        FOVEA_UNROLL_ALL
        for (int c = 0; c < Columns; ++c) sum.at[below][c] = isa::fma(factor, of_u[c], sum.at[below][c]);
      }
    }
    sum.each([&](int i, int c, R& x) { x.store_unaligned(to + (r + i) * to_row + c * n); });
  }

  /// S <- P_n S + sum_s (E_s k_s) u_s^T, strip j.
  FOVEA_NOINLINE void update(index_type j, const T* u) const noexcept {
    const T* const k = x_.decay ? m_.k_decayed : x_.k;
    in_row_tiles(x_.dim, [&](auto rows, index_type r) {
      kernel::in_tiles<columns_of_tile>(s_.width_of(j) / n, [&](auto columns, index_type c) {
        state_tile<rows, columns>(k + r, r, s_.strip(j) + r * s_.row_step(j) + c * n, s_.row_step(j),
                                  u + c * n);
      });
    });
  }

  template <int Rows, int Columns>
  FOVEA_NOINLINE FOVEA_FLATTEN void state_tile(const T* k, index_type r, T* s, index_type s_row,
                                               const T* u) const noexcept {
    tile<Rows, Columns> sum;
    const T* const all = m_.running + (x_.decays_channels ? r : x_.count - 1);
    sum.each([&](int i, int c, R& x) {
      x = R::load_unaligned(s + i * s_row + c * n);
      if (x_.decay) x = x * R(all[x_.decays_channels ? i : 0]);
    });
    kernel::add_outer(sum, k, kernel::unit{}, x_.dim_step, u, x_.width, x_.count, kernel::no_prefetch{});
    sum.each([&](int i, int c, R& x) { x.store_unaligned(s + i * s_row + c * n); });
  }

  static constexpr T least = std::numeric_limits<T>::min();
  static T normal(T x) noexcept { return (x < 0 ? -x : x) < least ? T(0) : x; }

  const packed_tokens<T>& x_;
  const state_strips<Arch, T>& s_;
  const chunk_memory<T>& m_;
};

}  // namespace linear
FOVEA_NAMESPACE_END
