// fovea/mask/documents.hpp - documents packed in one sequence: a token sees those of its own document.
#pragma once

#include <fovea/mask/id_list.hpp>

FOVEA_NAMESPACE_BEGIN

/// documents, of one sequence.
template <class E>
struct document_cells {
  using reads_cells = void;
  id_list<E> of_query, of_key;
  index_type queries, keys;
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
  index_type row_edge(index_type row) const noexcept { return of_query.end_of_run({row, queries}); }
  index_type key_edge(index_type key) const noexcept { return of_key.end_of_run({key, keys}); }
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
    at.check_first_query("documents", "; say documents{query_ids, key_ids}");
  }
  void each_operand(const auto& f) const {
    key_ids.each_operand("documents' ids", f), query_ids.each_operand("documents' query_ids", f);
  }
  document_cells<E> bind(const place& at) const noexcept {
    const id_list<E> of_key = key_ids.of(at.batch);
    return {both ? query_ids.of(at.batch) : id_list<E>{of_key.at(at.first_query()), of_key.stride}, of_key,
            at.queries, at.keys, key_ids.ascending};
  }
};
template <class R>
documents(R&&) -> documents<id_of<R>>;
template <class Q, class K>
documents(Q&&, K&&) -> documents<id_of<K>>;

FOVEA_NAMESPACE_END
