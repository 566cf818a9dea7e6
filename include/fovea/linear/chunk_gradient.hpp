// fovea/linear/chunk_gradient.hpp - the gradients of a chunk, by products as in chunk.hpp.
//
// With the letters of chunk.hpp, x_t = u_t / beta_t, dS the gradient by the state after the chunk, do_t that
// by o_t times its factor, A_ts = q_t D_ts k_s, B_ts = (do_t . u_s) D_ts, C_ts = (dx_t . u_s) D_ts for s < t:
//
//   du_s = (E_s k_s) dS + sum_{t >= s} A_ts do_t
//   dx_s = beta_s z_s,  z_s = du_s - sum_{t > s} (k_t D_ts k_s) dx_t        d_beta_s = z_s . x_s,  d_v = dx
//   d_q_t = P_t (S do_t) + sum_{s <= t} B_ts k_s
//   left  d_k_t = -P_t (S dx_t) - sum_{s < t} C_ts k_s                      as what recalls
//   right d_k_s = E_s (dS u_s) + sum_{t >= s} B_ts q_t - sum_{t > s} C_ts k_t      as what is stored
//   dS <- P_n dS + sum_t (P_t q_t) do_t^T - (P_t k_t) dx_t^T
//   d_g_r = sum_{t >= r} (q_t d_q_t + k_t left d_k_t - k_t right d_k_t) + <dS, S> after the chunk
//
// and without the delta rule du is d_v, and neither x nor C is. The last line: P_t stands with q_t and with
// k_t on the left, 1 / P_t with k_t on the right. Sums over later tokens are those over earlier ones with all
// rows in the opposite order.
#pragma once

#include <fovea/linear/chunk.hpp>

FOVEA_NAMESPACE_BEGIN
namespace linear {

/// Where the gradients of a chunk go, in numbers of T: rows, in the order of the members.
template <class Arch, class T>
struct gradient_memory {
  row_list<T> d_q, d_left, d_right, du, dx, z, x, scaled;  // d_q: of all query heads of the group
  index_type d_q_head;                                     // from one of them to the next
  T *u_columns, *of_values, *recalled, *s_transposed, *ds_transposed;
  T* row_sums;  // of S dS before the chunk, a number a row
  T* factors;   // of d_out, a number a token: what o is multiplied by, and P

  static index_type numbers(index_type group, index_type dim_step, index_type width) noexcept {
    return chunk_tokens * ((group + 2) * dim_step + 6 * width + 2 * chunk_tokens + 1) + 2 * width * dim_step +
           dim_step;
  }
  gradient_memory(T* first, index_type group, index_type dim_step, index_type width) noexcept {
    const auto take = [&](index_type count) { return std::exchange(first, first + count); };
    const auto rows = [&](index_type step) { return row_list<T>{take(chunk_tokens * step), step}; };
    d_q = {take(group * chunk_tokens * dim_step), dim_step}, d_left = rows(dim_step),
    d_right = rows(dim_step);
    du = rows(width), dx = rows(width), z = rows(width), x = rows(width), scaled = rows(width);
    d_q_head = chunk_tokens * dim_step;
    u_columns = take(chunk_tokens * width);
    of_values = take(chunk_tokens * chunk_tokens), recalled = take(chunk_tokens * chunk_tokens);
    s_transposed = take(width * dim_step), ds_transposed = take(width * dim_step), row_sums = take(dim_step);
    factors = take(chunk_tokens);
  }
  row_list<T> d_q_of(index_type g) const noexcept { return {d_q.first + g * d_q_head, d_q.step}; }
};

/// to = M^T, row i of M times factor_i where it is given; `changes`: M too is multiplied.
template <class Arch, class T>
FOVEA_NOINLINE FOVEA_FLATTEN void transpose_state(const state_strips<Arch, T>& m, const T* factor,
                                                  bool changes, const state_strips<Arch, T>& to) noexcept {
  using R = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  for (index_type row = 0; row < to.width; row += n) {
    const index_type j2 = row / to.most, width = to.width_of(j2);
    for (index_type c = 0; c < m.width; c += n) {
      const index_type j = c / m.most, step = m.width_of(j);
      T* const from = m.strip(j) + row * step + c - m.column(j);
      R v[std::size_t{n}];
      FOVEA_UNROLL_ALL
      for (index_type i = 0; i < n; ++i) v[i] = row + i < m.dim ? R::load_aligned(from + i * step) : R(T(0));
      if (factor) {
        FOVEA_UNROLL_ALL
        for (index_type i = 0; i < n; ++i)
          if (row + i < m.dim) {
            v[i] = v[i] * R(factor[row + i]);
            if (changes) v[i].store_aligned(from + i * step);
          }
      }
      kernel::isa<Arch>::transpose(v);
      T* const first = to.strip(j2) + c * width + row - to.column(j2);
      FOVEA_UNROLL_ALL
      for (index_type i = 0; i < n; ++i) v[i].store_aligned(first + i * width);
    }
  }
}

/// to: row i of m times factor_i.
template <class Arch, class T>
FOVEA_NOINLINE FOVEA_FLATTEN void scale_state(const state_strips<Arch, T>& m, const T* factor,
                                              const state_strips<Arch, T>& to) noexcept {
  using R = vec<Arch, T>;
  for (index_type j = 0; j < m.count(); ++j)
    for (index_type i = 0; i < m.dim; ++i)
      for (index_type c = i * m.width_of(j); c < (i + 1) * m.width_of(j); c += lanes<Arch, T>)
        (R::load_aligned(m.strip(j) + c) * R(factor[i])).store_aligned(to.strip(j) + c);
}

template <class Arch, class T>
class chunk_gradient {
  using R = vec<Arch, T>;
  using products = chunk_products<Arch, T>;
  using strips = state_strips<Arch, T>;
  static constexpr index_type n = lanes<Arch, T>;

 public:
  /// `s`: the state before the chunk; `ds`: of the loss by the state after it; `d_out`: query heads of the
  /// group `d_out_head` numbers apart. `forward` is of the same tokens, s and memory.
  chunk_gradient(const token_block<T>& tokens, const chunk<Arch, T>& forward,
                 const chunk_memory<Arch, T>& forward_memory, const strips& s, const strips& ds,
                 const row_list<const T>& d_out, index_type d_out_head,
                 const gradient_memory<Arch, T>& memory, chunk_prefetch& soon) noexcept
      : x_(tokens),
        f_(forward),
        fm_(forward_memory),
        s_(s),
        ds_(ds),
        st_{memory.s_transposed, s.width, tokens.dim_step},
        dst_{memory.ds_transposed, s.width, tokens.dim_step},
        d_out_(d_out),
        d_out_head_(d_out_head),
        m_(memory),
        soon_(soon) {}

  /// The gradients into rows of `memory`, and ds by the state before the chunk. `known`: u_t / beta_t,
  /// where it is. False, and nothing done, where the decays of some channel lie too far apart.
  bool run(const row_list<const T>& known) const noexcept {
    if (!f_.decay(true)) return false;
    soon_.deal((s_.count() + st_.count()) * products::tiles(x_.count) * (2 * x_.group + (x_.beta ? 3 : 0)) +
               s_.count() * products::tiles(x_.dim) * (x_.group + (x_.beta ? 1 : 0)));
    f_.transpose_keys();
    if (x_.beta) right_sides(known);
    const bool channels = x_.decays_channels;
    transpose_state(s_, channels ? x_.decay.row(0) : nullptr, false, st_);
    transpose_state(ds_, channels ? f_.of_channels().p.row(x_.count - 1) : nullptr, true, dst_);
    transpose_rows<Arch, T>(f_.u(), x_.count, x_.width, m_.u_columns);
    for (index_type g = 0; g < x_.group; ++g) {
      const row_list<const T> q = f_.weigh_keys(g, of_out());
      by_values(g), by_query_and_key(g, q);
    }
    if (x_.beta) by_recall();
    for (index_type g = 0; g < x_.group; ++g) by_state(g);
    sum_rows(s_, ds_, m_.row_sums);
    return true;
  }

  /// to_i = sum_c s(i, c) ds(i, c).
  FOVEA_NOINLINE FOVEA_FLATTEN static void sum_rows(const strips& s, const strips& ds, T* to) noexcept {
    for (index_type i = 0; i < s.dim; ++i) {
      R sum(T(0));
      for (index_type j = 0; j < s.count(); ++j)
        for (index_type c = 0; c < s.width_of(j); c += n) {
          const index_type at = i * s.width_of(j) + c;
          sum = kernel::isa<Arch>::fma(R::load_unaligned(s.strip(j) + at),
                                       R::load_unaligned(ds.strip(j) + at), sum);
        }
      to[i] = total<Arch, T>(sum);
    }
  }

 private:
  row_list<const T> d_out(index_type g) const noexcept {
    return {d_out_.first + g * d_out_head_, d_out_.step};
  }
  /// What o_t is multiplied by.
  row_list<const T> of_out() const noexcept { return all_rows(x_.scale); }
  /// The same times P_t of tokens: of d_out where it meets the state.
  row_list<const T> of_out_and_state() const noexcept {
    if (!f_.by_tokens()) return of_out();
    for (index_type t = 0; t < x_.count; ++t) m_.factors[t] = f_.of_tokens().p[t] * x_.scale;
    return {m_.factors, 1};
  }
  /// E of tokens.
  row_list<const T> e() const noexcept {
    return f_.by_tokens() ? f_.of_tokens().e(x_.count) : row_list<const T>{};
  }
  auto backwards(const row_list<const T>& x) const noexcept { return x ? x.reversed(x_.count) : x; }
  auto backwards(const row_list<T>& x) const noexcept { return x.reversed(x_.count); }

  /// x and u of all tokens.
  void right_sides(const row_list<const T>& known) const noexcept {
    f_.weigh_recall();
    if (known) {
      products::scale_rows(x_.count, known, {x_.beta, 1}, {fm_.u, x_.width}, x_.width);
    } else {
      const strips before{m_.s_transposed, s_.dim, s_.width};
      if (x_.decays_channels) scale_state(s_, x_.decay.row(0), before);
      for (index_type j = 0; j < s_.count(); ++j) f_.solve(x_.decays_channels ? before : s_, j, m_.x);
    }
  }

  /// du, with query head g.
  void by_values(index_type g) const noexcept {
    const row_sums<T, backward_triangle<T>> du{
        .weight = reversed(static_cast<const T*>(fm_.attention), x_.count),
        .left = g == 0 ? backwards(f_.stored_keys()) : row_list<const T>{},
        .depth = g == 0 ? x_.dim : 0,
        .right = backwards(d_out(g)),
        .add = g == 0 ? row_list<const T>{} : row_list<const T>(backwards(m_.du)),
        .before = g == 0 ? backwards(e()) : row_list<const T>{},
        .to = backwards(m_.du)};
    for (index_type j = 0; j < ds_.count(); ++j) products::template rows<false>(x_.count, du, ds_, j, soon_);
  }

  /// d_q of query head g, and right d_k with it.
  void by_query_and_key(index_type g, const row_list<const T>& q) const noexcept {
    products::scores(x_.count, d_out(g), m_.u_columns, x_.width, m_.of_values);
    weigh<Arch>(x_.count, f_.of_pairs(), of_out(), m_.of_values);
    const row_sums<T, forward_triangle<T>> d_q{.weight = {m_.of_values},
                                               .left = d_out(g),
                                               .depth = x_.width,
                                               .right = f_.stored_keys(),
                                               .before = of_out_and_state(),
                                               .to = m_.d_q_of(g)};
    const row_sums<T, backward_triangle<T>> d_k{
        .weight = reversed(static_cast<const T*>(m_.of_values), x_.count),
        .left = g == 0 ? backwards(f_.u()) : row_list<const T>{},
        .depth = g == 0 ? x_.width : 0,
        .right = backwards(q),
        .add = g == 0 ? row_list<const T>{} : row_list<const T>(backwards(m_.d_right)),
        .before = g == 0 ? backwards(e()) : row_list<const T>{},
        .to = backwards(m_.d_right)};
    for (index_type j = 0; j < st_.count(); ++j) {
      products::template rows<false>(x_.count, d_q, st_, j, soon_);
      products::template rows<false>(x_.count, d_k, dst_, j, soon_);
    }
  }

  /// dx, and what is recalled: left d_k, and right d_k with it.
  void by_recall() const noexcept {
    const row_sums<T, backward_triangle<T>> dx{.weight = reversed(static_cast<const T*>(fm_.solve), x_.count),
                                               .add = backwards(m_.du),
                                               .after = backwards(row_list<const T>{x_.beta, 1}),
                                               .to = backwards(m_.dx),
                                               .unscaled = backwards(m_.z)};
    for (index_type j = 0; j < ds_.count(); ++j) products::template rows<true>(x_.count, dx, ds_, j, soon_);
    products::scores(x_.count, m_.dx, m_.u_columns, x_.width, m_.recalled);
    // Of channels the recalling keys have the sign, and finish_channels gives it to left d_k.
    constexpr T minus_one = T(-1);
    if (!x_.decays_channels) weigh<Arch>(x_.count, f_.of_pairs(), all_rows(minus_one), m_.recalled);
    for (index_type t = 0; t < x_.count; ++t) m_.recalled[t * (chunk_tokens + 1)] = T(0);
    const row_sums<T, forward_triangle<T>> left{.weight = {m_.recalled},
                                                .left = m_.dx,
                                                .depth = x_.width,
                                                .right = f_.stored_keys(),
                                                .before = f_.minus_p(),
                                                .to = m_.d_left};
    const row_sums<T, backward_triangle<T>> right{
        .weight = reversed(static_cast<const T*>(m_.recalled), x_.count),
        .right = backwards(f_.recalling_keys()),
        .add = backwards(m_.d_right),
        .to = backwards(m_.d_right)};
    for (index_type j = 0; j < st_.count(); ++j) {
      products::template rows<false>(x_.count, left, st_, j, soon_);
      products::template rows<false>(x_.count, right, dst_, j, soon_);
    }
  }

  /// ds with query head g; with the last one, of what is recalled.
  void by_state(index_type g) const noexcept {
    row_list<const T> q = x_.q(g);
    if (x_.decays_channels && x_.group > 1) f_.of_channels().decay_queries(x_, g);
    if (x_.decays_channels) q = f_.of_channels().q;
    products::scale_rows(x_.count, d_out(g), of_out_and_state(), m_.scaled, x_.width);
    // Of channels S stands with the first decay, and so does dS in the end.
    const row_list<const T> first{x_.decays_channels ? x_.decay.row(0) : nullptr, 1};
    const bool last = g + 1 == x_.group;
    const row_list<const T> p{g == 0 && f_.by_tokens() ? f_.of_tokens().p + x_.count - 1 : nullptr, 0};
    for (index_type j = 0; j < ds_.count(); ++j)
      products::update(x_.count, p, q, m_.scaled, last && !x_.beta ? first : row_list<const T>{}, ds_, ds_, j,
                       soon_);
    if (!x_.beta || !last) return;
    row_list<const T> right = m_.dx;
    if (!x_.decays_channels) {
      products::scale_rows(x_.count, right, f_.minus_p(), m_.scaled, x_.width);
      right = m_.scaled;
    }
    for (index_type j = 0; j < ds_.count(); ++j)
      products::update(x_.count, {}, f_.recalling_keys(), right, first, ds_, ds_, j, soon_);
  }

  const token_block<T>& x_;
  const chunk<Arch, T>& f_;
  const chunk_memory<Arch, T>& fm_;
  strips s_, ds_, st_, dst_;
  row_list<const T> d_out_;
  index_type d_out_head_;
  const gradient_memory<Arch, T>& m_;
  chunk_prefetch& soon_;
};

}  // namespace linear
FOVEA_NAMESPACE_END
