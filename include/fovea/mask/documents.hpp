// fovea/mask/documents.hpp - documents packed in one sequence: a token sees those of its own document.
#pragma once

#include <fovea/list_view.hpp>
#include <fovea/mask/concept.hpp>

FOVEA_NAMESPACE_BEGIN

/// The ids of the tokens of one sequence. (Loops over them go by 16, a number that compilers know: g++ 12
/// vectorises no others at -O2.)
template <class E>
struct id_list {
  static constexpr index_type a_step = 16;
  const E* first;
  index_type stride;

  const E* at(index_type token) const noexcept { return first + token * stride; }
  E operator[](index_type token) const noexcept { return *at(token); }

  struct extent {
    E least, most;
    bool one() const noexcept { return least == most; }
  };
  /// The smallest and the largest id of some tokens, at least one.
  extent extent_of(range tokens) const noexcept {
    extent all{(*this)[tokens.first], (*this)[tokens.first]};
    index_type t = tokens.first;
    if (stride == 1 && tokens.size() >= 2 * a_step) {
      E least[a_step], most[a_step];
      for (index_type i = 0; i < a_step; ++i) least[i] = most[i] = first[t + i];
      for (t += a_step; t + a_step <= tokens.last; t += a_step)
        for (index_type i = 0; i < a_step; ++i) {
          const E id = first[t + i];
          least[i] = id < least[i] ? id : least[i], most[i] = id > most[i] ? id : most[i];
        }
      for (index_type i = 0; i < a_step; ++i)
        all = {std::min(all.least, least[i]), std::max(all.most, most[i])};
    }
    for (; t < tokens.last; ++t) all = {std::min(all.least, at(t)[0]), std::max(all.most, at(t)[0])};
    return all;
  }
  /// Whether one of the tokens has this id.
  bool holds(range tokens, E id) const noexcept {
    index_type t = tokens.first;
    if (stride == 1)
      for (; t + a_step <= tokens.last;) {
        E found[a_step] = {};  // looked at every 64 tokens only
        for (int n = 0; n < 4 && t + a_step <= tokens.last; ++n, t += a_step)
          for (index_type i = 0; i < a_step; ++i) found[i] = static_cast<E>(found[i] | (first[t + i] == id));
        E any = 0;
        for (index_type i = 0; i < a_step; ++i) any = static_cast<E>(any | found[i]);
        if (any != 0) return true;
      }
    for (; t < tokens.last; ++t)
      if ((*this)[t] == id) return true;
    return false;
  }
  /// The first of `count` tokens whose id is less than that of the one before; a number from count on where
  /// there is none.
  index_type first_fall(index_type count) const noexcept {
    index_type t = 1;
    if (stride == 1)
      for (; t + a_step <= count; t += a_step) {
        unsigned char falls[a_step], any = 0;
        for (index_type i = 0; i < a_step; ++i) falls[i] = first[t + i] < first[t + i - 1];
        for (index_type i = 0; i < a_step; ++i) any |= falls[i];
        if (any != 0) break;
      }
    while (t < count && !((*this)[t] < (*this)[t - 1])) ++t;
    return t;
  }
  /// Of tokens whose ids never fall: the first with an id of at least this one (Above: above it), or the end.
  template <bool Above>
  index_type first_from(range tokens, E id) const noexcept {
    index_type t = tokens.first;
    for (index_type count = tokens.size(); count > 0;) {
      const index_type half = count / 2;
      const E middle = (*this)[t + half];
      const bool before = Above ? middle <= id : middle < id;
      t = before ? t + half + 1 : t, count = before ? count - half - 1 : half;
    }
    return t;
  }
};

/// documents, of one sequence.
template <class E>
struct document_cells {
  using reads_cells = void;
  id_list<E> of_query, of_key;
  index_type keys;
  bool ascending;  // the ids of keys never fall

  auto visible(const auto& cells) const noexcept { return cells.same_number(of_query, of_key); }

  /// Reads an id a row and a key, some more where documents lie mixed; it says all that can be said.
  coverage cover(range rows, range block) const noexcept {
    if (rows.empty() || block.empty()) return coverage::none;
    const auto q = of_query.extent_of(rows), k = of_key.extent_of(block);
    if (q.least > k.most || q.most < k.least) return coverage::none;
    if (q.one() && k.one()) return coverage::full;
    return meet(rows, block) ? coverage::partial : coverage::none;
  }
  range reach(range rows) const noexcept {
    if (!ascending || rows.empty()) return {0, keys};
    const auto q = of_query.extent_of(rows);
    const index_type start = of_key.template first_from<false>({0, keys}, q.least);
    return {start, of_key.template first_from<true>({start, keys}, q.most)};
  }
  /// Of ids in no order, 64 keys at a time: from the start of those among which a row sees one.
  index_type next(range rows, index_type key) const noexcept {
    if (rows.empty() || key >= keys) return key;
    if (ascending) {
      const auto q = of_query.extent_of(rows);
      const index_type first = of_key.template first_from<false>({key, keys}, q.least);
      return first < keys && of_key[first] > q.most ? keys : first;
    }
    constexpr int most_ids = 8;
    E ids[most_ids];
    int count = 0;
    for (index_type q = rows.first; q < rows.last; ++q) {
      bool known = false;
      for (int i = count; i-- > 0 && !known;) known = ids[i] == of_query[q];
      if (known) continue;
      if (count == most_ids) return key;
      ids[count++] = of_query[q];
    }
    constexpr index_type a_look = 4 * id_list<E>::a_step;
    for (; key < keys; key += a_look)
      for (int i = 0; i < count; ++i)
        if (of_key.holds({key, std::min(key + a_look, keys)}, ids[i])) return key;
    return keys;
  }

 private:
  /// Whether a row sees a key, for each run of rows with one id.
  bool meet(range rows, range block) const noexcept {
    for (index_type q = rows.first; q < rows.last;) {
      const E id = of_query[q];
      if (of_key.holds(block, id)) return true;
      while (q < rows.last && of_query[q] == id) ++q;
    }
    return false;
  }
};

/// Ids as they were given: a list for all sequences, or a matrix with a row each.
template <class E>
struct given_ids {
  const E* first = nullptr;
  index_type tokens = 0, stride = 1, sequences = 0, sequence_stride = 0;  // sequences: 0 for a list
  bool ascending = false;                                                 // when the mask was made

  given_ids() noexcept = default;
  template <class R>
  explicit given_ids(R&& ids) noexcept {
    using X = std::remove_cvref_t<R>;
    if constexpr (is_matrix<X>()) {
      static_assert(outlives_call<R>,
                    "fovea: documents keeps a view; give it a named matrix of ids, not a temporary");
      first = list_traits<X>::data(ids), sequences = list_traits<X>::rows(ids);
      tokens = list_traits<X>::columns(ids);
      sequence_stride = list_traits<X>::row_stride(ids), stride = list_traits<X>::column_stride(ids);
    } else {
      const list_view<index_type> list(std::forward<R>(ids));
      first = static_cast<const E*>(list.data()), tokens = list.size();
      stride = list.stride_bytes() / static_cast<index_type>(sizeof(E));
    }
    ascending = true;
    for (index_type b = 0; b < std::max<index_type>(sequences, 1); ++b)
      ascending = ascending && of(b).first_fall(tokens) >= tokens;
  }

  id_list<E> of(index_type batch) const noexcept {
    return {sequences == 0 ? first : first + batch * sequence_stride, stride};
  }
  void each_operand(const char* name, const auto& f) const {
    for (index_type b = 0; first != nullptr && b < std::max<index_type>(sequences, 1); ++b)
      f(name, list_view<index_type>(of(b).first, tokens, stride));
  }
  void check(const char* name, const place& at, index_type count, const char* what) const {
    if (sequences == 0 && tokens != count) reject(name, " has ", tokens, " entries for ", count, " ", what);
    if (sequences != 0 && sequences != at.batches)
      reject(name, " has ", sequences, " rows for ", at.batches, " sequences");
    if (tokens < count)
      reject(name, " has ", tokens, " columns, fewer than the ", count, " ", what, " of sequence ", at.batch);
  }
  void check_order(const char* name, const place& at) const {
    if (!ascending) return;
    const id_list<E> ids = of(at.batch);
    const index_type count = at.keys;
    if (const index_type t = ids.first_fall(count); t < count)
      reject(name, " fell from ", text(ids[t - 1]), " to ", text(ids[t]), " at token ", t,
             " after the mask was made, when they did not fall; make the mask anew where ids change");
  }

  template <class X>
  static constexpr bool is_matrix() noexcept {
    if constexpr (list_with_traits<X>) return !list_traits<X>::is_vector;
    return false;
  }

 private:
  static std::string text(E id) { return std::to_string(+id); }
};

/// What a list or matrix of ids holds; int for what is neither, which a list_view refuses.
template <class R>
constexpr auto id_in(const R& ids) noexcept {
  if constexpr (list_with_traits<R>)
    return std::remove_cvref_t<decltype(*list_traits<R>::data(ids))>{};
  else if constexpr (standard_list<R>)
    return std::remove_cvref_t<decltype(*std::data(ids))>{};
  else
    return int{};
}
template <class R>
using id_of = decltype(id_in(std::declval<const std::remove_cvref_t<R>&>()));

/// Key k is visible to query q where their ids are equal: of documents packed in one sequence a token sees
/// its own, `causal & documents{ids}`. (The block-diagonal mask of packed training, arXiv:2107.02027.)
///
///   documents{ids}                 an id a key; as many queries as keys, query i's id being that of token i,
///                                  or a cache, whose last tokens the queries are
///   documents{query_ids, key_ids}  an id a query, an id a key: any numbers of both, of one type
///
/// Ids are integers of any type, in no order. A list (named vector, array, span, Eigen vector) is that of
/// every sequence; an Eigen matrix has a row a sequence, as long as its tokens or longer. They are read in
/// place during the call. Throws std::invalid_argument, with both numbers, where lists have other lengths.
///
/// Blocks of other documents are skipped. Whether ids never fall, as where documents follow each other with
/// rising ids, is found when the mask is made, by reading each once: then what rows see is searched, and
/// nothing else is read. (Where they fall later on, the call is refused: make the mask anew when ids change.)
/// Other ids are read as the walk goes. Causal, 32,768 tokens of dim 64 in documents of 1,000 rising ids: 6 %
/// longer than `ragged` with AVX-512, 10 % with AVX2; of 100: 1.6 times as long, with ids in no order 3.4
/// times, as blocks hold several.
template <class E>
struct documents {
  static_assert(std::is_integral_v<E> && !std::is_same_v<E, bool>, "fovea: ids of documents are integers");
  using is_mask = void;
  given_ids<E> key_ids, query_ids;  // query_ids: none where those of keys serve
  bool both = false;

  template <class R>
    requires(!std::is_same_v<std::remove_cvref_t<R>, documents>)
  explicit documents(R&& ids) noexcept : key_ids(std::forward<R>(ids)) {}
  template <class Q, class K>
  documents(Q&& of_queries, K&& of_keys) noexcept
      : key_ids(std::forward<K>(of_keys)), query_ids(std::forward<Q>(of_queries)), both(true) {
    static_assert(std::is_same_v<id_of<Q>, id_of<K>>,
                  "fovea: the ids of queries and those of keys are of one type of integer");
  }

  void check(const place& at) const {
    const char* const name = both ? "documents' key_ids" : "documents' ids";
    key_ids.check(name, at, at.keys, "keys"), key_ids.check_order(name, at);
    if (both) return query_ids.check("documents' query_ids", at, at.queries, "queries");
    if (at.in_cache ? at.queries > at.keys : at.queries != at.keys)
      reject("documents needs ", at.in_cache ? "no more queries than keys" : "as many queries as keys",
             ", not ", at.queries, " queries and ", at.keys, " keys; say documents{query_ids, key_ids}");
  }
  void each_operand(const auto& f) const {
    key_ids.each_operand("documents' ids", f), query_ids.each_operand("documents' query_ids", f);
  }
  document_cells<E> bind(const place& at) const noexcept {
    const id_list<E> of_key = key_ids.of(at.batch);
    return {both ? query_ids.of(at.batch) : id_list<E>{of_key.at(at.first_query()), of_key.stride}, of_key,
            at.keys, key_ids.ascending};
  }
};
template <class R>
documents(R&&) -> documents<id_of<R>>;
template <class Q, class K>
documents(Q&&, K&&) -> documents<id_of<K>>;

FOVEA_NAMESPACE_END
