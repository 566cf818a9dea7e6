// fovea/kernel/forward/one_key.hpp - the softmax over one key: P = 1, so O = V and LSE = S. The first
// token of a text that is decoded, where what a block of keys needs beside its products would be most of
// the time.
#pragma once

#include <fovea/kernel/forward/attend_rows.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Whether nothing but the mask comes between S and O, and elements are the numbers of the sums.
template <class Problem, class T = typename Problem::compute>
inline constexpr bool one_key_may_suffice =
    Problem::units == unit_of::log2 && !Problem::drops && !sink_like<decltype(Problem::sink)> &&
    requires(const Problem& p) {
      requires std::is_same_v<decltype(p.q.head(0, 0)), matrix_view<const T>>;
      requires std::is_same_v<decltype(p.k.head(0, 0)), matrix_view<const T>>;
      requires std::is_same_v<decltype(p.v.head(0, 0)), matrix_view<const T>>;
      requires std::is_same_v<decltype(p.out.head(0, 0)), matrix_view<T>>;
    };

/// Writes the rows' results where there is one key, which all of them see, and rows are a register or more,
/// side by side, up to the first row for which that does not suffice, as S is no finite number; returns that
/// row. (Those before it are done: O may be Q, which is then not read again. 8 heads of dim 64: 0.42 us in
/// all, with attend_rows 1.43, the textbook with Eigen 0.64.)
template <class Arch, class Problem, class T = typename Problem::compute>
FOVEA_NOINLINE index_type attend_lone_key(const Problem& p, const row_block& at) noexcept {
  if constexpr (!one_key_may_suffice<Problem>) {
    return at.rows.first;
  } else {
    using V = vec<Arch, T>;
    constexpr index_type n = static_cast<index_type>(V::size);
    const auto side_by_side = [](const auto& x) { return x.col_stride == 1 && x.cols >= n; };
    const index_type first_head = at.kv_head * p.group(), all = at.queries.size();
    const matrix_view<const T> k = p.k.head(at.batch, at.kv_head), v = p.v.head(at.batch, at.kv_head);
    if (!side_by_side(k) || !side_by_side(v) || !side_by_side(p.q.head(at.batch, first_head)) ||
        !side_by_side(p.out.head(at.batch, first_head)) || cover_of_rows(p, at, {0, 1}) != coverage::full)
      return at.rows.first;
    for (index_type r = at.rows.first; r < at.rows.last; ++r) {
      const index_type head = first_head + r / all, query = at.queries.first + r % all;
      const auto q = p.q.head(at.batch, head);
      const index_type whole = k.cols / n * n;
      auto sum = inner_sum<Arch, 1, 1, 1>(q.at(query), k.data, 0, whole, no_prefetch{});
      T s = sum_over_lanes<Arch, T>(sum.at[0][0]).get(0);
      for (index_type c = whole; c < k.cols; ++c) s += q(query, c) * k(0, c);
      s *= p.scale;
      if (!(std::abs(s) <= std::numeric_limits<T>::max())) return r;
      const auto out = p.out.head(at.batch, head);
      for (index_type i = 0; i * n < v.cols; ++i) {
        const index_type c = start_of<Arch, T>(i, v.cols);
        V::load_unaligned(v.at(0, c)).store_unaligned(out.at(query, c));
      }
      if (p.wants_lse()) *p.lse.head(at.batch, head).at(query) = s;
    }
    return at.rows.last;
  }
}

}  // namespace kernel
FOVEA_NAMESPACE_END
