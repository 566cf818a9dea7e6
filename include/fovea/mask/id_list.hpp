// fovea/mask/id_list.hpp - whole numbers that masks read in place: a list for all sequences, or a row each.
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
  /// The first of the tokens, at least one, whose id is not that of their first; or their end.
  index_type end_of_run(range tokens) const noexcept {
    index_type t = tokens.first;
    const E id = (*this)[t];
    if (stride == 1)
      for (; t + a_step <= tokens.last; t += a_step) {
        unsigned char differ[a_step], any = 0;
        for (index_type i = 0; i < a_step; ++i) differ[i] = first[t + i] != id;
        for (index_type i = 0; i < a_step; ++i) any |= differ[i];
        if (any != 0) break;
      }
    while (t < tokens.last && (*this)[t] == id) ++t;
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
                    "fovea: a mask keeps a view; give it a named matrix of numbers, not a temporary");
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

FOVEA_NAMESPACE_END
