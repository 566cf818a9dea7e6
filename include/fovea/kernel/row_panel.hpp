// fovea/kernel/row_panel.hpp - a few query rows that share a key/value head, dim in lanes: the form for short
// inputs and for decoding, where reading K and V is most of the work.
//
// A row is one query of one head; all heads of a group are rows of one panel, so each key and value is read
// once for all of them. Scores are inner products (reduced by a tree of zips), the softmax has keys in lanes,
// and the product with V is the outer-sum micro-kernel with columns in lanes. Rows of Q, K and V are padded
// to whole registers.
#pragma once

#include <fovea/kernel/lines_ahead.hpp>
#include <fovea/kernel/operand.hpp>
#include <fovea/kernel/softmax.hpp>
#include <fovea/kernel/tile.hpp>

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

  /// Elements of T that a panel keeps from its first block of keys to its last, and those that are free after
  /// a block.
  FOVEA_INLINE static index kept_elements(index dim, index value_dim) noexcept {
    return max_rows * (round_up(dim, n) + round_up(value_dim, n) + 2 * n);
  }
  static constexpr index logit_elements = max_rows * block;

  /// Row r is query head first_head + (first_row + r) / queries, query (first_row + r) % queries.
  FOVEA_INLINE row_panel(T* kept, T* logits, range rows, index queries, index dim, index value_dim) noexcept
      : rows_(rows),
        queries_(queries),
        dim_(round_up(dim, n)),
        value_dim_(round_up(value_dim, n)),
        columns_(value_dim),
        q_(kept),
        o_(q_ + max_rows * dim_),
        m_(o_ + max_rows * value_dim_),
        l_(m_ + max_rows * n),
        s_(logits) {}

  FOVEA_INLINE index count() const noexcept { return rows_.size(); }
  FOVEA_INLINE index head(index r) const noexcept { return (rows_.first + r) / queries_; }
  FOVEA_INLINE index query(index r) const noexcept { return (rows_.first + r) % queries_; }

  /// Copies scale * Q and starts with no key seen. `q(h)` is query head h of the group.
  template <class Q>
  FOVEA_NOINLINE void open(const Q& q, T scale) const noexcept {
    for (index r = 0; r < count(); ++r) {
      const auto all = q(head(r));
      T* row = q_ + r * dim_;
      load_elements(all.at(query(r)), all.col_stride, all.cols, row);
      for (index c = 0; c < all.cols; ++c) row[c] *= scale;
      for (index c = all.cols; c < dim_; ++c) row[c] = T(0);
      for (index c = 0; c < value_dim_; ++c) o_[r * value_dim_ + c] = T(0);
      store(r, state_type::empty());
    }
  }

  /// S = Q K^T, asking for the lines `ahead` meanwhile.
  FOVEA_NOINLINE void dot_keys(const rows_of<T>& k, index keys,
                               lines_ahead<false> ahead = {}) const noexcept {
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
  FOVEA_NOINLINE V revise(const Rules& rules, coverage covered, index r, range keys) const noexcept {
    V largest(hidden<T>);
    for (index j = 0; j < round_up(keys.size(), n); j += n) {
      T* s = s_ + r * block + j;
      for (index e = keys.size() - j; e < n; ++e) s[e] = hidden<T>;
      const here at{query(r), keys.first + j, keys.size() - j};
      V x = revised<Arch>(rules, covered, V::load_aligned(s), at);
      if (at.count < n)
        x = xsimd::select(counting_up<Arch, T>() < V(static_cast<T>(at.count)), x, V(hidden<T>));
      x.store_aligned(s);
      largest = xsimd::max(largest, x);
    }
    return largest;
  }

  /// Row r: P = exp(S - m); O shrinks by what it is worth now.
  FOVEA_NOINLINE void absorb(index r, index keys, const V& largest_by_lane) const noexcept {
    alignas(64) T lane[n];
    largest_by_lane.store_aligned(lane);
    T largest = lane[0];
    for (index i = 1; i < n; ++i) largest = lane[i] > largest ? lane[i] : largest;
    auto state = load(r);
    const V worth = state.raise(V(largest));
    shrink(r, worth);
    V sum(T(0));
    for (index j = 0; j < keys; j += n) {
      T* s = s_ + r * block + j;
      const V p = state.template probability<true>(V::load_aligned(s));
      p.store_aligned(s);
      sum = sum + p;
    }
    state.add(worth, sum);
    store(r, state);
  }

  /// O = O + P V, asking for the lines `ahead` meanwhile.
  FOVEA_NOINLINE void add_values(const rows_of<T>& v, index keys,
                                 lines_ahead<false> ahead = {}) const noexcept {
    index r = 0;
    for (; r + 4 <= count(); r += 4) add_to_rows<4>(v, keys, r, ahead);
    if (r + 2 <= count()) add_to_rows<2>(v, keys, r, ahead), r += 2;
    if (r < count()) add_to_rows<1>(v, keys, r, ahead);
  }

  /// The same where V holds NaN or infinities: what a row does not see is left out, not multiplied by 0.
  FOVEA_NOINLINE void add_seen_values(const rows_of<T>& v, index keys) const noexcept {
    for (index r = 0; r < count(); ++r)
      for (index c = 0; c < value_dim_; c += n) {
        V sum(T(0));
        for (index j = 0; j < keys; ++j)
          if (const T p = s_[r * block + j]; p != T(0))
            sum = isa<Arch>::fma(V::load_unaligned(v.data + j * v.stride + c), V(p), sum);
        add(r, c, sum);
      }
  }

  FOVEA_INLINE void absorb_sink(index r, T logit) const noexcept {
    if constexpr (Units == unit_of::log2) logit *= static_cast<T>(std::numbers::log2e);
    auto state = total(r);
    shrink(r, state.absorb_sink(V(logit)));
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
      shrink(r, total(r).reciprocal());
      const auto to = out(head(r));
      store_elements(o_ + r * value_dim_, columns_, to.at(query(r)), to.col_stride);
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
    T sum = T(0);
    for (index i = 0; i < n; ++i) sum += l_[r * n + i];
    return {V::load_aligned(m_ + r * n), V(sum)};
  }
  FOVEA_INLINE void shrink(index r, const V& factor) const noexcept {
    for (index c = 0; c < value_dim_; c += n) {
      T* o = o_ + r * value_dim_ + c;
      (V::load_aligned(o) * factor).store_aligned(o);
    }
  }
  FOVEA_INLINE void add(index r, index c, const V& sum) const noexcept {
    T* o = o_ + r * value_dim_ + c;
    (V::load_aligned(o) + sum).store_aligned(o);
  }

  // R rows against the block: n / R keys at a time fill a register of sums.
  template <int R>
  FOVEA_INLINE void dot_rows(const rows_of<T>& k, index keys, index r,
                             lines_ahead<false>& ahead) const noexcept {
    constexpr int C = static_cast<int>(n) / R;
    const index lines = ahead.share(ceil_div(keys, index(C)));
    const T* q = q_ + r * dim_;
    const auto put = [&](index j, auto count, V* sums) FOVEA_INLINE_LAMBDA {
      alignas(64) T dots[n];
      sums_of_lanes<Arch, T>(sums).store_aligned(dots);
      unroll<R>([&](auto i) FOVEA_INLINE_LAMBDA {
        std::memcpy(s_ + (r + i) * block + j, dots + i * C, static_cast<std::size_t>(count) * sizeof(T));
      });
    };
    index j = 0;
    for (; j + C <= keys; j += C) {
      ahead.fetch(lines);
      auto sum = inner_sum<Arch, R, C>(q, dim_, k.data + j * k.stride, k.stride, dim_);
      V flat[n];
      sum.each([&](auto i, auto e, V& x) FOVEA_INLINE_LAMBDA { flat[i * C + e] = x; });
      put(j, std::integral_constant<int, C>{}, flat);
    }
    if (j == keys) return;
    V flat[n];
    for (auto& x : flat) x = V(T(0));
    for (index e = 0; j + e < keys; ++e) {
      auto sum = inner_sum<Arch, R, 1>(q, dim_, k.data + (j + e) * k.stride, k.stride, dim_);
      for (int i = 0; i < R; ++i) flat[i * C + e] = sum.at[i][0];
    }
    put(j, keys - j, flat);
  }

  template <int R>
  FOVEA_INLINE void add_to_rows(const rows_of<T>& v, index keys, index r,
                                lines_ahead<false>& ahead) const noexcept {
    constexpr int C = std::clamp(shape::tile_rows * shape::tile_vectors / R, 1, 4);
    const index lines = ahead.share(keys);
    const auto tile_of = [&](auto width, index c) FOVEA_INLINE_LAMBDA {
      auto sum = outer_sum<Arch, R, decltype(width)::value>(
          s_ + r * block, std::integral_constant<index, block>{}, unit{}, v.data + c, v.stride, keys,
          [&]() FOVEA_INLINE_LAMBDA { ahead.fetch(lines); });
      sum.each([&](auto i, auto w, V& x) FOVEA_INLINE_LAMBDA { add(r + i, c + w * n, x); });
    };
    index c = 0;
    for (; c + C * n <= value_dim_; c += C * n) tile_of(std::integral_constant<int, C>{}, c);
    for (; c < value_dim_; c += n) tile_of(std::integral_constant<int, 1>{}, c);
  }

  range rows_;
  index queries_, dim_, value_dim_, columns_;
  T *q_, *o_, *m_, *l_, *s_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
