// fovea/distributed/slice_rules.hpp - masks, scores and dropout of whole sequences, for a call on slices.
#pragma once

#include <fovea/plan/modifiers.hpp>

FOVEA_NAMESPACE_BEGIN
namespace distributed {

/// Where a call on slices stands: query row 0 is token first_query of the sequence, key 0 first_key. Masks
/// and scores are bound to the whole sequence, and asked about its cells: what they read, matrices and lists,
/// is that of the whole sequence too.
struct slice_place {
  index_type batch, batches, first_head, heads;  // heads: those of the model, from first_head on the call's
  index_type queries, keys;                      // of the whole sequence
  index_type first_query = 0, first_key = 0;
  bool in_cache = false;  // the queries are the last tokens of the keys

  place whole(index_type head) const noexcept {
    return {batch, first_head + head, batches, heads, queries, keys, in_cache};
  }
  range rows(range local) const noexcept { return {local.first + first_query, local.last + first_query}; }
  range columns(range local) const noexcept { return {local.first + first_key, local.last + first_key}; }
  range local_columns(range whole) const noexcept {
    return {whole.first - first_key, whole.last - first_key};
  }
  template <class Cells>
  Cells cells(Cells at) const noexcept {
    at.query += first_query, at.key += first_key;
    return at;
  }
};

/// A bound mask at the cells of slices. What it reads is not staged: it is read where it lies.
template <class Mask>
struct mask_at_slice {
  using reads_cells = void;
  static constexpr bool unsure = is_unsure<Mask>;
  Mask mask;
  slice_place at;

  auto visible(const auto& cells) const noexcept { return visible_at(mask, at.cells(cells)); }
  coverage cover(range rows, range keys) const noexcept {
    return cover_of(mask, at.rows(rows), at.columns(keys));
  }
  range reach(range rows) const noexcept { return at.local_columns(reach_of(mask, at.rows(rows), at.keys)); }
  index_type next(range rows, index_type key) const noexcept
    requires tells_next<Mask>
  {
    return next_of(mask, at.rows(rows), key + at.first_key) - at.first_key;
  }
  range shown(range rows, range keys) const noexcept
    requires tells_shown<Mask>
  {
    return at.local_columns(shown_of(mask, at.rows(rows), at.columns(keys)));
  }
  index_type row_edge(index_type row) const noexcept
    requires tells_edges<Mask>
  {
    return mask.row_edge(row + at.first_query) - at.first_query;
  }
  index_type key_edge(index_type key) const noexcept
    requires tells_edges<Mask>
  {
    return mask.key_edge(key + at.first_key) - at.first_key;
  }
  bool has_edges() const noexcept { return fovea::has_edges(mask); }
  bool has_gaps() const noexcept { return fovea::has_gaps(mask); }
};

template <class Mask>
struct slice_mask {
  using is_mask = void;
  static constexpr bool all = shows_all<std::remove_cvref_t<Mask>>;
  const Mask& mask;
  slice_place at;

  auto bind(const place& local) const noexcept {
    return mask_at_slice<decltype(bind_to(mask, local))>{bind_to(mask, at.whole(local.head)), at};
  }
};

/// All scores of a call as one, at the cells of slices.
template <class Rules>
struct all_scores_at_slice {
  static constexpr score_stage stage = score_stage::bias;
  static constexpr bool hides = Rules::hide;
  Rules rules;
  slice_place at;

  template <class V>
  V apply(const V& s, const auto& cells) const noexcept {
    return rules.score(s, at.cells(cells));
  }
  template <class V>
  V derivative(const V& s, const auto& cells) const noexcept {
    return rules.score_and_slope(s, at.cells(cells)).second;
  }
};

template <class Rules>
struct slice_scores {
  static constexpr score_stage stage = score_stage::bias;
  static constexpr bool hides = Rules::hide;
  const Rules& rules;
  slice_place at;

  auto bind(const place& local) const noexcept {
    return all_scores_at_slice<decltype(rules.bind(local))>{rules.bind(at.whole(local.head)), at};
  }
};

/// A head's dropout at the cells of slices: those that are left out in a call on whole sequences.
template <class Dropout>
struct dropout_at_slice {
  static constexpr bool drops = true;
  Dropout dropout;
  slice_place at;
  double scale;

  auto kept(const auto& cells) const noexcept
    requires requires { dropout.kept(cells); }
  {
    return dropout.kept(at.cells(cells));
  }
  auto factor(const auto& cells) const noexcept
    requires requires { dropout.factor(cells); }
  {
    return dropout.factor(at.cells(cells));
  }
};

template <class Dropout>
struct slice_dropout {
  static constexpr bool drops = true;
  const Dropout& dropout;
  slice_place at;

  auto bind(const place& local) const noexcept {
    auto bound = dropout.bind(at.whole(local.head));
    double scale = 1;
    if constexpr (requires { bound.scale; }) scale = bound.scale;
    return dropout_at_slice<decltype(bound)>{bound, at, scale};
  }
};

/// The mask and the dropout of a call on whole sequences: call(mods...) gets those that a call on slices
/// needs.
template <class Rules, class Dropout, class Call>
void with_slice_mask(const Rules& rules, const Dropout& dropout, const slice_place& at, const Call& call) {
  const auto with_dropout = [&](const auto&... mods) {
    if constexpr (Dropout::drops)
      call(mods..., slice_dropout<Dropout>{dropout, at});
    else
      call(mods...);
  };
  using Mask = std::remove_cvref_t<decltype(rules.mask)>;
  if constexpr (Rules::natural || !shows_all<Mask>)
    with_dropout(slice_mask<Mask>{rules.mask, at});
  else
    with_dropout();
}

/// All of its rules.
template <class Rules, class Dropout, class Call>
void with_slice_rules(const Rules& rules, const Dropout& dropout, const slice_place& at, const Call& call) {
  with_slice_mask(rules, dropout, at, [&](const auto&... mods) {
    if constexpr (Rules::natural)
      call(mods..., slice_scores<Rules>{rules, at});
    else
      call(mods...);
  });
}

/// Whether a mask hides all keys from all of the rows, in every head, as far as it tells without being asked
/// for cells.
template <class Rules>
bool hides_all(const Rules& rules, const slice_place& at, index_type heads, index_type rows,
               index_type keys) noexcept {
  if (rows <= 0 || keys <= 0) return true;
  if constexpr (shows_all<std::remove_cvref_t<decltype(rules.mask)>>) return false;
  for (index_type h = 0; h < heads; ++h) {
    decltype(auto) mask = bind_to(rules.mask, at.whole(h));
    const range of_rows = at.rows({0, rows}), of_keys = at.columns({0, keys});
    if (cover_of(mask, of_rows, of_keys) != coverage::none && !seen_of(mask, of_rows, of_keys).empty())
      return false;
  }
  return true;
}

}  // namespace distributed
FOVEA_NAMESPACE_END
