// fovea/kernel/rules/cells.hpp - a register of logits knows where in the score matrix its lanes stand.
#pragma once

#include <fovea/kernel/rules/staging.hpp>
#include <fovea/kernel/tile/tile.hpp>
#include <fovea/score/concept.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

enum class in_lanes { queries, keys };

/// Lane i stands at (query + i, key) or at (query, key + i). Lanes from `count` on lie beyond the matrix:
/// they repeat the last one that does not, so that nothing outside is read, and no mask or score is asked
/// about it.
template <class Arch, class T, in_lanes Lanes>
struct cells {
  static constexpr bool queries = Lanes == in_lanes::queries;
  static constexpr int width = lanes<Arch, T>;
  using number = vec<Arch, T>;
  using position = positions<Arch, T>;
  using truth_value = xsimd::batch_bool<T, Arch>;

  index_type query, key, count;

  position q() const noexcept { return counting<position_t<T>>(query, queries); }
  position k() const noexcept { return counting<position_t<T>>(key, !queries); }
  number row() const noexcept { return counting<T>(query, queries); }
  number col() const noexcept { return counting<T>(key, !queries); }

  template <class E>
  number load(const matrix_view<E>& m) const noexcept {
    static_assert(element<E>,
                  "fovea: cells.load reads float, double, 16-bit types, std::int8_t or a type with "
                  "element_traits; whole numbers, as ids of documents, are kept as float (exact up to 2^24)");
    if constexpr (element<E>)
      return load_as(m, [](const E& x) FOVEA_INLINE_LAMBDA { return load_element<T>(x); });
    else
      return number();
  }
  number load(const staged_cells<T>& staged) const noexcept {
    return number::load_aligned(staged.value + (key - staged.first_key) * width);
  }

  /// from[0] to from[width - 1].
  template <class E>
  static number load_run(const E* from) noexcept {
    if constexpr (std::is_same_v<E, T>) {
      return number::load_unaligned(from);
    } else {
      alignas(64) T value[std::size_t{width}];
      for (int i = 0; i < width; ++i) value[i] = static_cast<T>(from[i]);
      return number::load_aligned(value);
    }
  }
  /// Numbers of differences; those of a register lie side by side.
  template <class E>
  number load(const difference_list<E>& list) const noexcept {
    static_assert(width <= differences);
    const index_type d = key - query - list.offset;
    if constexpr (queries)
      return load_run(list.down - std::clamp(d, -list.reach, list.reach + differences));
    else
      return load_run(list.up + std::clamp(d, -list.reach - differences, list.reach));
  }
  /// Numbers of slots, 0 where there is no such slot. Slots are often side by side, rising or falling, or all
  /// the same: loads take a third of the time that gathers take.
  template <class E>
  number look_up(const slot_list<E>& list, const position& slots) const noexcept {
    alignas(64) position_t<T> slot[std::size_t{width}];
    slots.store_aligned(slot);
    const index_type first = slot[0], last = slot[width - 1];
    if (list.holds(first) && list.holds(last)) {
      const position start(slot[0]), up = counting_up<Arch, position_t<T>>();
      if (first == last && xsimd::all(slots == start)) return number(static_cast<T>(list.up[first]));
      if (last - first == width - 1 && xsimd::all(slots == start + up)) return load_run(list.up + first);
      if (first - last == width - 1 && xsimd::all(slots == start - up)) return load_run(list.down - first);
    }
    alignas(64) T value[std::size_t{width}];
    for (int i = 0; i < width; ++i) value[i] = list.holds(slot[i]) ? static_cast<T>(list.up[slot[i]]) : T(0);
    return number::load_aligned(value);
  }
  /// Whether a lane is one of the first ones.
  static truth_value lanes_below(index_type lane) noexcept {
    return counting_up<Arch, T>() < number(static_cast<T>(lane));
  }
  /// to[0] to to[width - 1] += x; the sum of all lanes.
  static void add_run(T* to, const number& x) noexcept { (load_run(to) + x).store_unaligned(to); }
  static T sum(const number& x) noexcept { return sum_over_lanes<Arch, T>(x).get(0); }
  /// The number f(q, k) of each lane, one after another.
  template <class F>
  number number_of_each(const F& f) const noexcept {
    return of_each<number>(f);
  }
  /// The position f(q, k) of each lane, one after another.
  template <class F>
  position one_by_one(const F& f) const noexcept {
    return of_each<position>(f);
  }

  /// s + bias; where the bias is -inf that, whatever s is: a hidden NaN stays hidden.
  static number sum_or_hidden(const number& s, const number& bias) noexcept {
    const number hidden(-std::numeric_limits<T>::infinity());
    return xsimd::select(bias == hidden, hidden, s + bias);
  }

  template <class E>
  truth_value nonzero(const matrix_view<E>& m) const noexcept {
    // By way of an integer: this vectorises.
    const auto test = [](const E& x) { return static_cast<T>(position_t<T>(x != E(0))); };
    return load_as(m, test) != number(T(0));
  }
  truth_value nonzero(const staged_truth<Arch, T>& staged) const noexcept {
    constexpr index_type k = staged_truth<Arch, T>::keys_a_word;
    const index_type e = key - staged.first_key;
    const auto byte = static_cast<position_t<T>>(position_t<T>(0xff) << (8 * (e % k)));
    return truth((position::load_aligned(staged.words + e / k * width) & position(byte)) !=
                 position(position_t<T>(0)));
  }

  /// Whether a number a query is equal to a number a key: lists with at(token) and a stride.
  template <class List>
  truth_value same_number(const List& of_query, const List& of_key) const noexcept {
    const List& along = queries ? of_query : of_key;
    const index_type first = queries ? query : key;
    const auto one = queries ? of_key[key] : of_query[query];
    alignas(64) T same[std::size_t{width}];
    const auto* x = along.at(first);
    if (along.stride == 1 && count >= width)
      for (int i = 0; i < width; ++i) same[i] = static_cast<T>(position_t<T>(x[i] == one));
    else
      for (int i = 0; i < width; ++i)
        same[i] = along[first + std::min<index_type>(i, count - 1)] == one ? T(1) : T(0);
    return number::load_aligned(same) != number(T(0));
  }

  /// What f(q, k) says of each lane, one after another: for what is looked up.
  template <class F>
  truth_value ask(const F& f) const noexcept {
    return of_each<number>([&](index_type q, index_type k) { return f(q, k) ? T(1) : T(0); }) != number(T(0));
  }

  static truth_value truth(const xsimd::batch_bool<position_t<T>, Arch>& b) noexcept {
    return as_truth_of<Arch, T>(b);
  }
  static truth_value truth(const truth_value& b) noexcept { return b; }
  static truth_value truth(bool b) noexcept { return truth_value(b); }

 private:
  /// f(q, k) of each lane.
  template <class Register, class F>
  Register of_each(const F& f) const noexcept {
    using value_type = typename Register::value_type;
    alignas(64) value_type value[std::size_t{width}];
    for (int i = 0; i < width; ++i) {
      const index_type lane = std::min<index_type>(i, count - 1);
      value[i] = static_cast<value_type>(f(queries ? query + lane : query, queries ? key : key + lane));
    }
    return Register::load_aligned(value);
  }
  template <class E, class F>
  FOVEA_INLINE number load_as(const matrix_view<E>& m, const F& value_of) const noexcept {
    const index_type stride = queries ? m.row_stride : m.col_stride;
    const E* first = m.at(query, key);
    if (stride == 0) return number(value_of(*first));
    alignas(64) T value[std::size_t{width}];
    if (stride == 1 && count >= width)
      for (int i = 0; i < width; ++i) value[i] = value_of(first[i]);
    else
      for (int i = 0; i < width; ++i) value[i] = value_of(first[std::min<index_type>(i, count - 1) * stride]);
    return number::load_aligned(value);
  }

  template <class P>
  FOVEA_INLINE xsimd::batch<P, Arch> counting(index_type first, bool up) const noexcept {
    using batch = xsimd::batch<P, Arch>;
    const batch start(static_cast<P>(first));
    if (!up) return start;
    return xsimd::min(start + counting_up<Arch, P>(), batch(static_cast<P>(first + count - 1)));
  }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
