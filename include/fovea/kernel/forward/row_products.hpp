// fovea/kernel/forward/row_products.hpp - the two products of a few query rows, dim in lanes: Q K^T and P
// V.
#pragma once

#include <fovea/kernel/operand/pieces.hpp>
#include <fovea/kernel/softmax.hpp>
#include <fovea/kernel/tile/tile.hpp>

#include <cstring>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// s(r, j) = sum over c of q(r, c) k(j, c), R rows: n / R keys at a time fill a register of sums. The rows of
/// q are R of Rows that lie together: see inner_sum.
///
/// Measured on a Zen 4 from L2, 4 rows, dim 128, of the FMA peak: float 87, 16 bits and int8 76 %; bfloat16
/// as even and odd elements, by shift and mask, 84 %; keys stored in lanes, 16 of them a register, with no
/// sums over lanes: float 81, others 87 to 90 %.
template <class Arch, int R, int Rows, class T, class E, class Stride>
FOVEA_INLINE void dot_rows(const T* q, const block_piece<E>& k, T* s, Stride s_stride) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  constexpr int C = static_cast<int>(n) / R;
  const auto sum_of = [&](auto wide, index_type j) FOVEA_INLINE_LAMBDA {
    constexpr int W = decltype(wide)::value;
    const rows_ahead ahead = k.ahead.from(j);
    return inner_sum<Arch, R, W, Rows>(q, k.rows.from(j).data, k.rows.stride, k.rows.dim,
                                       [&](index_type offset)
                                           FOVEA_INLINE_LAMBDA { ahead.template fetch<W>(offset); });
  };
  s += k.first;
  index_type j = 0;
  for (; j + C <= k.count; j += C) {
    auto sum = sum_of(std::integral_constant<int, C>{}, j);
    V flat[std::size_t{n}];
    sum.each([&](auto r, auto e, V& x) FOVEA_INLINE_LAMBDA { flat[r * C + e] = x; });
    alignas(64) T dots[std::size_t{n}];
    isa<Arch>::sums_of_lanes(flat).store_aligned(dots);
    unroll<R>([&](auto r)
                  FOVEA_INLINE_LAMBDA { std::memcpy(s + r * s_stride + j, dots + r * C, C * sizeof(T)); });
  }
  for (; j < k.count; ++j) {
    auto sum = sum_of(std::integral_constant<int, 1>{}, j);
    sum.each([&](auto r, auto, V& x)
                 FOVEA_INLINE_LAMBDA { s[r * s_stride + j] = sum_over_lanes<Arch, T>(x).get(0); });
  }
}

/// f(constant row, part, sum over j of p(row, j) v(j, columns of register `part`)), R rows. Meanwhile lines
/// are asked for.
template <class Arch, int R, class T, class E, class Stride, class F>
FOVEA_INLINE void sum_rows(const T* p, Stride p_stride, const block_pieces<E>& pieces, index_type width,
                           F&& f) noexcept {
  using V = vec<Arch, T>;
  using shape = geometry<Arch>;
  constexpr index_type n = lanes<Arch, T>, bytes = n * static_cast<index_type>(sizeof(E));
  constexpr int C = std::clamp(shape::tile_rows * shape::tile_vectors / R, 1, 4);
  const auto tile_of = [&](auto wide, index_type c) FOVEA_INLINE_LAMBDA {
    constexpr int W = decltype(wide)::value;
    tile<Arch, T, R, W> sum;
    sum.each([](auto, auto, V& x) FOVEA_INLINE_LAMBDA { x = V(T(0)); });
    for (const block_piece<E>& v : pieces)
      add_outer(sum, p + v.first, p_stride, unit{}, v.rows.data + start_of<Arch, T>(c / n, width),
                v.rows.stride, v.count, [&](index_type j) FOVEA_INLINE_LAMBDA {
                  const rows_ahead ahead = v.ahead.from(j);
                  for (index_type at = 0; at < W * bytes; at += rows_ahead::line)
                    ahead.template fetch<1>(c / n * bytes + at);
                });
    sum.each([&](auto r, auto w, V& x) FOVEA_INLINE_LAMBDA { f(r, c / n + w, x); });
  };
  index_type c = 0;
  for (; c + C * n <= width; c += C * n) tile_of(std::integral_constant<int, C>{}, c);
  for (; c < width; c += n) tile_of(std::integral_constant<int, 1>{}, c);
}

/// The part of a row_panel that does not know the units of its logits: long to compile, and compiled once for
/// both.
template <class Arch, class T>
class row_products {
 protected:
  using V = vec<Arch, T>;
  using sums_type = softmax_sums<Arch, T>;
  static constexpr index_type n = static_cast<index_type>(V::size), block = geometry<Arch>::few_rows_block;

 private:
  static constexpr std::integral_constant<index_type, block> row_stride{};  // of scores

 public:
  static constexpr index_type max_rows = geometry<Arch>::few_rows;

  /// Elements of T that stay of panels of so many rows when their keys are done, and that these work in.
  FOVEA_INLINE static index_type state_elements(index_type rows, index_type value_dim) noexcept {
    return rows * (round_up(value_dim, n) + 2 * n);
  }
  FOVEA_INLINE static index_type work_elements(index_type rows, index_type dim) noexcept {
    return round_up(rows, max_rows) * 2 * round_up(dim, n) + rows * (block + n);
  }
  /// How wide rows of K and V are read: at least one register.
  FOVEA_INLINE static index_type read_width(index_type dim) noexcept {
    return dim == 0 ? 0 : std::max(dim, n);
  }

  /// Row r is query queries.first + (rows.first + r) % |queries| of the group's head (rows.first + r) /
  /// |queries|.
  FOVEA_INLINE row_products(T* state, T* work, range rows, range queries, index_type dim,
                            index_type value_dim) noexcept
      : rows_(rows),
        queries_(queries),
        dim_(read_width(dim)),
        value_dim_(read_width(value_dim)),
        columns_(value_dim),
        channels_(dim),
        o_(state),
        m_(o_ + rows.size() * round_up(value_dim, n)),
        l_(m_ + rows.size() * n),
        q_(work),
        scaled_q_(q_ + max_rows * round_up(dim, n)),
        s_(scaled_q_ + max_rows * round_up(dim, n)),
        shrink_(s_ + rows.size() * block) {}

  FOVEA_INLINE index_type count() const noexcept { return rows_.size(); }
  FOVEA_INLINE index_type head(index_type r) const noexcept {
    return queries_.size() == 1 ? rows_.first + r : (rows_.first + r) / queries_.size();
  }
  FOVEA_INLINE index_type query(index_type r) const noexcept {
    return queries_.first + rows_.first + r - head(r) * queries_.size();
  }

  /// Copies scale * Q and starts with no key seen. `q(h)` is query head h of the group.
  template <class Q>
  FOVEA_NOINLINE void open(const Q& q, T scale) const noexcept {
    for (index_type r = 0; r < count(); ++r) {
      const auto all = q(head(r));
      copy_row(all.at(query(r)), all.col_stride, all.cols, scale, q_ + r * n);
      for (index_type i = 0; i * n < value_dim_; ++i) V(T(0)).store_aligned(o_row(r) + i * n);
      store(r, sums_type::empty());
    }
  }

  /// S = Q K^T for pieces of the block. The scales of K's channels become part of Q.
  template <class E>
  FOVEA_NOINLINE void dot_keys(const block_pieces<E>& pieces) const noexcept {
    for (const block_piece<E>& k : pieces) {
      const T* const q = k.scales == nullptr ? q_ : scale_queries(k.scales);
      in_row_tiles([&](auto rows, index_type r) FOVEA_INLINE_LAMBDA {
        dot_rows<Arch, rows(), max_rows>(q + r * n, k, s_ + r * block, row_stride);
      });
    }
  }

  /// Row r's logits, or weights.
  FOVEA_INLINE T* logits(index_type r) const noexcept { return s_ + r * block; }

  /// O = O * shrink + P V for pieces of the block.
  template <class E>
  FOVEA_NOINLINE void add_values(const block_pieces<E>& pieces) const noexcept {
    for (const block_piece<E>& v : pieces) weigh(v);
    in_row_tiles([&](auto rows, index_type r) FOVEA_INLINE_LAMBDA {
      sum_rows<Arch, rows()>(s_ + r * block, row_stride, pieces, value_dim_,
                             [&](auto i, index_type part, V& x)
                                 FOVEA_INLINE_LAMBDA { add(r + i, part, shrink(r + i), x); });
    });
    settle();
  }

  /// The same where V holds NaN or infinities: what a row does not see is left out, not multiplied by 0.
  template <class E>
  FOVEA_NOINLINE void add_seen_values(const block_pieces<E>& pieces) const noexcept {
    for (index_type r = 0; r < count(); ++r)
      for (index_type i = 0; i * n < value_dim_; ++i) {
        V sum(T(0));
        for (const block_piece<E>& v : pieces)
          for (index_type j = 0; j < v.count; ++j)
            if (const T p = s_[r * block + v.first + j]; p != T(0))
              sum =
                  isa<Arch>::fma(load_lanes<Arch, T>(v.rows.from(j).data + start_of<Arch, T>(i, value_dim_)),
                                 V(v.scales == nullptr ? p : p * static_cast<T>(v.scales[j])), sum);
        add(r, i, shrink(r), sum);
      }
    settle();
  }

  /// Writes O / l; `out(h)` is query head h of the group.
  template <class Out>
  FOVEA_NOINLINE void close(const Out& out) const noexcept {
    for (index_type r = 0; r < count(); ++r) {
      const auto to = out(head(r));
      close_row(r, total(r).reciprocal(), to.at(query(r)), to.col_stride);
    }
  }

 protected:
  FOVEA_INLINE sums_type load(index_type r) const noexcept {
    return {V::load_aligned(m_ + r * n), V::load_aligned(l_ + r * n)};
  }
  FOVEA_INLINE void store(index_type r, const sums_type& s) const noexcept {
    s.m.store_aligned(m_ + r * n);
    s.l.store_aligned(l_ + r * n);
  }
  // The state with the sum over all lanes in each lane.
  FOVEA_INLINE sums_type total(index_type r) const noexcept {
    return {V::load_aligned(m_ + r * n), sum_over_lanes<Arch, T>(V::load_aligned(l_ + r * n))};
  }
  FOVEA_INLINE T* o_row(index_type r) const noexcept { return o_ + r * round_up(value_dim_, n); }
  FOVEA_INLINE void add(index_type r, index_type i, const V& shrink, const V& sum) const noexcept {
    T* o = o_row(r) + i * n;
    isa<Arch>::fma(V::load_aligned(o), shrink, sum).store_aligned(o);
  }

 private:
  // f(constant rows, first) for tiles of 8, 4, 2 and 1 rows. (Eight at a time convert what is stored in 16
  // bits once for all of them.)
  template <class F>
  FOVEA_INLINE void in_row_tiles(F&& f) const noexcept {
    index_type r = 0;
    if constexpr (max_rows >= 8 && n >= 8)
      if (r + 8 <= count()) f(std::integral_constant<int, 8>{}, r), r += 8;
    if constexpr (n >= 4)
      for (; r + 4 <= count(); r += 4) f(std::integral_constant<int, 4>{}, r);
    for (; r + 2 <= count(); r += 2) f(std::integral_constant<int, 2>{}, r);
    if (r < count()) f(std::integral_constant<int, 1>{}, r);
  }
  // What O was worth before this block, until a piece of the block is added. (Held in registers, ones for
  // later pieces selected there, it made clang spill sums.)
  FOVEA_INLINE V shrink(index_type r) const noexcept { return V::load_aligned(shrink_ + r * n); }
  FOVEA_INLINE void settle() const noexcept {
    for (index_type r = 0; r < count(); ++r) V(T(1)).store_aligned(shrink_ + r * n);
  }

  FOVEA_INLINE V load_scales(const float* scales, index_type count) const noexcept {
    if (count >= n) return load_lanes<Arch, T>(scales);
    alignas(64) T part[std::size_t{n}] = {};
    load_elements(scales, index_type(1), count, part);
    return V::load_aligned(part);
  }
  // Q times the scale of each channel of K.
  FOVEA_NOINLINE const T* scale_queries(const float* scales) const noexcept {
    for (index_type i = 0; i * n < dim_; ++i) {
      const index_type c = start_of<Arch, T>(i, dim_);
      const V scale = load_scales(scales + c, channels_ - c);
      for (index_type r = 0; r < count(); ++r) {
        const index_type at = (i * max_rows + r) * n;
        (V::load_aligned(q_ + at) * scale).store_aligned(scaled_q_ + at);
      }
    }
    return scaled_q_;
  }
  // P times the scale of each token of V.
  template <class E>
  FOVEA_INLINE void weigh(const block_piece<E>& v) const noexcept {
    if (v.scales == nullptr) return;
    for (index_type r = 0; r < count(); ++r)
      for (index_type j = 0; j < v.count; ++j) s_[r * block + v.first + j] *= static_cast<T>(v.scales[j]);
  }

  // Row of Q = scale * src, register by register, max_rows registers apart, with zeros beyond and where the
  // last overlaps the one before.
  template <class E>
  FOVEA_INLINE void copy_row(const E* src, index_type stride, index_type count, T scale,
                             T* dst) const noexcept {
    index_type c = 0;
    if constexpr (std::is_same_v<T, E>)
      if (stride == 1)
        for (; c + n <= count; c += n, dst += max_rows * n)
          (V::load_unaligned(src + c) * V(scale)).store_aligned(dst);
    for (; c < count; c += n, dst += max_rows * n) {
      alignas(64) T part[std::size_t{n}] = {};
      const index_type skipped = c - start_of<Arch, T>(c / n, dim_);
      load_elements(src + c * stride, stride, std::min(n - skipped, count - c), part + skipped);
      (V::load_aligned(part) * V(scale)).store_aligned(dst);
    }
  }
  // dst = factor * O. What the last register has in common with the one before is the same there.
  template <class E>
  FOVEA_INLINE void close_row(index_type r, const V& factor, E* dst, index_type stride) const noexcept {
    for (index_type i = 0; i * n < value_dim_; ++i) {
      const index_type c = start_of<Arch, T>(i, value_dim_);
      const V o = V::load_aligned(o_row(r) + i * n) * factor;
      if constexpr (std::is_same_v<T, E>)
        if (stride == 1 && c + n <= columns_) {
          o.store_unaligned(dst + c);
          continue;
        }
      alignas(64) T part[std::size_t{n}];
      o.store_aligned(part);
      store_elements(part, std::min(n, columns_ - c), dst + c * stride, stride);
    }
  }

 protected:
  range rows_, queries_;
  index_type dim_, value_dim_, columns_, channels_;
  T *o_, *m_, *l_, *q_, *scaled_q_, *s_, *shrink_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
