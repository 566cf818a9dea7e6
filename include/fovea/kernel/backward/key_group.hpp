// fovea/kernel/backward/key_group.hpp - a group of keys in lanes against a block of query rows, for
// gradients.
//
// K^T and V^T of the group are packed once, [dim][lanes]; rows of Q, dO and K are read as they lie, broadcast
// or a register of columns at a time. P and dS lie row by row, their stride an odd number of cache lines.
#pragma once

#include <fovea/kernel/backward/seen_tiles.hpp>
#include <fovea/kernel/operand/references.hpp>
#include <fovea/kernel/rules/mask_parts.hpp>
#include <fovea/kernel/rules/rules.hpp>
#include <fovea/kernel/tile/packing.hpp>

#include <tuple>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

template <class Arch, class T>
class key_group {
  using V = vec<Arch, T>;
  using shape = gradient_shape<Arch, T>;
  using here = cells<Arch, T, in_lanes::keys>;
  static constexpr index_type n = lanes<Arch, T>;
  static constexpr index_type tile_lanes = shape::tile_lanes;
  using panel_stride = std::integral_constant<index_type, tile_lanes>;

 public:
  /// `panels`: K^T, then V^T, each a panel [dim][tile_lanes] after another; p, ds: shape.cells() each.
  /// `lines`: asked for beside the tiles.
  key_group(const shape& sizes, range keys, index_type dim, index_type value_dim, T* panels, T* p, T* ds,
            prefetch& lines) noexcept
      : sizes_(sizes),
        keys_(keys),
        dim_(dim),
        value_dim_(value_dim),
        k_(panels),
        v_(panels + sizes.lanes_a_group * dim),
        p_(p),
        ds_(ds),
        lines_(lines) {}

  /// K^T * k_scale and V^T * v_scale, in the registers that have keys: others are never seen. Rows of the
  /// next register are asked for, as hardware does not foresee them: a causal call of 8 x 1,024 x 64 takes
  /// 1.5 % less time with it, 4 x 1,024 x 128 1 to 3 % (Zen 5).
  FOVEA_NOINLINE void pack_keys(const query_ref<Arch, T>& k, T k_scale, const query_ref<Arch, T>& v,
                                T v_scale) const noexcept {
    for (index_type j = 0; j < keys_.size(); j += n) {
      const range lane_keys{keys_.first + j, std::min(keys_.first + j + n, keys_.last)};
      const index_type panel = j / tile_lanes * tile_lanes, lane = j % tile_lanes;
      prefetch soon;
      for (const byte_view& lines : {k.lines, v.lines})
        soon.add(line_use::read, lines, {lane_keys.last, std::min(lane_keys.last + n, keys_.last)});
      soon.deal(1), soon.fetch();
      k.pack(lane_keys, k_scale, k_ + panel * dim_ + lane, tile_lanes);
      v.pack(lane_keys, v_scale, v_ + panel * value_dim_ + lane, tile_lanes);
    }
  }

  range keys() const noexcept { return keys_; }
  index_type dim() const noexcept { return dim_; }
  index_type width() const noexcept { return round_up(dim_, n); }

  /// K^T of the register of keys from lane j on: channel c is channel_stride further for each.
  static constexpr index_type channel_stride = tile_lanes;
  const T* keys_in_lanes(index_type j) const noexcept {
    return k_ + j / tile_lanes * tile_lanes * dim_ + j % tile_lanes;
  }
  /// Cells of P and dS, a row of lanes after another.
  T* p_at(index_type row, index_type lane) const noexcept { return p_ + row * sizes_.stride() + lane; }
  T* ds_at(index_type row, index_type lane) const noexcept { return ds_ + row * sizes_.stride() + lane; }

  /// Asks the mask what `rows` see, tile by tile; returns whether they see anything.
  template <class Mask>
  bool ask(const Mask& mask, range rows) noexcept {
    return seen_.ask(mask, rows, keys_, sizes_.lanes_a_group);
  }
  /// Whether some cell of the keys is hidden.
  bool hides() const noexcept { return seen_.hides(); }

  /// P = exp(Q K^T - LSE); raw products where cells are not `plain`, or partly hidden. `finite`: whether all
  /// that P and dS are multiplied by is; else P is 0 only where it is hidden.
  FOVEA_NOINLINE void score(const gradient_rows<T>& r, bool plain, bool finite) const noexcept {
    each_seen(r.rows, k_, dim_, [&](auto tile, const T* k, coverage covered) FOVEA_INLINE_LAMBDA {
      const bool done = plain && covered == coverage::full;
      auto s = tile.start(r.lse, done ? T(-1) : T(0));
      add_outer(s, r.q.data + tile.row * r.q.stride, r.q.stride, unit{}, k, panel_stride{}, dim_,
                no_prefetch{});
      T* const p = p_ + tile.row * sizes_.stride() + tile.lane;
      store(s, p, sizes_.stride());
      if (done) exponentiate<tile.wide>(p, tile.high, finite);
    });
  }

  /// dS = P (dO V^T - delta) * v_scale, V^T being scaled already; raw products where P is.
  FOVEA_NOINLINE void differentiate(const gradient_rows<T>& r, T v_scale, bool plain) const noexcept {
    each_seen(r.rows, v_, value_dim_, [&](auto tile, const T* v, coverage covered) FOVEA_INLINE_LAMBDA {
      const bool done = plain && covered == coverage::full;
      auto s = tile.start(r.delta, done ? -v_scale : T(0));
      add_outer(s, r.d_out.data + tile.row * r.d_out.stride, r.d_out.stride, unit{}, v, panel_stride{},
                value_dim_, no_prefetch{});
      const index_type at = tile.row * sizes_.stride() + tile.lane;
      if (done)
        s.each([&](auto i, auto w, V& x)
                   FOVEA_INLINE_LAMBDA { x = x * V::load_aligned(p_ + at + i * sizes_.stride() + w * n); });
      store(s, ds_ + at, sizes_.stride());
    });
  }

  /// P = exp(score(S) - LSE) and dS = P (dO V^T - delta) d score of the raw products left, and 0 of all that
  /// nobody sees.
  template <class Cells>
  FOVEA_NOINLINE FOVEA_FLATTEN void apply_rules(const gradient_rows<T>& r, T v_scale, const Cells& of_cells,
                                                bool finite) const noexcept {
    const V least = least_exponent<Arch, T>(finite);
    const bool plain = of_cells.plain();
    const auto& mask = within(of_cells.rules.mask, r.rows, keys_);
    for (int number = 0; number < seen_.count(); ++number)
      for (int t = 0; t * tile_lanes < sizes_.lanes_a_group; ++t) {
        const seen_registers seen = seen_[number].panels[t];
        if (plain && seen.covered == coverage::full && seen.last - seen.first == geometry<Arch>::tile_vectors)
          continue;
        for (index_type i = seen_[number].rows.first; i < seen_[number].rows.last; ++i)
          for (int w = 0; w < geometry<Arch>::tile_vectors; ++w) {
            const index_type j = t * tile_lanes + w * n, at = i * sizes_.stride() + j;
            V p(T(0)), ds(T(0));
            if (w >= seen.first && w < seen.last && j < keys_.size()) {
              if (plain && seen.covered == coverage::full) continue;
              const here cells{r.rows.first + i, keys_.first + j, keys_.size() - j};
              std::tie(p, ds) = of_cells.differentiate(cells, mask, seen.covered, V::load_aligned(p_ + at),
                                                       V::load_aligned(ds_ + at), V(r.lse[i]),
                                                       V(r.delta[i] * v_scale), least);
            }
            p.store_aligned(p_ + at), ds.store_aligned(ds_ + at);
          }
      }
  }

  /// dV += P^T dO, a row a key.
  void add_to_values(const gradient_rows<T>& r, bool finite, const sums_of_rows<T>& d_v) const noexcept {
    add_to_keys(p_, r.d_out, r.rows.size(), finite, d_v, round_up(value_dim_, n));
  }
  /// dK += dS^T Q
  void add_to_keys(const gradient_rows<T>& r, bool finite, const sums_of_rows<T>& d_k) const noexcept {
    add_to_keys(ds_, r.q, r.rows.size(), finite, d_k, width());
  }

  /// dQ += dS K
  FOVEA_NOINLINE void add_to_queries(const gradient_rows<T>& r, const rows_of<T>& k,
                                     bool finite) const noexcept {
    const index_type stride = sizes_.stride();
    if (!finite) return add_seen<Arch>(ds_, stride, 1, r.rows.size(), k, keys_.size(), r.d_q, width());
    each_columns(width(), [&](auto wide, auto high, index_type c) FOVEA_INLINE_LAMBDA {
      in_whole_tiles<high()>(r.rows.size(), [&](auto rows, index_type i) FOVEA_INLINE_LAMBDA {
        const range keys = seen_.keys_seen_by({i, i + rows});
        if (keys.empty() && !r.d_q.empty) return;
        lines_.fetch();
        T* const to = r.d_q.data + i * r.d_q.stride + c;
        auto sum = load<rows(), wide()>(to, r.d_q);
        add_outer(sum, ds_ + i * stride + keys.first, stride, unit{}, k.data + keys.first * k.stride + c,
                  k.stride, keys.size(), no_prefetch{});
        store(sum, to, r.d_q.stride);
      });
    });
  }

  /// f(row, lanes) for each row that sees some key: whole registers of lanes, some beyond the last key.
  template <class F>
  FOVEA_INLINE void each_seen_row(F&& f) const noexcept {
    for (int t = 0; t < seen_.count(); ++t)
      if (const range seen = seen_[t].lanes; !seen.empty())
        for (index_type i = seen_[t].rows.first; i < seen_[t].rows.last; ++i)
          f(i, range{seen.first / n * n, round_up(seen.last, n)});
  }
  /// f(row, cells, dS) for the registers of cells that are seen, after differentiate().
  template <class F>
  FOVEA_INLINE void each_register(const gradient_rows<T>& r, F&& f) const noexcept {
    each_seen_row([&](index_type i, range lanes) FOVEA_INLINE_LAMBDA {
      for (index_type j = lanes.first; j < lanes.last; j += n)
        f(i, here{r.rows.first + i, keys_.first + j, std::min(n, keys_.size() - j)},
          V::load_aligned(ds_at(i, j)));
    });
  }

 private:
  FOVEA_NOINLINE void add_to_keys(const T* cells, const rows_of<T>& from, index_type rows, bool finite,
                                  const sums_of_rows<T>& sums, index_type width) const noexcept {
    const index_type stride = sizes_.stride();
    if (!finite) return add_seen<Arch>(cells, 1, stride, keys_.size(), from, rows, sums, width);
    each_columns(width, [&](auto wide, auto high, index_type c) FOVEA_INLINE_LAMBDA {
      in_whole_tiles<high()>(keys_.size(), [&](auto keys, index_type j) FOVEA_INLINE_LAMBDA {
        const range seeing = seen_.rows_that_see({j, j + keys});
        if (seeing.empty() && !sums.empty) return;
        lines_.fetch();
        T* const to = sums.data + j * sums.stride + c;
        auto sum = load<keys(), wide()>(to, sums);
        add_outer(sum, cells + seeing.first * stride + j, unit{}, stride,
                  from.data + seeing.first * from.stride + c, from.stride, seeing.size(), no_prefetch{});
        store(sum, to, sums.stride);
      });
    });
  }

  template <int R, int C>
  FOVEA_INLINE static tile<Arch, T, R, C> load(const T* from, const sums_of_rows<T>& sums) noexcept {
    tile<Arch, T, R, C> s;
    if (sums.empty)
      s.each([](auto, auto, V& x) FOVEA_INLINE_LAMBDA { x = V(T(0)); });
    else
      s.each([&](auto r, auto c, V& x)
                 FOVEA_INLINE_LAMBDA { x = V::load_unaligned(from + r * sums.stride + c * n); });
    return s;
  }
  template <int R, int C>
  FOVEA_INLINE static void store(tile<Arch, T, R, C>& s, T* to, index_type stride) noexcept {
    s.each([&](auto r, auto c, V& x) FOVEA_INLINE_LAMBDA { x.store_unaligned(to + r * stride + c * n); });
  }
  /// P = exp2(P) for rows of C registers, in memory: with a tile in registers g++ spills on AVX2.
  template <int C>
  FOVEA_NOINLINE void exponentiate(T* p, int rows, bool finite) const noexcept {
    const V least = least_exponent<Arch, T>(finite);
    for (int r = 0; r < rows; ++r, p += sizes_.stride()) FOVEA_UNROLL_ALL
    for (index_type c = 0; c < C; ++c)
      isa<Arch>::exp2(V::load_aligned(p + c * n), least).store_aligned(p + c * n);
  }

  /// R rows x C registers of cells, the first at (row, lane).
  template <int R, int C>
  struct cell_tile {
    static constexpr int high = R, wide = C;
    index_type row, lane;
    FOVEA_INLINE tile<Arch, T, R, C> start(const T* of_rows, T factor) const noexcept {
      tile<Arch, T, R, C> s;
      s.each([&](auto r, auto, V& x) FOVEA_INLINE_LAMBDA { x = V(of_rows[row + r] * factor); });
      return s;
    }
  };

  /// f(cell_tile, panel, coverage) for each tile of cells that is seen.
  template <class F>
  FOVEA_INLINE void each_seen(range rows, const T* panels, index_type depth, F&& f) const noexcept {
    for (int t = 0; t * tile_lanes < sizes_.lanes_a_group; ++t) {
      int number = 0;
      in_whole_tiles<shape::tile_rows>(rows.size(), [&](auto high, index_type i) FOVEA_INLINE_LAMBDA {
        const seen_registers seen = seen_[number++].panels[t];
        const index_type lane = t * tile_lanes + seen.first * n;
        const T* const panel = panels + t * tile_lanes * depth + seen.first * n;
        const int wide = seen.last - seen.first;
        lines_.fetch();
        if (wide == 3) f(cell_tile<high(), 3>{i, lane}, panel, seen.covered);
        if (wide == 2) f(cell_tile<high(), 2>{i, lane}, panel, seen.covered);
        if (wide == 1) f(cell_tile<high(), 1>{i, lane}, panel, seen.covered);
      });
    }
  }

  /// f(constant registers, constant rows a tile, first column).
  template <class F>
  FOVEA_INLINE static void each_columns(index_type width, F&& f) noexcept {
    constexpr int most = geometry<Arch>::tile_columns;
    for (index_type c = 0, left = width / n; left > 0;) {
      const index_type take =
          left > most && left < 2 * most ? ceil_div(left, 2) : std::min<index_type>(left, most);
      const auto call = [&](auto wide) FOVEA_INLINE_LAMBDA {
        constexpr int high = wide() == most ? geometry<Arch>::tile_queries : 8;
        f(wide, std::integral_constant<int, high>{}, c);
      };
      if constexpr (most == 4) {
        if (take == 4) call(std::integral_constant<int, 4>{});
        if (take == 3) call(std::integral_constant<int, 3>{});
      }
      if (take == 2) call(std::integral_constant<int, 2>{});
      if (take == 1) call(std::integral_constant<int, 1>{});
      c += take * n, left -= take;
    }
  }

  shape sizes_;
  range keys_;
  index_type dim_, value_dim_;
  T *k_, *v_, *p_, *ds_;
  prefetch& lines_;
  seen_tiles<Arch, T> seen_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
