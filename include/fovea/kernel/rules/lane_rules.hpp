// fovea/kernel/rules/lane_rules.hpp - the rules of one head as a walk with queries in lanes asks them:
// through pointers, once a block of logits.
#pragma once

#include <fovea/kernel/operand/prefetch.hpp>
#include <fovea/kernel/rules/dropout.hpp>
#include <fovea/kernel/rules/mask_parts.hpp>
#include <fovea/kernel/rules/probe_coverage.hpp>
#include <fovea/kernel/rules/rules.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Rules and dropout, bound to a head.
template <class Rules, class Dropout>
struct bound_rules {
  Rules rules;
  Dropout dropout;
};
template <class Rules, class Dropout>
bound_rules(Rules, Dropout) -> bound_rules<Rules, Dropout>;

/// Applies scores and mask, as it is within the block around, to n keys x n queries of logits, `width` apart;
/// returns the largest of each query.
template <class Arch, class T, class Rules, class Mask>
FOVEA_INLINE vec<Arch, T> apply_to_block(const Rules& all_rules, const Mask& mask, staging_block<Arch, T> at,
                                         T* s, index_type width) noexcept {
  using V = vec<Arch, T>;
  V largest(hidden<T>);
  coverage covered = coverage::partial;
  if constexpr (matrices_of<Mask> == 0)  // a matrix is read cell by cell anyway
    covered = cover_of(mask, {at.query, at.query + at.queries}, {at.key, at.key + at.keys});
  if (covered == coverage::none) {
    for (index_type j = 0; j < at.keys; ++j) largest.store_aligned(s + j * width);
    return largest;
  }
  if (!Rules::natural && covered == coverage::full) {  // nothing changes
    V most[4] = {largest, largest, largest, largest};  // one would wait for itself
    index_type j = 0;
    for (; j + 4 <= at.keys; j += 4)
      for (index_type i = 0; i < 4; ++i) most[i] = xsimd::max(most[i], V::load_aligned(s + (j + i) * width));
    for (; j < at.keys; ++j) most[0] = xsimd::max(most[0], V::load_aligned(s + j * width));
    return xsimd::max(xsimd::max(most[0], most[1]), xsimd::max(most[2], most[3]));
  }
  const auto rules = all_rules.staged(mask, at);
  for (index_type j = 0; j < at.keys; ++j, s += width) {
    const cells<Arch, T, in_lanes::queries> here{at.query, at.key + j, at.queries};
    const V x = with_rules<Arch>(rules, covered, V::load_aligned(s), here);
    x.store_aligned(s);
    largest = xsimd::max(largest, x);
  }
  return largest;
}

/// Applies scores and mask to logits [key][width] of queries `rows`, a block of cells at a time, and finds
/// the largest of each query anew; `stages` takes copies of what they read there. (Those on the stack were
/// most of what calls took.)
template <class Arch, class T, class Rules>
FOVEA_NOINLINE FOVEA_FLATTEN void apply_rules(const Rules& rules, range rows, range keys, T* s,
                                              index_type width, vec<Arch, T>* largest,
                                              std::byte* stages) noexcept {
  constexpr index_type n = lanes<Arch, T>;
  const auto& mask = within(rules.mask, rows, keys);
  for (index_type w = 0; w < width; w += n) {
    vec<Arch, T> most(hidden<T>);
    const index_type query = rows.first + w, queries = std::min(n, rows.last - query);
    for (index_type key = keys.first; key < keys.last; key += n) {
      const staging_block<Arch, T> at{query, key, queries, std::min(n, keys.last - key), stages};
      most = xsimd::max(most, apply_to_block(rules, mask, at, s + (key - keys.first) * width + w, width));
    }
    *largest++ = most;
  }
}

/// A reference to bound_rules of any type.
template <class Arch, class T>
class rules_ref {
 public:
  template <class Rules, class Dropout>
  explicit rules_ref(const bound_rules<Rules, Dropout>& bound) noexcept
      : bound_(&bound), of_(&functions_of<bound_rules<Rules, Dropout>>), hides_(bound.rules.may_hide()) {}
  /// Of rules that are no head's alone (grouped_rules.hpp), which answer the same.
  template <class Group>
    requires requires { typename Group::is_grouped; }
  explicit rules_ref(const Group& group) noexcept
      : bound_(&group), of_(&functions_of_group<Group>), hides_(group.hides()) {}

  /// Whether scores act, on logits in natural units; whether one may hide a cell.
  bool scores() const noexcept { return of_->scores; }
  bool hides() const noexcept { return hides_; }

  /// Of the mask: see mask/concept.hpp.
  range reach(range rows, index_type keys) const noexcept { return of_->reach(bound_, rows, keys); }
  index_type next(range rows, index_type key) const noexcept { return of_->next(bound_, rows, key); }
  coverage cover(range rows, range keys) const noexcept { return of_->cover(bound_, rows, keys); }
  /// How much the mask shows of a panel's queries; where it does not say, each cell is asked, and `keys`
  /// shrinks to those that some query sees.
  coverage cover_panel(range rows, range& keys) const noexcept {
    return of_->cover_panel(bound_, rows, keys);
  }

  /// Scores and mask on logits [key][width]: see apply_rules.
  void apply(range rows, range keys, T* s, index_type width, vec<Arch, T>* largest,
             std::byte* stages) const noexcept {
    of_->apply(bound_, rows, keys, s, width, largest, stages);
  }
  /// Dropout on weights [key][width].
  void drop(range rows, range keys, T* p, index_type width) const noexcept {
    of_->drop(bound_, rows, keys, p, width);
  }
  /// The cells of matrices that apply() will read, and that its stages alone would wait for.
  void prefetch_cells(range rows, range keys, prefetch& lines) const noexcept {
    if (of_->prefetch_cells != nullptr) of_->prefetch_cells(bound_, rows, keys, lines);
  }

 private:
  struct functions {
    bool scores;
    range (*reach)(const void*, range, index_type) noexcept;
    index_type (*next)(const void*, range, index_type) noexcept;
    coverage (*cover)(const void*, range, range) noexcept;
    coverage (*cover_panel)(const void*, range, range&) noexcept;
    void (*apply)(const void*, range, range, T*, index_type, vec<Arch, T>*, std::byte*) noexcept;
    void (*drop)(const void*, range, range, T*, index_type) noexcept;
    void (*prefetch_cells)(const void*, range, range, prefetch&) noexcept;
  };

  template <class Bound>
  struct of_bound {
    using rules_type = std::remove_cvref_t<decltype(Bound::rules)>;
    static const auto& rules(const void* bound) noexcept { return static_cast<const Bound*>(bound)->rules; }
    static const auto& mask(const void* bound) noexcept { return rules(bound).mask; }
    using mask_type = std::remove_cvref_t<decltype(rules_type::mask)>;

    static coverage cover_panel(const void* bound, range rows, range& keys) noexcept {
      if constexpr (tells_shown<mask_type>) {
        constexpr index_type step = geometry<Arch>::tile_rows;
        const range shown = shown_of(mask(bound), rows, keys);
        keys = {keys.first + (shown.first - keys.first) / step * step, shown.last};
      }
      const coverage covered = keys.empty() ? coverage::none : cover_of(mask(bound), rows, keys);
      if constexpr (is_unsure<mask_type>)
        if (covered == coverage::partial) return ask_each<Arch, T>(mask(bound), rows, keys);
      return covered;
    }
    static void apply(const void* bound, range rows, range keys, T* s, index_type width,
                      vec<Arch, T>* largest, std::byte* stages) noexcept {
      rules(bound).of_kind(
          [&](const auto& known) { apply_rules<Arch>(known, rows, keys, s, width, largest, stages); });
    }
    static void drop(const void* bound, range rows, range keys, T* p, index_type width) noexcept {
      kernel::drop<Arch>(static_cast<const Bound*>(bound)->dropout, p, width, rows, keys);
    }
    static void prefetch_cells(const void* bound, range rows, range keys, prefetch& lines) noexcept {
      of_bound::rules(bound).each_matrix([&](const auto& m) { lines.add(line_use::read_l2, m, rows, keys); });
    }
    static constexpr auto drop_function() noexcept {
      if constexpr (std::remove_cvref_t<decltype(Bound::dropout)>::drops) return &drop;
      return static_cast<decltype(&drop)>(nullptr);
    }
  };
  template <class Bound, class Of = of_bound<Bound>>
  static constexpr functions functions_of{Of::rules_type::natural,
                                          [](const void* bound, range rows, index_type keys) noexcept {
                                            return reach_of(Of::mask(bound), rows, keys);
                                          },
                                          [](const void* bound, range rows, index_type key) noexcept {
                                            return next_of(Of::mask(bound), rows, key);
                                          },
                                          [](const void* bound, range rows, range keys) noexcept {
                                            return cover_of(Of::mask(bound), rows, keys);
                                          },
                                          &Of::cover_panel,
                                          &Of::apply,
                                          Of::drop_function(),
                                          Of::rules_type::matrices > 0 ? &Of::prefetch_cells : nullptr};

  template <class Group>
  struct of_group {
    static const Group& from(const void* group) noexcept { return *static_cast<const Group*>(group); }
    static void drop(const void* group, range rows, range keys, T* p, index_type width) noexcept {
      from(group).drop(rows, keys, p, width);
    }
    static constexpr auto drop_function() noexcept {
      if constexpr (Group::drops) return &drop;
      return static_cast<decltype(&drop)>(nullptr);
    }
  };
  template <class Group, class Of = of_group<Group>>
  static constexpr functions functions_of_group{
      Group::scores,
      [](const void* group, range rows, index_type keys) noexcept {
        return Of::from(group).reach(rows, keys);
      },
      [](const void* group, range rows, index_type key) noexcept { return Of::from(group).next(rows, key); },
      [](const void* group, range rows, range keys) noexcept { return Of::from(group).cover(rows, keys); },
      [](const void* group, range rows, range& keys) noexcept { return Of::from(group).cover(rows, keys); },
      [](const void* group, range rows, range keys, T* s, index_type width, vec<Arch, T>* largest,
         std::byte*) noexcept { Of::from(group).apply(rows, keys, s, width, largest); },
      Of::drop_function(),
      nullptr};

  const void* bound_;
  const functions* of_;
  bool hides_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
