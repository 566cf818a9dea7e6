// fovea/kernel/forward/one_key.hpp - the softmax over one key: P = 1, so O = V and LSE = S. The first
// token of a text that is decoded, where what a block of keys needs beside its products would be most of
// the time.
#pragma once

#include <fovea/kernel/forward/attend_rows.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Whether a head is a matrix of T, or all of its tokens lie in one, as a contiguous cache says of its heads.
/// (One query of 8 heads over a cache of floats, 32 x 64, 4,096 x 64, 8,192 x 128, 16,384 x 128: 1.7, 297,
/// 1,590 and 3,510 us by attend_rows, 1.4, 246, 1,150 and 2,750 by one_row; Zen 5.)
template <class Head, class T>
concept lies_in_one_piece =
    std::is_same_v<Head, matrix_view<const T>> ||
    (std::is_same_v<typename Head::element, T> && requires { requires Head::in_one_piece; });

/// That matrix.
template <class T, class Head>
matrix_view<const T> one_piece_of(const Head& head) noexcept {
  if constexpr (std::is_same_v<Head, matrix_view<const T>>) {
    return head;
  } else {
    matrix_view<const T> all{nullptr, 0, head.cols, head.cols};
    head.each_piece({0, head.rows}, [&](const auto& part) { all = part.tokens; });
    return all;
  }
}

/// Whether nothing but the mask comes between S and O, and elements are the numbers of the sums.
template <class Problem, class T = typename Problem::compute>
inline constexpr bool one_key_may_suffice =
    Problem::normalises && Problem::units == unit_of::log2 && !Problem::drops &&
    !sink_like<decltype(Problem::sink)> && requires(const Problem& p) {
      requires std::is_same_v<decltype(p.q.head(0, 0)), matrix_view<const T>>;
      requires lies_in_one_piece<decltype(p.k.head(0, 0)), T>;
      requires lies_in_one_piece<decltype(p.v.head(0, 0)), T>;
      requires std::is_same_v<decltype(p.out.head(0, 0)), matrix_view<T>>;
    };

/// Rows where there is one key, which all of them see: O = V, LSE = scale * q . k. Rows are a register or
/// more, side by side. Ends at the first row for which that does not suffice, as S is no finite number, and
/// returns it.
template <class Arch, class T>
FOVEA_NOINLINE index_type copy_value(const row_block& at, index_type first_head, const sequences<const T>& q,
                                     const matrix_view<const T>& k, const matrix_view<const T>& v, T scale,
                                     const sequences<T>& out, const sequences<T>& lse) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  const index_type all = at.queries.size(), whole = k.cols / n * n;
  for (index_type r = at.rows.first; r < at.rows.last; ++r) {
    const index_type head = first_head + r / all, query = at.queries.first + r % all;
    const T* const from = q.head(at.batch, head).at(query);
    auto sum = inner_sum<Arch, 1, 1, 1>(from, k.data, 0, whole, no_prefetch{});
    T s = sum_over_lanes<Arch, T>(sum.at[0][0]).get(0);
    for (index_type c = whole; c < k.cols; ++c) s += from[c] * k(0, c);
    s *= scale;
    if (!(std::abs(s) <= std::numeric_limits<T>::max())) return r;
    T* const to = out.head(at.batch, head).at(query);
    for (index_type i = 0; i * n < v.cols; ++i) {
      const index_type c = start_of<Arch, T>(i, v.cols);
      V::load_unaligned(v.at(0, c)).store_unaligned(to + c);
    }
    if (lse.all.data != nullptr) *lse.head(at.batch, head).at(query) = s;
  }
  return at.rows.last;
}

/// Whether elements of rows of all operands lie side by side, a register of them or more.
template <class Arch, class Problem, class T>
bool lie_side_by_side(const Problem& p, const matrix_view<const T>& k,
                      const matrix_view<const T>& v) noexcept {
  constexpr index_type n = lanes<Arch, T>;
  return k.col_stride == 1 && k.cols >= n && v.col_stride == 1 && v.cols >= n && p.q.all.dim_stride == 1 &&
         p.out.all.dim_stride == 1;
}

/// Whether all rows see all of so many keys.
template <class Arch, class Problem, class T = typename Problem::compute>
bool is_seen_whole(const Problem& p, const row_block& at, index_type keys) noexcept {
  if constexpr (!decltype(p.rules)::asks) return true;
  const index_type group = p.group();
  group_rules rules(p.rules, p.dropout, p.at(at.batch, at.kv_head * group), group);
  return row_rules_ref<Arch, T>(rules).cover(at.queries, {0, keys}) == coverage::full;
}

/// Writes the rows' results where there is one key and copy_value may; returns the first row that is left.
/// (Those before it are done: O may be Q, which is then not read again. 8 heads of dim 64: 0.42 us in all,
/// with attend_rows 1.43, the textbook with Eigen 0.64.)
template <class Arch, class Problem, class T = typename Problem::compute>
index_type attend_lone_key(const Problem& p, const row_block& at) noexcept {
  if constexpr (one_key_may_suffice<Problem>) {
    const matrix_view<const T> k = one_piece_of<T>(p.k.head(at.batch, at.kv_head)),
                               v = one_piece_of<T>(p.v.head(at.batch, at.kv_head));
    if (lie_side_by_side<Arch>(p, k, v) && is_seen_whole<Arch>(p, at, 1))
      return copy_value<Arch>(at, at.kv_head * p.group(), p.q, k, v, p.scale, p.out, p.lse);
  }
  return at.rows.first;
}

}  // namespace kernel
FOVEA_NAMESPACE_END
