// fovea/kernel/rules/token_classes.hpp - the rules of a call for every n-th of its tokens: of a dilated mask
// queries of one remainder see keys of one remainder, a call of its own over views of every n-th row, in
// which that mask hides nothing more.
#pragma once

#include <fovea/kernel/rules/rules.hpp>
#include <fovea/view/sequences.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Where a class stands in the score matrix: its row i at query + i * step, its column j at key + j * step.
struct class_place {
  index_type step, query, key;

  /// The rows, or keys, around those of a class; the first of a class from one of all on.
  range around(range of_class, index_type first) const noexcept {
    if (of_class.empty()) return {};
    return {first + step * of_class.first, first + step * (of_class.last - 1) + 1};
  }
  range rows(range of_class) const noexcept { return around(of_class, query); }
  range keys(range of_class) const noexcept { return around(of_class, key); }
  index_type from(index_type of_all, index_type first) const noexcept {
    return of_all <= first ? 0 : (of_all - first - 1) / step + 1;  // of_all may be the largest number
  }
  range keys_of(range of_all) const noexcept { return {from(of_all.first, key), from(of_all.last, key)}; }

  template <class E>
  matrix_view<E> only(const matrix_view<E>& m) const noexcept {
    return {m.at(query, key), m.rows, m.cols, m.row_stride * step, m.col_stride * step};
  }
};

/// Cells of a class, asked where they stand among all.
template <class Cells>
struct cells_of_class {
  const Cells& cells;
  const class_place& at;

  auto q() const noexcept { return in_all(cells.q(), at.query); }
  auto k() const noexcept { return in_all(cells.k(), at.key); }
  auto row() const noexcept { return in_all(cells.row(), at.query); }
  auto col() const noexcept { return in_all(cells.col(), at.key); }
  template <class E>
  auto load(const matrix_view<E>& m) const noexcept {
    return cells.load(at.only(m));
  }
  template <class E>
  auto nonzero(const matrix_view<E>& m) const noexcept {
    return cells.nonzero(at.only(m));
  }
  template <class List>
  auto same_number(const List& of_query, const List& of_key) const noexcept {
    return cells.same_number(List{of_query.at(at.query), of_query.stride * at.step},
                             List{of_key.at(at.key), of_key.stride * at.step});
  }
  template <class F>
  auto ask(const F& f) const noexcept {
    return cells.ask(of_all(f));
  }
  template <class F>
  auto one_by_one(const F& f) const noexcept {
    return cells.one_by_one(of_all(f));
  }
  template <class F>
  auto number_of_each(const F& f) const noexcept {
    return cells.number_of_each(of_all(f));
  }
  static auto truth(const auto& x) noexcept { return Cells::truth(x); }

 private:
  template <class V>
  V in_all(const V& x, index_type first) const noexcept {
    using number = typename V::value_type;
    return x * V(static_cast<number>(at.step)) + V(static_cast<number>(first));
  }
  template <class F>
  auto of_all(const F& f) const noexcept {
    return [this, &f](index_type q, index_type k) noexcept {
      return f(at.query + at.step * q, at.key + at.step * k);
    };
  }
};

/// A mask of a call, bound, for one class: what it says of the rows and keys around. `asked`: unless all
/// that it hides is what other classes are for.
template <class Kept>
struct mask_of_class {
  using reads_cells = void;
  using mask_type = std::remove_cvref_t<Kept>;
  static constexpr bool unsure = is_unsure<mask_type>;
  Kept mask;
  class_place at;
  bool asked;

  auto visible(const auto& cells) const noexcept {
    const cells_of_class<std::remove_cvref_t<decltype(cells)>> here{cells, at};
    return asked ? cells.truth(visible_at(mask, here)) : cells.truth(true);
  }
  coverage cover(range rows, range keys) const noexcept {
    return asked ? cover_of(mask, at.rows(rows), at.keys(keys)) : coverage::full;
  }
  range reach(range rows) const noexcept {
    constexpr index_type every = std::numeric_limits<index_type>::max();
    return asked ? at.keys_of(reach_of(mask, at.rows(rows), every)) : range{0, every};
  }
  index_type next(range rows, index_type key) const noexcept
    requires(tells_next<mask_type> && !tells_step<mask_type>)
  {
    return at.from(next_of(mask, at.rows(rows), at.key + at.step * key), at.key);
  }
  range shown(range rows, range keys) const noexcept
    requires(tells_shown<mask_type> && !tells_step<mask_type>)
  {
    return at.keys_of(shown_of(mask, at.rows(rows), at.keys(keys)));
  }
  index_type row_edge(index_type row) const noexcept
    requires tells_edges<mask_type>
  {
    return at.from(mask.row_edge(at.query + at.step * row), at.query);
  }
  index_type key_edge(index_type key) const noexcept
    requires tells_edges<mask_type>
  {
    return at.from(mask.key_edge(at.key + at.step * key), at.key);
  }
  bool has_edges() const noexcept { return fovea::has_edges(mask); }
};

/// A score of a call, bound, for one class.
template <class Kept>
struct score_of_class {
  using score_type = std::remove_cvref_t<Kept>;
  static constexpr score_stage stage = score_type::stage;
  static constexpr bool hides = score_hides<score_type>;
  Kept score;
  class_place at;

  bool may_hide() const noexcept { return score_may_hide(score); }
  template <class V, class Cells>
  V apply(const V& s, const Cells& cells) const noexcept {
    return apply_score(score, s, cells_of_class<Cells>{cells, at});
  }
  template <class V, class Cells>
  V derivative(const V& s, const Cells& cells) const noexcept {
    return slope_of_score(score, s, cells_of_class<Cells>{cells, at});
  }
};

/// The rules of a call, whose tokens are sorted by classes: `whole` is the call as it was given.
template <class Whole>
struct rules_of_classes {
  using rules_type = std::remove_cvref_t<decltype(Whole::rules)>;
  static constexpr bool natural = rules_type::natural, hide = rules_type::hide, asks = rules_type::asks;
  static constexpr int matrices = 0;

  const Whole* whole;
  const token_classes& of_keys;
  value_list<> scores = {};

  bool may_hide() const noexcept { return whole->rules.may_hide(); }
  auto bind(const place& at) const noexcept {
    const index_type b = at.batch / of_keys.count;
    const auto bound = whole->rules.bind(whole->at(b, at.head));
    const class_place here{of_keys.step, at.batch % of_keys.count, of_keys.first(at.batch)};
    const auto mask_here = [&]<class Kept>(const auto& m) {
      return mask_of_class<Kept>{m, here, !sorts(m, b)};
    };
    const auto score_here = [&]<class Kept>(const auto& s) { return score_of_class<Kept>{s, here}; };
    using all = rules_with<decltype(bound.mask.map_parts(mask_here)), decltype(bound.scores.map(score_here))>;
    return typename all::type{bound.mask.map_parts(mask_here), bound.scores.map(score_here)};
  }

 private:
  /// Whether a mask of sequence b hides no more than what is of other classes.
  template <class Mask>
  bool sorts(const Mask& mask, index_type b) const noexcept {
    if constexpr (hides_by_step_alone<Mask>) {
      const key_step by = mask.every();
      return by.step == of_keys.step && (by.first_query - of_keys.shift_of(b)) % by.step == 0;
    }
    return false;
  }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
