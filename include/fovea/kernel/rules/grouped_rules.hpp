// fovea/kernel/rules/grouped_rules.hpp - the rules of a group of query heads, whose rows lie in lanes by
// turns: row r is query r / heads of the group's head r % heads.
//
// Masks and scores are asked of the group, as a walk with dim in lanes asks (row_rules.hpp). Where they act
// on cells, a register of rows is turned, so that a row's keys are in lanes, and turned back.
#pragma once

#include <fovea/kernel/rules/lane_rules.hpp>
#include <fovea/kernel/rules/row_rules.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Room for a register of rows against a block of keys, keys in lanes.
template <class Arch, class T>
index_type turned_bytes(index_type keys) noexcept {
  return bytes_of<T>(lanes<Arch, T> * round_up(keys, index_type(lanes<Arch, T>)));
}

/// What rules_ref asks (lane_rules.hpp), of a group.
template <class Arch, class T, class Rules, class Dropout>
class grouped_rules {
  using V = vec<Arch, T>;
  static constexpr index_type n = lanes<Arch, T>;

 public:
  using is_grouped = void;
  static constexpr bool scores = Rules::natural, drops = std::remove_cvref_t<Dropout>::drops;

  /// `room`: of turned_bytes.
  grouped_rules(group_rules<Rules, Dropout>& group, index_type heads, T* room) noexcept
      : group_(group), heads_(heads), room_(room) {}

  bool hides() const noexcept { return group_.hides(); }
  range reach(range rows, index_type keys) const noexcept { return group_.reach(queries(rows), {0, keys}); }
  index_type next(range rows, index_type key) const noexcept { return group_.next(queries(rows), key); }
  coverage cover(range rows, range keys) const noexcept {
    return keys.empty() ? coverage::none : group_.cover(queries(rows), keys);
  }

  void apply(range rows, range keys, T* s, index_type width, V* largest) const noexcept {
    const coverage covered = cover(rows, keys);
    for (index_type w = 0; w < width; w += n, ++largest) {
      V most[std::size_t{n}];
      for (V& x : most) x = V(T(0));  // of lanes beyond the rows: as their logits are
      turned(rows, keys, s, width, w, [&](index_type i, index_type head, index_type query, T* logits) {
        group_.of(head).of_kind(
            [&](const auto& known) { most[i] = apply_to_row<Arch>(known, covered, query, keys, logits); });
      });
      isa<Arch>::transpose(most);
      for (const V& x : most) most[0] = xsimd::max(most[0], x);
      *largest = most[0];
    }
  }
  void drop(range rows, range keys, T* p, index_type width) const noexcept {
    for (index_type w = 0; w < width; w += n)
      turned(rows, keys, p, width, w, [&](index_type, index_type head, index_type query, T* weights) {
        drop_row<Arch>(group_.dropout_of(head), query, weights, keys);
      });
  }

 private:
  range queries(range rows) const noexcept { return {rows.first / heads_, ceil_div(rows.last, heads_)}; }

  /// f(lane, head, query, its numbers, a key each) for the rows of a register, w elements from the first.
  template <class F>
  void turned(range rows, range keys, T* s, index_type width, index_type w, const F& f) const noexcept {
    const index_type stride = round_up(keys.size(), n), count = std::min(n, rows.last - rows.first - w);
    for (index_type j = 0; j < keys.size(); j += n) {
      V x[std::size_t{n}];
      for (index_type e = 0; e < n; ++e)
        x[e] = V::load_aligned(s + std::min(j + e, keys.size() - 1) * width + w);
      isa<Arch>::transpose(x);
      for (index_type i = 0; i < n; ++i) x[i].store_aligned(room_ + i * stride + j);
    }
    for (index_type i = 0; i < count; ++i) {
      const index_type row = rows.first + w + i;
      f(i, row % heads_, row / heads_, room_ + i * stride);
    }
    for (index_type j = 0; j < keys.size(); j += n) {
      V x[std::size_t{n}];
      for (index_type i = 0; i < n; ++i) x[i] = V::load_aligned(room_ + i * stride + j);
      isa<Arch>::transpose(x);
      for (index_type e = 0; e < std::min(n, keys.size() - j); ++e)
        x[e].store_aligned(s + (j + e) * width + w);
    }
  }

  group_rules<Rules, Dropout>& group_;
  index_type heads_;
  T* room_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
