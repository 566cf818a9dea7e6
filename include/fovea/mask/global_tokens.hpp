// fovea/mask/global_tokens.hpp - a few tokens that all see, and that see all.
#pragma once

#include <fovea/mask/id_list.hpp>

FOVEA_NAMESPACE_BEGIN

/// global_tokens, of one sequence: positions that never fall.
template <class E>
struct global_cells {
  using reads_cells = void;
  id_list<E> positions;
  index_type count, keys, first_query;

  auto visible(const auto& cells) const noexcept {
    return cells.ask([this](index_type q, index_type k) { return holds(k) || holds(q + first_query); });
  }
  coverage cover(range rows, range block) const noexcept {
    if (rows.empty() || block.empty()) return coverage::none;
    const range tokens = of(rows);
    if (holds_all(tokens) || holds_all(block)) return coverage::full;
    return holds_any(tokens) || holds_any(block) ? coverage::partial : coverage::none;
  }
  range reach(range rows) const noexcept {
    if (count == 0) return {};
    if (holds_any(of(rows))) return {0, keys};
    return {at(0), at(count - 1) + 1};
  }
  index_type next(range rows, index_type key) const noexcept {
    if (holds_any(of(rows))) return key;
    const index_type i = first_from(key);
    return i < count ? at(i) : keys;
  }

 private:
  index_type at(index_type i) const noexcept { return static_cast<index_type>(positions[i]); }
  range of(range rows) const noexcept { return {rows.first + first_query, rows.last + first_query}; }
  /// The first entry of at least this position.
  index_type first_from(index_type position) const noexcept {
    if (count == 0 || at(count - 1) < position) return count;
    return positions.template first_from<false>({0, count}, static_cast<E>(std::max(position, at(0))));
  }
  bool holds(index_type position) const noexcept {
    if (count == 0 || position < at(0)) return false;
    const index_type i = first_from(position);
    return i < count && at(i) == position;
  }
  bool holds_any(range tokens) const noexcept {
    const index_type i = first_from(tokens.first);
    return i < count && at(i) < tokens.last;
  }
  bool holds_all(range tokens) const noexcept {
    index_type token = tokens.first;
    for (index_type i = first_from(token); i < count && token < tokens.last && at(i) <= token; ++i)
      token = at(i) + 1;
    return token >= tokens.last;
  }
};

/// Key k is visible to query q where k or the query's own token is one of these positions. With a window,
/// `sliding_window{.left = w, .right = w} | global_tokens{positions}`, that is Longformer's
/// (arXiv:2004.05150, figure 2d). Positions are integers of any type, rising: a list (named vector, array,
/// span, Eigen vector) is that of every sequence; an Eigen matrix has a row a sequence, filled up with its
/// last position where it has fewer. They are read in place during the call. Query 0 is token n: the offset
/// (global_tokens{positions, n}), or as a causal mask of the call says, or a cache, or 0 with as many queries
/// as keys. Throws std::invalid_argument where nothing says it, and, with the position, where they fall or
/// one is beyond the keys.
template <class E>
struct global_tokens {
  static_assert(std::is_integral_v<E> && !std::is_same_v<E, bool>, "fovea: positions are integers");
  using is_mask = void;
  given_ids<E> positions;
  offset_if_given offset;

  template <class R>
    requires(!std::is_same_v<std::remove_cvref_t<R>, global_tokens>)
  explicit global_tokens(R&& list, offset_if_given first_query = {}) noexcept
      : positions(std::forward<R>(list)), offset(first_query) {}

  void check(const place& at) const {
    at.check_named_first_query("global_tokens", offset);
    if (positions.sequences != 0 && positions.sequences != at.batches)
      reject("global_tokens' positions have ", positions.sequences, " rows for ", at.batches, " sequences");
    const id_list<E> all = positions.of(at.batch);
    for (index_type i = 0; i < positions.tokens; ++i) {
      if (all[i] < E(0) || std::cmp_greater_equal(all[i], at.keys))
        reject("global_tokens' position ", i, " is ", all[i], ", not within 0 and the last of ", at.keys,
               " keys");
      if (i > 0 && all[i] < all[i - 1])
        reject("global_tokens' position ", i, " is ", all[i], ", less than the one before, ", all[i - 1]);
    }
  }
  void each_operand(const auto& f) const { positions.each_operand("global_tokens", f); }
  global_cells<E> bind(const place& at) const noexcept {
    return {positions.of(at.batch), positions.tokens, at.keys,
            at.nearest_difference(at.named_first_query(offset))};
  }
};
template <class R>
global_tokens(R&&) -> global_tokens<id_of<R>>;
template <class R>
global_tokens(R&&, offset_if_given) -> global_tokens<id_of<R>>;

FOVEA_NAMESPACE_END
