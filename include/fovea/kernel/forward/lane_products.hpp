// fovea/kernel/forward/lane_products.hpp - up to W registers of queries, queries in lanes: what they keep,
// and the two products.
#pragma once

#include <fovea/kernel/operand/operand.hpp>
#include <fovea/kernel/operand/prefetch.hpp>
#include <fovea/kernel/softmax.hpp>
#include <fovea/kernel/tile/packing.hpp>

#include <array>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// The part of a query_panel that does not know the units of its logits: long to compile, and compiled once
/// for both.
template <class Arch, class T, int W>
class query_products {
 protected:
  using V = vec<Arch, T>;
  using sums_type = softmax_sums<Arch, T>;
  using shape = geometry<Arch>;
  static constexpr index_type n = static_cast<index_type>(V::size);

 private:
  using row_stride = std::integral_constant<index_type, W * n>;

 public:
  static constexpr index_type width = W * n;
  using per_query = std::array<V, std::size_t{W}>;

  /// Elements of T that a panel keeps from its first block of keys to its last.
  FOVEA_INLINE static index_type kept_elements(index_type dim, index_type value_dim) noexcept {
    return width * (dim + value_dim + 2);
  }

  FOVEA_INLINE query_products(T* kept, T* logits, range rows, index_type dim, index_type value_dim) noexcept
      : rows_(rows),
        dim_(dim),
        value_dim_(value_dim),
        q_(kept),
        o_(q_ + width * dim),
        m_(o_ + width * value_dim),
        l_(m_ + width),
        s_(logits) {}

  FOVEA_INLINE range rows() const noexcept { return rows_; }
  FOVEA_INLINE range next_rows(range all) const noexcept {
    return {rows_.last, std::min(rows_.last + width, all.last)};
  }

  /// Packs scale * Q^T and starts with no key seen; O is left to clear().
  template <class E>
  FOVEA_NOINLINE void open(const matrix_view<const E>& q, T scale) const noexcept {
    for (int w = 0; w < W; ++w) {
      pack<Arch, width>(q, rows_of_register(w), scale, q_ + w * n);
      store(w, sums_type::empty());
    }
  }
  FOVEA_NOINLINE void clear() const noexcept {
    for (index_type i = 0; i < width * value_dim_; ++i) o_[i] = T(0);
  }

  /// S = Q K^T, and (Largest) the largest logit of each query, which revise() would find anew.
  template <bool Largest, std::size_t N = 1>
  FOVEA_NOINLINE per_query dot_keys(const rows_of<T>& k, index_type keys,
                                    const std::array<lines_ahead, N>& ahead = {}) const noexcept {
    tile_shares<Arch, N> shares(ahead, ceil_div(keys, index_type(shape::tile_rows)));
    per_query largest;
    largest.fill(V(hidden<T>));
    const auto tile_of = [&](auto rows, index_type j) FOVEA_INLINE_LAMBDA {
      shares.fetch();
      auto s = outer_sum<Arch, rows(), W>(k.data + j * k.stride, k.stride, unit{}, q_, row_stride{}, dim_);
      s.each([&](auto r, auto w, V& x) FOVEA_INLINE_LAMBDA {
        x.store_aligned(s_ + (j + r) * width + w * n);
        if constexpr (Largest) largest[w] = xsimd::max(largest[w], x);
      });
    };
    in_tiles<shape::tile_rows>(keys, tile_of);
    return largest;
  }

  /// O = O * shrink + P V
  FOVEA_NOINLINE void add_values(const rows_of<T>& v, index_type keys, const per_query& shrink,
                                 const lines_soon& ahead = {}) const noexcept {
    tile_shares<Arch, 2> shares(ahead, ceil_div(value_dim_, index_type(shape::tile_rows)));
    const auto tile_of = [&](auto columns, index_type c) FOVEA_INLINE_LAMBDA {
      shares.fetch();
      auto sum = outer_sum<Arch, columns(), W>(v.data + c, unit{}, v.stride, s_, row_stride{}, keys);
      sum.each([&](auto r, auto w, V& x) FOVEA_INLINE_LAMBDA { add(c + r, w, shrink[w], x); });
    };
    in_tiles<shape::tile_rows>(value_dim_, tile_of);
  }

  /// The same where V holds NaN or infinities: what a query does not see is left out, not multiplied by 0.
  FOVEA_NOINLINE void add_seen_values(const rows_of<T>& v, index_type keys,
                                      const per_query& shrink) const noexcept {
    for (index_type c = 0; c < value_dim_; ++c)
      for (int w = 0; w < W; ++w) {
        V sum(T(0));
        for (index_type j = 0; j < keys; ++j) {
          const V p = V::load_aligned(s_ + j * width + w * n);
          const V seen = xsimd::select(p == V(T(0)), V(T(0)), V(v.data[j * v.stride + c]));
          sum = isa<Arch>::fma(p, seen, sum);
        }
        add(c, w, shrink[static_cast<std::size_t>(w)], sum);
      }
  }

  /// O = P V / l where all keys were in this one block, written at once with columns in lanes: nothing is
  /// kept, nothing transposed. The rows of `out` are contiguous, at least one register long. (48 keys of dim
  /// 256 take 12 % less time than by way of O^T, 128 of dim 64 take 5 % less.)
  template <class E>
  FOVEA_NOINLINE void write_values(const rows_of<T>& v, index_type keys, const matrix_view<E>& out,
                                   const lines_soon& ahead) const noexcept {
    const index_type registers = ceil_div(value_dim_, n), whole = value_dim_ / n;
    const index_type tiles = ceil_div(registers, index_type(shape::tile_columns)) *
                             ceil_div(rows_.size(), index_type(shape::tile_queries));
    tile_shares<Arch, 2> shares(ahead, tiles);
    alignas(64) T factor[std::size_t{width}];
    for (int w = 0; w < W; ++w) load(w).reciprocal().store_aligned(factor + w * n);
    constexpr int high = std::min<int>(shape::tile_queries, width);
    const auto tiles_of = [&](auto wide, index_type part) FOVEA_INLINE_LAMBDA {
      const index_type c = start_of<Arch, T>(part, value_dim_);
      in_tiles<high>(rows_.size(), [&](auto queries, index_type i) FOVEA_INLINE_LAMBDA {
        shares.fetch();
        auto sum =
            outer_sum<Arch, queries(), wide()>(s_ + i, unit{}, row_stride{}, v.data + c, v.stride, keys);
        sum.each([&](auto r, auto k, V& x) FOVEA_INLINE_LAMBDA {
          store_register<Arch, T>(x * V(factor[i + r]), out.at(rows_.first + i + r, c + k * n));
        });
      });
    };
    index_type part = 0;  // registers of columns: as many as a tile takes, 2, 1; the last may overlap
    if constexpr (shape::tile_columns == 4)
      for (; part + 4 <= whole; part += 4) tiles_of(std::integral_constant<int, 4>{}, part);
    for (; part + 2 <= whole; part += 2) tiles_of(std::integral_constant<int, 2>{}, part);
    for (; part < registers; ++part) tiles_of(std::integral_constant<int, 1>{}, part);
  }

  /// Writes O / l, row by row.
  template <class E>
  FOVEA_NOINLINE void close(const matrix_view<E>& out) const noexcept {
    for (int w = 0; w < W; ++w)
      unpack<Arch, width>(o_ + w * n, load(w).reciprocal(), out, rows_of_register(w));
  }

  /// The block of logits, or of weights, [key][width]: those of one query are a column.
  FOVEA_INLINE T* logits() const noexcept { return s_; }

 protected:
  FOVEA_INLINE sums_type load(int w) const noexcept {
    return {V::load_aligned(m_ + w * n), V::load_aligned(l_ + w * n)};
  }
  FOVEA_INLINE void store(int w, const sums_type& s) const noexcept {
    s.m.store_aligned(m_ + w * n);
    s.l.store_aligned(l_ + w * n);
  }
  FOVEA_INLINE void add(index_type c, int w, const V& shrink, const V& sum) const noexcept {
    T* o = o_ + c * width + w * n;
    isa<Arch>::fma(V::load_aligned(o), shrink, sum).store_aligned(o);
  }

  /// The queries of register w.
  FOVEA_INLINE range rows_of_register(int w) const noexcept {
    return {rows_.first + w * n, std::min(rows_.first + (w + 1) * n, rows_.last)};
  }

  range rows_;
  index_type dim_, value_dim_;
  T *q_, *o_, *m_, *l_, *s_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
