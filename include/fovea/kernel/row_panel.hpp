// fovea/kernel/row_panel.hpp - a few query rows that share a key/value head, dim in lanes: the form for short
// inputs and for decoding, where reading K and V is most of the work.
//
// A row is one query of one head; all heads of a group are rows of one panel, so each key and value is read
// once for all of them. Scores are inner products (reduced by a tree of zips), the softmax has keys in lanes,
// and the product with V is the outer-sum micro-kernel with columns in lanes. Rows of K and V are read in
// place, whatever their width: the last register overlaps the one before.
#pragma once

#include <fovea/kernel/lines_ahead.hpp>
#include <fovea/kernel/operand.hpp>
#include <fovea/kernel/softmax.hpp>
#include <fovea/kernel/tile.hpp>

#include <array>
#include <cstring>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

template <class Arch, class T, unit_of Units>
class row_panel {
  using V = vec<Arch, T>;
  using state_type = softmax_state<Arch, T, Units>;
  using here = cells<Arch, T, in_lanes::keys>;
  using shape = geometry<Arch>;
  static constexpr index n = static_cast<index>(V::size);
  static constexpr index block = shape::few_rows_block;

 public:
  static constexpr index max_rows = shape::few_rows;
  using per_row = std::array<V, max_rows>;

  /// Elements of T that a panel keeps from its first block of keys to its last.
  FOVEA_INLINE static index kept_elements(index dim, index value_dim) noexcept {
    return max_rows * (round_up(dim, n) + round_up(value_dim, n) + 2 * n);
  }
  /// How wide rows of K and V are read: at least one register.
  FOVEA_INLINE static index read_width(index dim) noexcept { return dim == 0 ? 0 : std::max(dim, n); }
  static constexpr index logit_elements = max_rows * block;

  /// Row r is query queries.first + (rows.first + r) % |queries| of head (rows.first + r) / |queries| of the
  /// group.
  FOVEA_INLINE row_panel(T* kept, T* logits, range rows, range queries, index dim, index value_dim) noexcept
      : rows_(rows),
        dim_(read_width(dim)),
        value_dim_(read_width(value_dim)),
        columns_(value_dim),
        q_(kept),
        o_(q_ + max_rows * round_up(dim, n)),
        m_(o_ + max_rows * round_up(value_dim, n)),
        l_(m_ + max_rows * n),
        s_(logits) {
    const index each = queries.size();
    index head = each == 1 ? rows.first : rows.first / each, i = rows.first - head * each;
    for (index r = 0; r < rows.size(); ++r) {
      places_[r] = {head, queries.first + i};
      if (++i == each) ++head, i = 0;
    }
  }

  FOVEA_INLINE index count() const noexcept { return rows_.size(); }
  FOVEA_INLINE index head(index r) const noexcept { return places_[r].head; }
  FOVEA_INLINE index query(index r) const noexcept { return places_[r].query; }

  /// Copies scale * Q and starts with no key seen. `q(h)` is query head h of the group.
  template <class Q>
  FOVEA_NOINLINE void open(const Q& q, T scale) const noexcept {
    for (index r = 0; r < count(); ++r) {
      const auto all = q(head(r));
      copy_row(all.at(query(r)), all.col_stride, all.cols, scale, q_row(r));
      for (index i = 0; i * n < value_dim_; ++i) V(T(0)).store_aligned(o_row(r) + i * n);
      store(r, state_type::empty());
    }
  }

  /// S = Q K^T, asking for the lines `ahead` meanwhile.
  FOVEA_NOINLINE void dot_keys(const rows_of<T>& k, index keys, lines_ahead ahead = {}) const noexcept {
    constexpr index most = n < 4 ? n : 4;
    index r = 0;
    for (; r + most <= count(); r += most) dot_rows<most>(k, keys, r, ahead);
    if constexpr (most > 2)
      if (r + 2 <= count()) dot_rows<2>(k, keys, r, ahead), r += 2;
    if (r < count()) dot_rows<1>(k, keys, r, ahead);
  }

  /// Applies scores and mask to row r of S, the mask being that of the row's head, and pads it with hidden
  /// cells.
  template <class Rules>
  FOVEA_NOINLINE FOVEA_FLATTEN V revise(const Rules& rules, coverage covered, index r,
                                        range keys) const noexcept {
    V largest(hidden<T>);
    for (index j = 0; j < round_up(keys.size(), n); j += n) {
      T* s = s_ + r * block + j;
      const here at{query(r), keys.first + j, keys.size() - j};
      V x = revised<Arch>(rules, covered, V::load_aligned(s), at);
      if (at.count < n)
        x = xsimd::select(counting_up<Arch, T>() < V(static_cast<T>(at.count)), x, V(hidden<T>));
      x.store_aligned(s);
      largest = xsimd::max(largest, x);
    }
    return largest;
  }

  /// Row r: P = exp(S - m); returns what the sums so far are worth now.
  FOVEA_NOINLINE V absorb(index r, index keys, const V& largest_by_lane) const noexcept {
    auto state = load(r);
    const V worth = state.raise(max_over_lanes<Arch, T>(largest_by_lane));
    V sum(T(0));
    for (index j = 0; j < keys; j += n) {
      T* s = s_ + r * block + j;
      const V p = state.template probability<true>(V::load_aligned(s));
      p.store_aligned(s);
      sum = sum + p;
    }
    state.add(worth, sum);
    store(r, state);
    return worth;
  }

  /// O = O * shrink + P V, asking for the lines `ahead` meanwhile.
  FOVEA_NOINLINE void add_values(const rows_of<T>& v, index keys, const per_row& shrink,
                                 lines_ahead ahead = {}) const noexcept {
    index r = 0;
    for (; r + 4 <= count(); r += 4) add_to_rows<4>(v, keys, r, shrink, ahead);
    if (r + 2 <= count()) add_to_rows<2>(v, keys, r, shrink, ahead), r += 2;
    if (r < count()) add_to_rows<1>(v, keys, r, shrink, ahead);
  }

  /// The same where V holds NaN or infinities: what a row does not see is left out, not multiplied by 0.
  FOVEA_NOINLINE void add_seen_values(const rows_of<T>& v, index keys, const per_row& shrink) const noexcept {
    for (index r = 0; r < count(); ++r)
      for (index i = 0; i * n < value_dim_; ++i) {
        V sum(T(0));
        for (index j = 0; j < keys; ++j)
          if (const T p = s_[r * block + j]; p != T(0))
            sum = isa<Arch>::fma(V::load_unaligned(v.data + j * v.stride + start_of<Arch, T>(i, value_dim_)),
                                 V(p), sum);
        add(r, i, shrink[r], sum);
      }
  }

  FOVEA_INLINE void absorb_sink(index r, T logit) const noexcept {
    if constexpr (Units == unit_of::log2) logit *= static_cast<T>(std::numbers::log2e);
    auto state = total(r);
    const V shrink = state.absorb_sink(V(logit));
    for (index i = 0; i * n < value_dim_; ++i) add(r, i, shrink, V(T(0)));
    alignas(64) T first[n] = {};
    alignas(64) T all[n];
    state.l.store_aligned(all);
    first[0] = all[0];
    store(r, {state.m, V::load_aligned(first)});
  }

  /// Writes O / l; `out(h)` is query head h of the group.
  template <class Out>
  FOVEA_NOINLINE void close(const Out& out) const noexcept {
    for (index r = 0; r < count(); ++r) {
      const auto to = out(head(r));
      close_row(r, total(r).reciprocal(), to.at(query(r)), to.col_stride);
    }
  }

  template <class Lse>
  FOVEA_NOINLINE void close_lse(const Lse& lse) const noexcept {
    for (index r = 0; r < count(); ++r) {
      alignas(64) T value[n];
      total(r).lse().store_aligned(value);
      *lse(head(r)).at(query(r)) = value[0];
    }
  }

 private:
  FOVEA_INLINE state_type load(index r) const noexcept {
    return {V::load_aligned(m_ + r * n), V::load_aligned(l_ + r * n)};
  }
  FOVEA_INLINE void store(index r, const state_type& s) const noexcept {
    s.m.store_aligned(m_ + r * n);
    s.l.store_aligned(l_ + r * n);
  }
  // The state with the sum over all lanes in each lane.
  FOVEA_INLINE state_type total(index r) const noexcept {
    return {V::load_aligned(m_ + r * n), sum_over_lanes<Arch, T>(V::load_aligned(l_ + r * n))};
  }
  FOVEA_INLINE T* q_row(index r) const noexcept { return q_ + r * round_up(dim_, n); }
  FOVEA_INLINE T* o_row(index r) const noexcept { return o_ + r * round_up(value_dim_, n); }

  // dst = scale * src, register by register, with zeros beyond and where the last overlaps the one before.
  template <class E>
  FOVEA_INLINE void copy_row(const E* src, index stride, index count, T scale, T* dst) const noexcept {
    index c = 0;
    if constexpr (std::is_same_v<T, E>)
      if (stride == 1)
        for (; c + n <= count; c += n) (V::load_unaligned(src + c) * V(scale)).store_aligned(dst + c);
    for (; c < count; c += n) {
      alignas(64) T part[n] = {};
      const index skipped = c - start_of<Arch, T>(c / n, dim_);
      load_elements(src + c * stride, stride, std::min(n - skipped, count - c), part + skipped);
      (V::load_aligned(part) * V(scale)).store_aligned(dst + c);
    }
  }
  // dst = factor * O. What the last register has in common with the one before is the same there.
  template <class E>
  FOVEA_INLINE void close_row(index r, const V& factor, E* dst, index stride) const noexcept {
    for (index i = 0; i * n < value_dim_; ++i) {
      const index c = start_of<Arch, T>(i, value_dim_);
      const V o = V::load_aligned(o_row(r) + i * n) * factor;
      if constexpr (std::is_same_v<T, E>)
        if (stride == 1 && c + n <= columns_) {
          o.store_unaligned(dst + c);
          continue;
        }
      alignas(64) T part[n];
      o.store_aligned(part);
      store_elements(part, std::min(n, columns_ - c), dst + c * stride, stride);
    }
  }
  FOVEA_INLINE void add(index r, index i, const V& shrink, const V& sum) const noexcept {
    T* o = o_row(r) + i * n;
    isa<Arch>::fma(V::load_aligned(o), shrink, sum).store_aligned(o);
  }

  // R rows against the block: n / R keys at a time fill a register of sums.
  template <int R>
  FOVEA_INLINE void dot_rows(const rows_of<T>& k, index keys, index r, lines_ahead& ahead) const noexcept {
    constexpr int C = static_cast<int>(n) / R;
    const index lines = ahead.share(ceil_div(keys, index(C)) * ceil_div(dim_, n));
    const auto fetch = [&]() FOVEA_INLINE_LAMBDA { ahead.fetch(lines); };
    const T* q = q_row(r);
    const auto put = [&](index j, V* sums) FOVEA_INLINE_LAMBDA {
      alignas(64) T dots[n];
      sums_of_lanes<Arch, T>(sums).store_aligned(dots);
      unroll<R>([&](auto i) FOVEA_INLINE_LAMBDA {
        std::memcpy(s_ + (r + i) * block + j, dots + i * C, C * sizeof(T));
      });
    };
    index j = 0;
    for (; j + C <= keys; j += C) {
      auto sum = inner_sum<Arch, R, C>(q, round_up(dim_, n), k.data + j * k.stride, k.stride, dim_, fetch);
      V flat[n];
      sum.each([&](auto i, auto e, V& x) FOVEA_INLINE_LAMBDA { flat[i * C + e] = x; });
      put(j, flat);
    }
    for (; j < keys; ++j) {
      auto sum = inner_sum<Arch, R, 1>(q, round_up(dim_, n), k.data + j * k.stride, k.stride, dim_, fetch);
      sum.each([&](auto i, auto, V& x)
                   FOVEA_INLINE_LAMBDA { s_[(r + i) * block + j] = sum_over_lanes<Arch, T>(x).get(0); });
    }
  }

  template <int R>
  FOVEA_INLINE void add_to_rows(const rows_of<T>& v, index keys, index r, const per_row& shrink,
                                lines_ahead& ahead) const noexcept {
    constexpr int C = std::clamp(shape::tile_rows * shape::tile_vectors / R, 1, 4);
    const index lines = ahead.share(keys * ceil_div(value_dim_, C * n));
    const auto tile_of = [&](auto width, index c) FOVEA_INLINE_LAMBDA {
      auto sum = outer_sum<Arch, R, decltype(width)::value>(
          s_ + r * block, std::integral_constant<index, block>{}, unit{},
          v.data + start_of<Arch, T>(c / n, value_dim_), v.stride, keys,
          [&]() FOVEA_INLINE_LAMBDA { ahead.fetch(lines); });
      sum.each([&](auto i, auto w, V& x) FOVEA_INLINE_LAMBDA { add(r + i, c / n + w, shrink[r + i], x); });
    };
    index c = 0;
    for (; c + C * n <= value_dim_; c += C * n) tile_of(std::integral_constant<int, C>{}, c);
    for (; c < value_dim_; c += n) tile_of(std::integral_constant<int, 1>{}, c);
  }

  struct place_of_row {
    index head, query;
  };
  range rows_;
  std::array<place_of_row, max_rows> places_;
  index dim_, value_dim_, columns_;
  T *q_, *o_, *m_, *l_, *s_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
