// fovea/linear/chunk.hpp - the update rules by products of matrices, a chunk of tokens at a time.
//
// With P, D and E of decays.hpp (numbers, or vectors over the channels of k), n the chunk's last token, S the
// state before it, all causal:
//
//   o_t = (P_t q_t) S + sum_{s <= t} (q_t D_ts k_s) u_s          S <- P_n S + sum_s (E_s k_s) u_s^T
//   u_t = v_t                                                                       linear, gated
//   u_t = beta_t (v_t - (P_t k_t) S - sum_{s < t} (k_t D_ts k_s) u_s)               delta, gated delta
//
// The last line is solved row by row: the UT transform of Yang et al., arXiv:2406.06484, without its
// inverse. A chunk whose decays of channels lie too far apart for D_ts = P_t / P_s goes token by token.
#pragma once

#include <fovea/kernel/tile/packing.hpp>
#include <fovea/linear/decays.hpp>
#include <fovea/linear/products.hpp>
#include <fovea/linear/recurrence.hpp>

FOVEA_NAMESPACE_BEGIN
namespace linear {

/// What a chunk is worked on in: numbers of T, in the order of the members.
template <class Arch, class T>
struct chunk_memory {
  static constexpr index_type tokens = chunk_tokens;
  T *channels, *of_tokens, *k_columns, *u, *u_left, *attention, *solve;

  static index_type numbers(index_type dim_step, index_type width, bool decays_channels) noexcept {
    return (decays_channels ? channel_decays<Arch, T>::numbers(dim_step) : token_decays<Arch, T>::numbers) +
           tokens * (dim_step + 2 * width + 2 * tokens);
  }
  chunk_memory(T* first, index_type dim_step, index_type width, bool decays_channels) noexcept {
    const auto take = [&](index_type count) { return std::exchange(first, first + count); };
    channels = take(decays_channels ? channel_decays<Arch, T>::numbers(dim_step) : 0);
    of_tokens = take(decays_channels ? 0 : token_decays<Arch, T>::numbers);
    k_columns = take(tokens * dim_step), u = take(tokens * width), u_left = take(tokens * width);
    attention = take(tokens * tokens), solve = take(tokens * tokens);
  }
};

/// to[c * chunk_tokens + t] = x_t[c].
template <class Arch, class T>
void transpose_rows(const row_list<const T>& x, index_type count, index_type dim, T* to) noexcept {
  constexpr index_type n = lanes<Arch, T>;
  for (index_type t = 0; t < count; t += n)
    kernel::pack<Arch, T, T>({x.first, count, dim, x.step, 1}, {t, std::min(t + n, count)}, T(1), to + t,
                             chunk_tokens);
}

/// Weights w(t, s), s <= t, times D_ts where it is given, and a factor a row.
template <class Arch, class T>
FOVEA_NOINLINE FOVEA_FLATTEN void weigh(index_type count, const T* d, row_list<const T> factor,
                                        T* w) noexcept {
  using R = vec<Arch, T>;
  for (index_type t = 0; t < count; ++t)
    for (index_type c = t * chunk_tokens; c <= t * chunk_tokens + t; c += lanes<Arch, T>) {
      const R s = R::load_aligned(w + c) * R(*factor.row(t));
      (d ? s * R::load_aligned(d + c) : s).store_aligned(w + c);
    }
}
/// The same factor for all rows.
template <class T>
row_list<const T> all_rows(const T& factor) noexcept {
  return {&factor, 0};
}

template <class Arch, class T>
class chunk {
  using products = chunk_products<Arch, T>;
  static constexpr T one = T(1), minus_one = T(-1);

 public:
  chunk(const token_block<T>& tokens, const state_strips<Arch, T>& state, const chunk_memory<Arch, T>& memory,
        chunk_prefetch& soon) noexcept
      : x_(tokens),
        s_(state),
        m_(memory),
        soon_(soon),
        by_token_(m_.of_tokens),
        by_channel_(m_.channels, x_.dim_step) {}

  /// Results and the state after the chunk. False, and nothing done, where the decays of some channel lie
  /// too far apart.
  bool run() const noexcept {
    if (!decay()) return false;
    soon_.deal(s_.count() *
               (products::tiles(x_.count) * (x_.group + (x_.beta ? 1 : 0)) + products::tiles(x_.dim)));
    transpose_keys();
    if (x_.beta) weigh_recall();
    for (index_type g = 0; g < x_.group; ++g) {
      const row_list<const T> q = weigh_keys(g);
      const row_sums<T, forward_triangle<T>> out{.weight = {m_.attention},
                                                 .left = q,
                                                 .depth = x_.dim,
                                                 .right = u(),
                                                 .before = {by_tokens() ? by_token_.p : nullptr, 1},
                                                 .after = all_rows(x_.scale),
                                                 .to = x_.o(g)};
      for (index_type j = 0; j < s_.count(); ++j) {
        if (g == 0 && x_.beta) solve(s_, j, {});
        products::template rows<false>(x_.count, out, s_, j, soon_);
        if (g + 1 == x_.group) update(s_, j);
      }
    }
    return true;
  }

  /// The state after the chunk alone, into `to`; `unscaled` gets u_t / beta_t.
  bool advance(const state_strips<Arch, T>& to, const row_list<T>& unscaled) const noexcept {
    if (!decay()) return false;
    soon_.deal(s_.count() * (products::tiles(x_.count) * (x_.beta ? 1 : 0) + products::tiles(x_.dim)));
    if (x_.beta) transpose_keys(), weigh_recall();
    for (index_type j = 0; j < s_.count(); ++j) {
      if (x_.beta) solve(s_, j, unscaled);
      update(to, j);
    }
    return true;
  }

  // The steps of these, for the gradient as well.

  bool by_tokens() const noexcept { return x_.decay && !x_.decays_channels; }
  /// D of tokens, or a null pointer.
  const T* of_pairs() const noexcept { return by_tokens() ? by_token_.d : nullptr; }
  const token_decays<Arch, T>& of_tokens() const noexcept { return by_token_; }
  const channel_decays<Arch, T>& of_channels() const noexcept { return by_channel_; }
  /// Keys as they are stored: k, or k / P of channels. As they recall: k, or -P k of channels; where the
  /// state meets them those of tokens are multiplied by minus_p().
  row_list<const T> stored_keys() const noexcept {
    return x_.decays_channels ? row_list<const T>(by_channel_.k_inverse) : x_.k;
  }
  row_list<const T> recalling_keys() const noexcept {
    return x_.decays_channels ? row_list<const T>(by_channel_.k_recalling) : x_.k;
  }
  row_list<const T> minus_p() const noexcept {
    if (x_.decays_channels) return {};
    return by_tokens() ? row_list<const T>{by_token_.minus_p, 1} : all_rows(minus_one);
  }
  row_list<const T> u() const noexcept { return x_.beta ? row_list<const T>{m_.u, x_.width} : x_.v; }

  /// The decays. `first_is_one`: the state has the first token's already.
  bool decay(bool first_is_one = false) const noexcept {
    if (x_.decays_channels && !by_channel_.make(x_, first_is_one)) return false;
    if (by_tokens()) by_token_.make(x_.decay, x_.count);
    return true;
  }
  void transpose_keys() const noexcept {
    transpose_rows<Arch, T>(stored_keys(), x_.count, x_.dim, m_.k_columns);
  }

  /// -(k_t D_ts k_s): what a token recalls of those before it in the chunk.
  void weigh_recall() const noexcept {
    products::scores(x_.count, recalling_keys(), m_.k_columns, x_.dim, m_.solve);
    if (!x_.decays_channels) weigh<Arch>(x_.count, of_pairs(), all_rows(minus_one), m_.solve);
  }

  /// q_t D_ts k_s of query head g of the group, times a factor of t where it is given; the rows that meet the
  /// state.
  row_list<const T> weigh_keys(index_type g, const row_list<const T>& factor = {}) const noexcept {
    row_list<const T> q = x_.q(g);
    if (x_.decays_channels) by_channel_.decay_queries(x_, g), q = by_channel_.q;
    products::scores(x_.count, q, m_.k_columns, x_.dim, m_.attention);
    if (by_tokens() || factor)
      weigh<Arch>(x_.count, of_pairs(), factor ? factor : all_rows(one), m_.attention);
    return q;
  }

  /// u of strip j of `s`, the state.
  void solve(const state_strips<Arch, T>& s, index_type j, const row_list<T>& unscaled) const noexcept {
    products::template rows<true>(x_.count,
                                  row_sums<T, forward_triangle<T>>{.weight = {m_.solve},
                                                                   .left = recalling_keys(),
                                                                   .depth = x_.dim,
                                                                   .add = x_.v,
                                                                   .before = minus_p(),
                                                                   .after = {x_.beta, 1},
                                                                   .to = {m_.u, x_.width},
                                                                   .unscaled = unscaled},
                                  s, j, soon_);
  }

  /// to = P_n S + sum_s k_s (E_s u_s)^T in strip j; of channels P_n (S + sum_s (k_s / P_s) u_s^T).
  void update(const state_strips<Arch, T>& to, index_type j) const noexcept {
    if (x_.decays_channels) {
      const row_list<const T> last{by_channel_.p.row(x_.count - 1), 1};
      return products::update(x_.count, {}, by_channel_.k_inverse, u(), last, s_, to, j, soon_);
    }
    if (!x_.decay) return products::update(x_.count, {}, x_.k, u(), {}, s_, to, j, soon_);
    const row_list<T> left{m_.u_left, x_.width};
    products::scale_rows(x_.count, u().from_column(s_.column(j)), by_token_.e(x_.count),
                         left.from_column(s_.column(j)), s_.width_of(j));
    products::update(x_.count, {by_token_.p + x_.count - 1, 0}, x_.k, left, {}, s_, to, j, soon_);
  }

 private:
  const token_block<T>& x_;
  const state_strips<Arch, T>& s_;
  const chunk_memory<Arch, T>& m_;
  chunk_prefetch& soon_;
  token_decays<Arch, T> by_token_;
  channel_decays<Arch, T> by_channel_;
};

}  // namespace linear
FOVEA_NAMESPACE_END
