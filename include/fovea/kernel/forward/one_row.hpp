// fovea/kernel/forward/one_row.hpp - one query row that sees all of its keys, which lie as matrices, or as
// those of a contiguous cache, and which no head shares. What a walk of rows asks and keeps for each block of
// keys would be half of the time of 32 keys.
#pragma once

#include <fovea/kernel/forward/one_key.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// A row of Q, the softmax's state, and its logits against a run of keys, as long as panels of rows have room
/// for: all of K of a run is read before its V, in the order in which it lies. Hardware follows that on any
/// machine, the better the longer the runs are: 512 keys took 2.04 us in runs of 128 and 1.51 at once from
/// L2, 8 x 16 heads of 1,024 1.91 and 1.37 ms from memory (dim 64, Zen 5). The softmax takes a run in block
/// by block, which gives the bits of a walk of rows. From memory each line is asked for 4 KB ahead, little
/// enough that none is lost from any L1, and what 40 GB/s bring in 100 ns: 8 heads of 8,192 keys of 128 took
/// 1.73 ms without, 1.29 with it, 1.37 with 16 KB, by AVX2 2.38, 1.88, 2.16; 16,384 of 64 1.84, 1.47, 1.48
/// and 2.01, 1.74, 1.76. (Where rows of other heads lie between, these are the lines that come 4 KB later:
/// neither a gain nor a loss.)
template <class Arch, class T>
struct one_row {
  using V = vec<Arch, T>;
  using panel = row_panel<Arch, T>;
  static constexpr index_type n = panel::n, block = panel::block, a_run = panel::max_rows * block;
  static constexpr index_type bytes_ahead = 4096;

  T *q, *s;   // [register][max_rows] as panels have it; [keys]
  bool asks;  // for lines of K and V before they are read
  softmax_state<Arch, T, unit_of::log2> state{softmax_sums<Arch, T>::empty()};

  /// Q = factor * from, of whole registers.
  one_row(const T* from, index_type dim, T factor, T* memory, bool from_memory) noexcept
      : q(memory), s(memory + panel::max_rows * dim), asks(from_memory) {
    for (index_type c = 0; c < dim; c += n)
      (V::load_unaligned(from + c) * V(factor)).store_aligned(q + c * panel::max_rows);
  }

  /// S = Q K^T of a run.
  void score(const matrix_view<const T>& k) const noexcept {
    constexpr std::integral_constant<index_type, panel::block> row_stride{};
    block_piece<T> keys{{k.data, k.row_stride, k.cols}, 0, k.rows, nullptr, {}};
    if (asks) keys.next = next_rows(ahead_of(k), 0);
    const T* const from = q;
    asks ? dot_rows_of_width<lines_of_next, Arch, 1, panel::max_rows>(from, keys, s, row_stride)
         : dot_rows_of_width<lines_of_none, Arch, 1, panel::max_rows>(from, keys, s, row_stride);
  }

  /// P = exp2(S - m) of a block of the run; returns the factor of what was summed before.
  V absorb(range keys) noexcept {
    const V shrink = state.raise(max_over_lanes<Arch, T>(pad_row<Arch>(keys.size(), s + keys.first)));
    V sum(T(0));
    for (index_type j = keys.first; j < keys.last; j += n) {
      const V p = state.template probability<false>(V::load_aligned(s + j));  // 0 where padded, or all is NaN
      p.store_aligned(s + j);
      sum = sum + p;
    }
    state.add(shrink, sum);
    return shrink;
  }

  /// to(register, P V) for all columns of a block's values, the first of which is key `first` of the run.
  template <class F>
  void each_sum(index_type first, const matrix_view<const T>& v, const F& to) const noexcept {
    const auto sum = [&](auto columns, index_type i) {
      constexpr int W = decltype(columns)::value;
      constexpr index_type bytes = n * index_type(sizeof(T));
      const auto by = [&](auto lines) {
        tile<Arch, T, 1, W> all;
        for (V& x : all.at[0]) x = V(T(0));
        add_in_order(all, s + first, unit{}, v.data + start_of<Arch, T>(i, v.cols), v.row_stride, v.rows,
                     lines.template beside_columns<W * bytes>(v.rows, i * bytes));
        FOVEA_UNROLL_ALL
        for (int c = 0; c < W; ++c) to(i + c, all.at[0][c]);
      };
      asks ? by(lines_of_next(next_rows(ahead_of(v), 0))) : by(lines_of_none(next_rows()));
    };
    const index_type whole = v.cols / n;
    index_type i = 0;
    if constexpr (geometry<Arch>::few_rows >= 8)  // (dim 256: .87 to .96 of the time of twice 8)
      for (; whole - i >= 16; i += 16) sum(std::integral_constant<int, 16>(), i);
    for (; whole - i >= 8; i += 8) sum(std::integral_constant<int, 8>(), i);
    if (whole - i >= 6) sum(std::integral_constant<int, 6>(), i), i += 6;
    if (whole - i >= 4) sum(std::integral_constant<int, 4>(), i), i += 4;
    if (whole - i >= 2) sum(std::integral_constant<int, 2>(), i), i += 2;
    for (; i * n < v.cols; ++i) sum(std::integral_constant<int, 1>(), i);
  }

 private:
  /// Where the lines lie that are asked for beside a matrix's.
  static byte_rows ahead_of(const matrix_view<const T>& m) noexcept {
    byte_rows rows(m);
    rows.first += bytes_ahead;
    return rows;
  }
};

/// A row's result, and its LSE unless that is nowhere, where one block holds its keys.
template <class Arch, class T>
FOVEA_NOINLINE void attend_block(one_row<Arch, T> row, const matrix_view<const T>& k,
                                 const matrix_view<const T>& v, T* out, T* lse) noexcept {
  using V = vec<Arch, T>;
  row.score(k);
  row.absorb({0, k.rows});
  row.state.l = sum_over_lanes<Arch, T>(row.state.l);
  if (lse != nullptr) *lse = row.state.lse().get(0);
  const V reciprocal = row.state.reciprocal();
  row.each_sum(0, v, [&](index_type i, const V& sum) {
    (sum * reciprocal).store_unaligned(out + start_of<Arch, T>(i, v.cols));
  });
}

/// The same over more keys, left as a panel of one row has it: see close_rows.
template <class Arch, class T>
FOVEA_NOINLINE void attend_blocks(one_row<Arch, T> row, const matrix_view<const T>& k,
                                  const matrix_view<const T>& v, T* sums) noexcept {
  using V = vec<Arch, T>;
  using panel = row_panel<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  if (k.rows <= 0) std::fill_n(sums, registers_of<Arch, T>(v.cols) * n, T(0));
  for (index_type first = 0; first < k.rows; first += row.a_run) {
    const range run{first, std::min(first + row.a_run, k.rows)};
    V shrink[std::size_t{panel::max_rows}];
    row.score(k.only(run));
    const auto each_block = [&](const auto& f) {
      for (index_type j = 0; j < run.size(); j += row.block)
        f(shrink[j / row.block], range{j, std::min(j + row.block, run.size())});
    };
    each_block([&](V& of_block, range block) { of_block = row.absorb(block); });
    each_block([&](const V& of_block, range block) {
      const range keys{first + block.first, first + block.last};
      row.each_sum(block.first, v.only(keys), [&](index_type i, const V& sum) {
        T* const to = sums + i * n;
        (keys.first == 0 ? sum : isa<Arch>::fma(V::load_aligned(to), of_block, sum)).store_aligned(to);
      });
    });
  }
  T* const state = sums + registers_of<Arch, T>(v.cols) * n;
  row.state.m.store_aligned(state), row.state.l.store_aligned(state + n);
}

/// Whether a job is of one row, all of whose keys it sees, and operands are such that one_row may be made of
/// them. (Columns of narrow registers are summed by several tiles, each of which reads a part of V's rows:
/// from memory, 8,192 keys of 128, AVX2 then took 1.1 times as long as attend_rows.)
template <class Arch, class Problem, class T = typename Problem::compute>
bool is_one_row(const Problem& p, const row_block& at) noexcept {
  if constexpr (one_key_may_suffice<Problem>) {
    if (at.rows.size() != 1 || at.queries.size() != 1) return false;
    const matrix_view<const T> k = one_piece_of<T>(p.k.head(at.batch, at.kv_head)),
                               v = one_piece_of<T>(p.v.head(at.batch, at.kv_head));
    constexpr index_type a_tile = 8 * lanes<Arch, T>;
    const bool in_order =
        v.cols <= a_tile || geometry<Arch>::few_rows >= 8 || k.rows <= one_row<Arch, T>::a_run;
    return k.rows > 0 && k.cols % lanes<Arch, T> == 0 && in_order && lie_side_by_side<Arch>(p, k, v) &&
           is_seen_whole<Arch>(p, at, k.rows);
  }
  return false;
}

/// Such a job over the keys of `span`: its result, where attend_block may write it, and whether it did.
/// (8 heads of 64 take, with 2, 32, 128, 512 and 4,096 keys, 0.63, 1.06, 3.5, 19.5 and 166 us, with
/// attend_rows 1.15, 1.80, 4.4, 22.7 and 189, the textbook by Eigen 0.53, 1.31, 4.5, 21.6 and 184; Zen 5.)
template <class Arch, class Problem, class T = typename Problem::compute>
bool attend_one_row(const Problem& p, const row_block& at, range span, const row_memory<T>& memory) noexcept {
  if constexpr (one_key_may_suffice<Problem>) {
    const matrix_view<const T> k = one_piece_of<T>(p.k.head(at.batch, at.kv_head)),
                               v = one_piece_of<T>(p.v.head(at.batch, at.kv_head));
    const bool whole = span.size() == k.rows && span.size() <= one_row<Arch, T>::block;
    const index_type head = at.kv_head * p.group() + at.rows.first, query = at.queries.first;
    const one_row<Arch, T> row(p.q.head(at.batch, head).at(query), k.cols, p.factor(), memory.work,
                               p.from_memory);
    if (whole) {
      T* const lse = p.wants_lse() ? p.lse.head(at.batch, head).at(query) : nullptr;
      attend_block(row, k, v, p.out.head(at.batch, head).at(query), lse);
      return true;
    }
    attend_blocks(row, k.only(span), v.only(span), memory.state);
  }
  return false;
}

}  // namespace kernel
FOVEA_NAMESPACE_END
