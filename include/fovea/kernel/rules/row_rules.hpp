// fovea/kernel/rules/row_rules.hpp - the rules of query heads that share a key/value head, as a walk with dim
// in lanes asks them: through pointers, once a row and block of keys.
#pragma once

#include <fovea/kernel/rules/dropout.hpp>
#include <fovea/kernel/rules/rules.hpp>

#include <cstddef>
#include <new>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Rules and dropout of a call, bound to each head of a group when they are asked about it: the last few stay
/// bound, as a job asks for each block of keys.
template <class Rules, class Dropout>
class group_rules {
  using bound = decltype(std::declval<const Rules&>().bind(place()));

  using mask_type = std::remove_cvref_t<decltype(bound::mask)>;

 public:
  static constexpr bool skips = tells_next<mask_type> || tells_shown<mask_type>;

  /// `first`: where the group's first head stands.
  group_rules(const Rules& rules, const Dropout& dropout, const place& first, index_type heads) noexcept
      : rules_(rules), dropout_(dropout), first_(first), heads_(heads) {
    for (index_type& head : held_) head = none;
  }
  group_rules(const group_rules&) = delete;
  ~group_rules() {
    for (index_type i = 0; i < slots; ++i) release(i);
  }

  /// The rules of a head, counted from the first; a reference lives until another head is asked about.
  const bound& of(index_type head) noexcept {
    const index_type i = head % slots;
    if (held_[i] != head) {
      release(i);
      ::new (static_cast<void*>(&room_[i])) bound(rules_.bind(at(head)));
      held_[i] = head;
    }
    return *slot(i);
  }
  auto dropout_of(index_type head) const noexcept { return dropout_.bind(at(head)); }

  /// Whether a score may hide a cell.
  bool hides() const noexcept { return rules_.may_hide(); }
  /// The keys of `span` that any of the heads may see.
  range reach(range queries, range span) noexcept {
    range all{span.last, span.first};
    for (index_type h = 0; h < heads_; ++h) {
      const range seen = reach_of(of(h).mask, queries, span.last);
      all = {std::min(all.first, seen.first), std::max(all.last, seen.last)};
    }
    return all;
  }
  /// How much the heads see of `keys`: none, partial where it is not the same for all.
  coverage cover(range queries, range keys) noexcept {
    coverage least = coverage::full, most = coverage::none;
    for (index_type h = 0; h < heads_; ++h) {
      const auto& mask = of(h).mask;
      const range seen = intersect(keys, reach_of(mask, queries, keys.last));
      const coverage covered = seen.empty() ? coverage::none : cover_of(mask, queries, keys);
      least = std::min(least, covered), most = std::max(most, covered);
    }
    return least == most ? most : coverage::partial;
  }
  /// The first key from `key` on that one of the heads may see.
  index_type next(range queries, index_type key) noexcept {
    index_type first = std::numeric_limits<index_type>::max();
    for (index_type h = 0; h < heads_; ++h) first = std::min(first, next_of(of(h).mask, queries, key));
    return first;
  }
  /// Those of the keys that some of the heads show.
  range shown(range queries, range keys) noexcept {
    range all{keys.last, keys.first};
    for (index_type h = 0; h < heads_; ++h)
      if (const range seen = seen_of(of(h).mask, queries, keys); !seen.empty())
        all = {std::min(all.first, seen.first), std::max(all.last, seen.last)};
    return all.empty() ? range{keys.first, keys.first} : all;
  }

 private:
  static constexpr index_type slots = 8, none = -1;
  struct alignas(bound) bytes {
    std::byte of[sizeof(bound)];
  };

  place at(index_type head) const noexcept {
    place here = first_;
    here.head += head;
    return here;
  }
  bound* slot(index_type i) noexcept { return std::launder(reinterpret_cast<bound*>(&room_[i])); }
  void release(index_type i) noexcept {
    if constexpr (!std::is_trivially_destructible_v<bound>)
      if (held_[i] != none) slot(i)->~bound();
  }

  const Rules& rules_;
  const Dropout& dropout_;
  place first_;
  index_type heads_, held_[slots];  // the head whose rules lie there
  bytes room_[slots];
};

/// Hides the lanes from `count` on.
template <class Arch, class T>
FOVEA_INLINE vec<Arch, T> hidden_beyond(const vec<Arch, T>& x, index_type count) noexcept {
  using V = vec<Arch, T>;
  if (count >= index_type(lanes<Arch, T>)) return x;
  return xsimd::select(counting_up<Arch, T>() < V(static_cast<T>(count)), x, V(hidden<T>));
}

/// Applies scores and mask to the logits of a query, pads them with hidden cells, and finds the largest in
/// each lane.
template <class Arch, class T, class Rules>
FOVEA_NOINLINE FOVEA_FLATTEN vec<Arch, T> apply_to_row(const Rules& rules, coverage covered, index_type query,
                                                       range keys, T* s) noexcept {
  using V = vec<Arch, T>;
  V largest(hidden<T>);
  for (index_type j = 0; j < keys.size(); j += lanes<Arch, T>) {
    const cells<Arch, T, in_lanes::keys> here{query, keys.first + j, keys.size() - j};
    const V x = with_rules<Arch>(rules, covered, V::load_aligned(s + j), here);
    const V shown = hidden_beyond<Arch, T>(x, here.count);
    shown.store_aligned(s + j);
    largest = xsimd::max(largest, shown);
  }
  return largest;
}
/// The same where there are none of both.
template <class Arch, class T>
FOVEA_NOINLINE vec<Arch, T> pad_row(index_type keys, T* s) noexcept {
  using V = vec<Arch, T>;
  V largest(hidden<T>);
  for (index_type j = 0; j < keys; j += lanes<Arch, T>) {
    const V x = hidden_beyond<Arch, T>(V::load_aligned(s + j), keys - j);
    x.store_aligned(s + j);
    largest = xsimd::max(largest, x);
  }
  return largest;
}

/// A reference to group_rules of any type. Heads are counted from the group's first.
template <class Arch, class T>
class row_rules_ref {
 public:
  template <class Rules, class Dropout>
  explicit row_rules_ref(group_rules<Rules, Dropout>& group) noexcept
      : group_(&group), of_(&functions_of<Rules, Dropout>), hides_(group.hides()) {}

  /// Whether a score may hide a cell.
  bool hides() const noexcept { return hides_; }
  range reach(range queries, range span) const noexcept { return of_->reach(group_, queries, span); }
  coverage cover(range queries, range keys) const noexcept { return of_->cover(group_, queries, keys); }
  /// Whether the masks say which keys come next, and which are shown.
  bool skips() const noexcept { return of_->skips; }
  index_type next(range queries, index_type key) const noexcept { return of_->next(group_, queries, key); }
  /// In whole registers: each key stays in its lane, and sums keep their bits, however exact the masks are.
  range shown(range queries, range keys) const noexcept {
    constexpr index_type n = lanes<Arch, T>;
    const range seen = of_->shown(group_, queries, keys);
    return {keys.first + (seen.first - keys.first) / n * n,
            std::min(keys.first + round_up(seen.last - keys.first, n), keys.last)};
  }

  /// Scores and mask on a query's logits; returns the largest in each lane.
  vec<Arch, T> apply(index_type head, index_type query, coverage covered, range keys, T* s) const noexcept {
    if (!of_->scores && covered == coverage::full) return pad_row<Arch>(keys.size(), s);
    return of_->apply(group_, head, query, covered, keys, s);
  }
  /// Dropout on a query's weights.
  void drop(index_type head, index_type query, range keys, T* p) const noexcept {
    of_->drop(group_, head, query, keys, p);
  }

 private:
  struct functions {
    bool scores, skips;
    range (*reach)(void*, range, range) noexcept;
    coverage (*cover)(void*, range, range) noexcept;
    index_type (*next)(void*, range, index_type) noexcept;
    range (*shown)(void*, range, range) noexcept;
    vec<Arch, T> (*apply)(void*, index_type, index_type, coverage, range, T*) noexcept;
    void (*drop)(void*, index_type, index_type, range, T*) noexcept;
  };

  template <class Rules, class Dropout>
  struct of_group {
    static auto& from(void* group) noexcept { return *static_cast<group_rules<Rules, Dropout>*>(group); }
    static void drop(void* group, index_type head, index_type query, range keys, T* p) noexcept {
      drop_row<Arch>(from(group).dropout_of(head), query, p, keys);
    }
    static constexpr auto drop_function() noexcept {
      if constexpr (std::remove_cvref_t<Dropout>::drops) return &drop;
      return static_cast<decltype(&drop)>(nullptr);
    }
  };
  template <class Rules, class Dropout, class Of = of_group<Rules, Dropout>>
  static constexpr functions functions_of{
      Rules::natural,
      group_rules<Rules, Dropout>::skips,
      [](void* group, range queries, range span) noexcept { return Of::from(group).reach(queries, span); },
      [](void* group, range queries, range keys) noexcept { return Of::from(group).cover(queries, keys); },
      [](void* group, range queries, index_type key) noexcept { return Of::from(group).next(queries, key); },
      [](void* group, range queries, range keys) noexcept { return Of::from(group).shown(queries, keys); },
      [](void* group, index_type head, index_type query, coverage covered, range keys, T* s) noexcept {
        vec<Arch, T> largest;
        Of::from(group).of(head).of_kind(
            [&](const auto& known) { largest = apply_to_row<Arch>(known, covered, query, keys, s); });
        return largest;
      },
      Of::drop_function()};

  void* group_;
  const functions* of_;
  bool hides_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
