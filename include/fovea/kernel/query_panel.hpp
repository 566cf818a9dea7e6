// fovea/kernel/query_panel.hpp - up to W registers of queries, queries in lanes: the form for long inputs.
//
// Q^T is packed once, [dim][lanes]; K and V are read as they lie, each element broadcast. All that belongs to
// a query stays in its lane: maxima, sums and exponents need no shuffle. The product with V is the same
// micro-kernel again.
#pragma once

#include <fovea/kernel/lines_ahead.hpp>
#include <fovea/kernel/operand.hpp>
#include <fovea/kernel/softmax.hpp>
#include <fovea/kernel/tile.hpp>

#include <array>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

template <class Arch, class T, int W, unit_of Units>
class query_panel {
  using V = vec<Arch, T>;
  using state_type = softmax_state<Arch, T, Units>;
  using here = cells<Arch, T, in_lanes::queries>;
  using shape = geometry<Arch>;
  static constexpr index n = static_cast<index>(V::size);
  using row_stride = std::integral_constant<index, W * n>;

 public:
  static constexpr index width = W * n;
  using per_query = std::array<V, W>;

  /// Elements of T that a panel keeps from its first block of keys to its last.
  FOVEA_INLINE static index kept_elements(index dim, index value_dim) noexcept {
    return width * (dim + value_dim + 2);
  }

  FOVEA_INLINE query_panel(T* kept, T* logits, range rows, index dim, index value_dim) noexcept
      : rows_(rows),
        dim_(dim),
        value_dim_(value_dim),
        q_(kept),
        o_(q_ + width * dim),
        m_(o_ + width * value_dim),
        l_(m_ + width),
        s_(logits) {}

  FOVEA_INLINE range rows() const noexcept { return rows_; }

  /// Packs scale * Q^T and starts with no key seen.
  template <class E>
  FOVEA_NOINLINE void open(const matrix_view<const E>& q, T scale) const noexcept {
    for (int w = 0; w < W; ++w) {
      pack(q, rows_.first + w * n, std::min(n, rows_.last - rows_.first - w * n), scale, q_ + w * n);
      store(w, state_type::empty());
    }
    for (index i = 0; i < width * value_dim_; ++i) o_[i] = T(0);
  }

  /// S = Q K^T, and the largest logit of each query.
  FOVEA_NOINLINE per_query dot_keys(const rows_of<T>& k, index keys,
                                    lines_ahead<false> ahead = {}) const noexcept {
    const index lines = ahead.share(ceil_div(keys, index(shape::tile_rows)));
    per_query largest;
    largest.fill(V(hidden<T>));
    const auto tile_of = [&](auto rows, index j) FOVEA_INLINE_LAMBDA {
      ahead.fetch(lines);
      auto s = outer_sum<Arch, rows(), W>(k.data + j * k.stride, k.stride, unit{}, q_, row_stride{}, dim_);
      s.each([&](auto r, auto w, V& x) FOVEA_INLINE_LAMBDA {
        x.store_aligned(s_ + (j + r) * width + w * n);
        largest[w] = xsimd::max(largest[w], x);
      });
    };
    in_tiles<shape::tile_rows>(keys, tile_of);
    return largest;
  }

  /// Applies scores and mask to S, a square of n keys x n queries at a time, and finds the largest logits
  /// anew.
  template <class Rules>
  FOVEA_NOINLINE per_query revise(const Rules& rules, range keys) const noexcept {
    alignas(64) T room[std::max<index>(1, Rules::matrices * n * n)];
    per_query largest;
    for (int w = 0; w < W; ++w) {
      V most(hidden<T>);
      const index query = rows_.first + w * n, queries = std::min(n, rows_.last - query);
      for (range some{keys.first, keys.first}; some.first < keys.last; some.first = some.last) {
        some.last = std::min(some.first + n, keys.last);
        T* s = s_ + (some.first - keys.first) * width + w * n;
        most = xsimd::max(most, revise_square(rules, {query, some.first, queries, some.size(), room}, s));
      }
      largest[w] = most;
    }
    return largest;
  }

  /// P = exp(S - m); returns what the sums so far are worth now.
  template <bool Hides>
  FOVEA_NOINLINE per_query absorb(index keys, const per_query& largest) const noexcept {
    per_query shrink;
    for (int w = 0; w < W; ++w) {
      auto state = load(w);
      shrink[w] = state.raise(largest[w]);
      V even(T(0)), odd(T(0));
      const auto exponentiate = [&](index j) FOVEA_INLINE_LAMBDA {
        T* s = s_ + j * width + w * n;
        const V p = state.template probability<Hides>(V::load_aligned(s));
        p.store_aligned(s);
        return p;
      };
      index j = 0;
      for (; j + 2 <= keys; j += 2) {
        even = even + exponentiate(j);
        odd = odd + exponentiate(j + 1);
      }
      if (j < keys) even = even + exponentiate(j);
      state.add(shrink[w], even + odd);
      store(w, state);
    }
    return shrink;
  }

  /// O = O * shrink + P V
  FOVEA_NOINLINE void add_values(const rows_of<T>& v, index keys, const per_query& shrink,
                                 lines_ahead<true> ahead = {}) const noexcept {
    const index lines = ahead.share(ceil_div(value_dim_, index(shape::tile_rows)));
    const auto tile_of = [&](auto columns, index c) FOVEA_INLINE_LAMBDA {
      ahead.fetch(lines);
      auto sum = outer_sum<Arch, columns(), W>(v.data + c, unit{}, v.stride, s_, row_stride{}, keys);
      sum.each([&](auto r, auto w, V& x) FOVEA_INLINE_LAMBDA { add(c + r, w, shrink[w], x); });
    };
    in_tiles<shape::tile_rows>(value_dim_, tile_of);
  }

  /// The same where V holds NaN or infinities: what a query does not see is left out, not multiplied by 0.
  FOVEA_NOINLINE void add_seen_values(const rows_of<T>& v, index keys,
                                      const per_query& shrink) const noexcept {
    for (index c = 0; c < value_dim_; ++c)
      for (int w = 0; w < W; ++w) {
        V sum(T(0));
        for (index j = 0; j < keys; ++j) {
          const V p = V::load_aligned(s_ + j * width + w * n);
          const V seen = xsimd::select(p == V(T(0)), V(T(0)), V(v.data[j * v.stride + c]));
          sum = isa<Arch>::fma(p, seen, sum);
        }
        add(c, w, shrink[w], sum);
      }
  }

  /// Takes in a sink: a logit in natural units.
  FOVEA_INLINE void absorb_sink(T logit) const noexcept {
    if constexpr (Units == unit_of::log2) logit *= static_cast<T>(std::numbers::log2e);
    for (int w = 0; w < W; ++w) {
      auto state = load(w);
      const V shrink = state.absorb_sink(V(logit));
      for (index c = 0; c < value_dim_; ++c) add(c, w, shrink, V(T(0)));
      store(w, state);
    }
  }

  /// Writes O / l, row by row.
  template <class E>
  FOVEA_NOINLINE void close(const matrix_view<E>& out) const noexcept {
    for (int w = 0; w < W; ++w)
      unpack(o_ + w * n, load(w).reciprocal(), out, rows_.first + w * n,
             std::min(n, rows_.last - rows_.first - w * n));
  }

  /// Writes the LSE of each query into the one column of `lse`.
  template <class E>
  FOVEA_NOINLINE void close_lse(const matrix_view<E>& lse) const noexcept {
    alignas(64) T value[width];
    for (int w = 0; w < W; ++w) load(w).lse().store_aligned(value + w * n);
    for (index i = 0; i < rows_.size(); ++i) lse(rows_.first + i, 0) = static_cast<E>(value[i]);
  }

  /// f(query, key, logit) for each cell of the block just revised.
  template <class F>
  FOVEA_INLINE void each_logit(range keys, F&& f) const noexcept {
    for (index i = 0; i < rows_.size(); ++i)
      for (index j = 0; j < keys.size(); ++j) f(rows_.first + i, keys.first + j, s_[j * width + i]);
  }

 private:
  template <class Rules>
  FOVEA_INLINE static V revise_square(const Rules& all_rules, square<Arch, T> at, T* s) noexcept {
    V most(hidden<T>);
    const coverage covered =
        cover_of(all_rules.mask, {at.query, at.query + at.queries}, {at.key, at.key + at.keys});
    if (covered == coverage::none) {
      for (index j = 0; j < at.keys; ++j) most.store_aligned(s + j * width);
      return most;
    }
    const auto rules = all_rules.near(at);
    for (index j = 0; j < at.keys; ++j, s += width) {
      const V x = revised<Arch>(rules, covered, V::load_aligned(s), here{at.query, at.key + j, at.queries});
      x.store_aligned(s);
      most = xsimd::max(most, x);
    }
    return most;
  }

  FOVEA_INLINE state_type load(int w) const noexcept {
    return {V::load_aligned(m_ + w * n), V::load_aligned(l_ + w * n)};
  }
  FOVEA_INLINE void store(int w, const state_type& s) const noexcept {
    s.m.store_aligned(m_ + w * n);
    s.l.store_aligned(l_ + w * n);
  }
  FOVEA_INLINE void add(index c, int w, const V& shrink, const V& sum) const noexcept {
    T* o = o_ + c * width + w * n;
    isa<Arch>::fma(V::load_aligned(o), shrink, sum).store_aligned(o);
  }

  // f(constant rows, first) for tiles of Rows, and of smaller powers of two at the end.
  template <int Rows, class F>
  FOVEA_INLINE static void in_tiles(index count, F&& f) noexcept {
    index i = 0;
    for (; i + Rows <= count; i += Rows) f(std::integral_constant<int, Rows>{}, i);
    if constexpr (Rows > 4)
      if (count - i >= 4) f(std::integral_constant<int, 4>{}, i), i += 4;
    if (count - i >= 2) f(std::integral_constant<int, 2>{}, i), i += 2;
    if (count - i >= 1) f(std::integral_constant<int, 1>{}, i);
  }

  // One register of queries: dst[c * width + lane] = scale * q(first + lane, c); lanes beyond `count` are 0.
  template <class E>
  FOVEA_INLINE void pack(const matrix_view<const E>& q, index first, index count, T scale,
                         T* dst) const noexcept {
    alignas(64) T row[n] = {};
    if (q.row_stride == 1) {  // a column of queries lies as a register of them
      for (index c = 0; c < dim_; ++c) {
        load_elements(q.at(first, c), index(1), count, row);
        (V::load_aligned(row) * V(scale)).store_aligned(dst + c * width);
      }
      return;
    }
    for (index c = 0; c < dim_; c += n) {
      const index columns = std::min(n, dim_ - c);
      V v[n];
      for (index i = 0; i < n; ++i) {
        v[i] = V(T(0));
        if (i >= count) continue;
        const E* from = q.at(first + i, c);
        if constexpr (std::is_same_v<T, E>)
          if (q.col_stride == 1 && columns == n) {
            v[i] = V::load_unaligned(from) * V(scale);
            continue;
          }
        for (index e = 0; e < n; ++e) row[e] = T(0);
        load_elements(from, q.col_stride, columns, row);
        v[i] = V::load_aligned(row) * V(scale);
      }
      isa<Arch>::transpose(v);
      for (index e = 0; e < columns; ++e) v[e].store_aligned(dst + (c + e) * width);
    }
  }

  template <class E>
  FOVEA_INLINE void unpack(const T* src, const V& factor, const matrix_view<E>& out, index first,
                           index count) const noexcept {
    alignas(64) T row[n];
    if (out.row_stride == 1) {
      for (index c = 0; c < value_dim_; ++c) {
        (V::load_aligned(src + c * width) * factor).store_aligned(row);
        store_elements(row, count, out.at(first, c), index(1));
      }
      return;
    }
    for (index c = 0; c < value_dim_; c += n) {
      const index columns = std::min(n, value_dim_ - c);
      V v[n];
      for (index e = 0; e < n; ++e)
        v[e] = e < columns ? V::load_aligned(src + (c + e) * width) * factor : V(T(0));
      isa<Arch>::transpose(v);
      for (index i = 0; i < count; ++i) {
        E* to = out.at(first + i, c);
        if constexpr (std::is_same_v<T, E>)
          if (out.col_stride == 1 && columns == n) {
            v[i].store_unaligned(to);
            continue;
          }
        v[i].store_aligned(row);
        store_elements(row, columns, to, out.col_stride);
      }
    }
  }

  range rows_;
  index dim_, value_dim_;
  T *q_, *o_, *m_, *l_, *s_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
