// fovea/mask/concept.hpp - what a mask answers, and what is assumed of one that answers less.
#pragma once

#include <fovea/index.hpp>

#include <concepts>
#include <type_traits>
#include <utility>

FOVEA_NAMESPACE_BEGIN

/// A mask says which keys a query sees. It has one of
///   visible(q, k) const         from positions alone: q and k are integers, or SIMD batches of integers; the
///                               result is a bool or a batch_bool. Written once, as a template, for both.
///   visible(cells) const        from memory: cells.load(matrix_view) gives the elements at the cells in
///                               question, as numbers; such a mask, as bound, says so by
///                               `using reads_cells = void;`
/// and may have
///   check(place) const          throws std::invalid_argument where it does not fit a sequence
///   bind(place) const           the mask of one head of one sequence (by default the mask itself, which is
///                               referred to, never copied); a type with visible() only in what it binds
///                               says so by `using is_mask = void;`
///   diagonal(place) const       -> named_diagonal: where the mask says that the first query stands among the
///                               keys; a window of the same call that does not say it follows
///   cover(rows, keys) const     -> coverage of a block (two ranges); `full` promises that every cell is
///                               visible, `none` that none is. By default partial: every cell is asked.
///   reach(rows) const           -> range: keys outside are hidden from all rows of this range
///   of_kind(f) const            f(mask), once: the same as what it is, of one that is of several kinds, in a
///                               type that is compiled: its blocks are then asked in a loop of their own
///   next(rows, key) const       -> index_type: of the keys from `key` on, the first that may be visible to
///                               this range of rows; any number from Lk on where there is none. By default
///                               `key`. Walks over blocks of keys jump there.
///   shown(rows, keys) const     -> range: those of a block's keys that some of these rows may see, where the
///                               others are left out before anything is computed. By default all of them.
///   row_edge(q), key_edge(k) const  -> index_type: the first query after q (key after k) that may see (be
///                               seen by) others: a block of a map ends there, or a document. Work is cut at
///                               such edges, so that no part of it spans two blocks. A hint: results are
///                               right whatever it is. (Both or none; not worth it where rows that follow
///                               each other see nearly the same.)
///   every() const               -> key_step, of a bound mask: a query sees every n-th key at most, of the
///                               same n in all of a call. Calls of attention sort tokens by such remainders
///                               and attend to each class of them. `step_alone` (static constexpr bool): it
///                               hides nothing else, and is not asked of a class.
///   has_edges(), has_gaps() const   of a type that stands for masks of several kinds: whether this one tells
///                               edges; whether its rows may see keys with hidden blocks between (as one says
///                               by having row_edge; by having shown, or next without row_edge)
///   staged(block) const         the mask with its elements in a block of cells copied, each matrix by
///                               block.copy(matrix_view). `matrices` says how many it copies (static
///                               constexpr int), each_matrix(f) calls f with each.
///   each_operand(f) const       f(name, view or list) for what it reads of the user's: where a result shares
///                               memory with that, the call is refused
/// A number a token needs no matrix of Lq x Lk: a view with a stride of 0 repeats it. Here, of documents
/// packed in one sequence, a token sees its own (tests/mask/own_mask_test.cpp compiles this; documents{ids}
/// is the ready one, which skips blocks):
///
///   struct same_document {
///     using is_mask = void;
///     std::span<const float> ids;       // of each token
///     struct bound {
///       using reads_cells = void;
///       fovea::matrix_view<const float> of_query, of_key;
///       auto visible(const auto& cells) const noexcept {
///         return cells.load(of_query) == cells.load(of_key);
///       }
///     };
///     bound bind(const fovea::place& at) const noexcept {
///       return {{ids.data(), at.queries, at.keys, 1, 0}, {ids.data(), at.queries, at.keys, 0, 1}};
///     }
///   };
///
/// Positions are those of the score matrix, 0 <= q < Lq (the query rows of the call, with a cache too) and
/// 0 <= k < Lk: nothing is asked about others, in lanes that lie beyond as well, so that a table of Lq or
/// Lk entries can be read at them. None of these but check throws: that ends the program (std::terminate).
/// Several threads may ask at once.
template <class M>
concept mask_like = requires(const std::remove_cvref_t<M>& m, int i) { m.visible(i, i); } || requires {
  typename std::remove_cvref_t<M>::reads_cells;
} || requires { typename std::remove_cvref_t<M>::is_mask; };

template <class M>
void check_at(const M& m, const place& at) {
  if constexpr (requires { m.check(at); }) m.check(at);
}

template <class M>
decltype(auto) bind_to(const M& m, const place& at) noexcept {
  if constexpr (requires { m.bind(at); })
    return m.bind(at);
  else
    return (m);
}

/// Writes the diagonals that a mask, or the masks that it is made of, name into `at`.
template <class M>
void name_diagonals(const M& m, place& at) noexcept {
  if constexpr (requires { m.diagonal(at); })
    at.name(m.diagonal(at));
  else if constexpr (requires { m.each_mask([](const auto&) {}); })
    m.each_mask([&](const auto& part) { name_diagonals(part, at); });
}

template <class M>
coverage cover_of(const M& m, range rows, range keys) noexcept {
  if constexpr (requires { m.cover(rows, keys); })
    return m.cover(rows, keys);
  else
    return coverage::partial;
}

/// Whether cover_of may say partial of a block that is not, so that it pays to ask for each cell before any
/// is computed.
template <class M>
inline constexpr bool is_unsure = !requires(const M& m, range r) { m.cover(r, r); };
template <class M>
  requires requires { std::remove_cvref_t<M>::unsure; }
inline constexpr bool is_unsure<M> = std::remove_cvref_t<M>::unsure;

template <class M>
range reach_of(const M& m, range rows, index_type keys) noexcept {
  if constexpr (requires { m.reach(rows); })
    return intersect(m.reach(rows), {0, keys});
  else
    return {0, keys};
}

template <class M>
inline constexpr bool tells_next = requires(const M& m, range r) { m.next(r, r.first); };

template <class M>
index_type next_of(const M& m, range rows, index_type key) noexcept {
  if constexpr (tells_next<M>)
    return std::max(m.next(rows, key), key);
  else
    return key;
}

template <class M>
inline constexpr bool tells_edges = requires(const M& m, index_type i) { m.row_edge(i), m.key_edge(i); };

template <class M>
constexpr bool has_edges(const M& m) noexcept {
  if constexpr (requires { m.has_edges(); })
    return m.has_edges();
  else
    return tells_edges<M>;
}

/// Where the first part of these rows (or keys) ends: at an edge, or after `most` of them; where more are
/// left up to the edge, but less than twice as many, after half of these, rounded up to `step`. Edges closer
/// than `least` do not count.
template <class EdgeAfter>
index_type end_of_part(range all, index_type least, index_type most, index_type step,
                       const EdgeAfter& edge_after) noexcept {
  all.last = std::min(all.last, all.first + 2 * most);
  index_type edge = all.first;
  while (edge < all.last && edge - all.first < least) edge = std::max<index_type>(edge_after(edge), edge + 1);
  const index_type count = std::min(edge, all.last) - all.first;
  if (count <= most) return all.first + count;
  return all.first + std::min(most, round_up(ceil_div(count, 2), step));
}

template <class M>
inline constexpr bool tells_shown = requires(const M& m, range r) { m.shown(r, r); };

template <class M>
range shown_of(const M& m, range rows, range keys) noexcept {
  if constexpr (tells_shown<M>)
    return intersect(m.shown(rows, keys), keys);
  else
    return keys;
}

template <class M>
constexpr bool has_gaps(const M& m) noexcept {
  if constexpr (requires { m.has_gaps(); })
    return m.has_gaps();
  else
    return tells_shown<M> || (tells_next<M> && !tells_edges<M>);
}

/// Those of a block's keys that some of the rows may see, by what the mask reaches and shows.
template <class M>
range seen_of(const M& m, range rows, range keys) noexcept {
  const range reach = intersect(reach_of(m, rows, keys.last), keys);
  return reach.empty() ? range{} : shown_of(m, rows, reach);
}

/// Of how many masks it is the intersection.
template <class M>
inline constexpr int parts_of = 1;
template <class M>
  requires requires { std::remove_cvref_t<M>::parts; }
inline constexpr int parts_of<M> = std::remove_cvref_t<M>::parts;

/// Of all keys a query of such a mask may see those at (q + first_query - k) % step == 0 only.
struct key_step {
  index_type step = 1, first_query = 0;
};

/// Whether a bound mask says that of itself: it has every() const -> key_step. Tokens are sorted where it is
/// the same for all heads, and the same step for all sequences.
template <class M>
inline constexpr bool tells_step = requires(const M& m) { m.every(); };
/// Whether it hides nothing else.
template <class M>
inline constexpr bool hides_by_step_alone = false;
template <class M>
  requires requires { M::step_alone; }
inline constexpr bool hides_by_step_alone<M> = M::step_alone;

/// A mask that is never asked, as it shows everything whatever the sizes.
template <class M>
inline constexpr bool shows_all = false;
template <class M>
  requires requires { requires M::all; }
inline constexpr bool shows_all<M> = true;

template <class M, class Cells>
auto visible_at(const M& m, const Cells& cells) noexcept {
  if constexpr (requires { m.visible(cells.q(), cells.k()); })
    return m.visible(cells.q(), cells.k());
  else
    return m.visible(cells);
}

FOVEA_NAMESPACE_END
