// fovea/kernel/rules/cells.hpp - a register of logits knows where in the score matrix its lanes stand.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/kernel/arch.hpp>
#include <fovea/view/matrix.hpp>

#include <cstring>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

enum class in_lanes { queries, keys };

/// Elements of a bias at n keys x n queries, converted and with queries in lanes: key first_key + e at row e.
template <class T>
struct staged_cells {
  const T* value;
  index_type first_key;
};

/// What a mask says there, a byte a cell: a word a query for each `keys_a_word` keys.
template <class Arch, class T>
struct staged_truth {
  static constexpr index_type keys_a_word = std::min<index_type>(sizeof(T), lanes<Arch, T>);
  const position_t<T>* words;
  index_type first_key;
};

/// n keys x one register of queries, of which `keys` x `queries` are inside the score matrix; `room` takes
/// the copies of what is read there.
template <class Arch, class T>
struct staging_block {
  static constexpr index_type n = lanes<Arch, T>;
  static constexpr index_type bytes_a_copy = n * n * static_cast<index_type>(sizeof(T));
  /// Scratch for copies of so many matrices.
  static constexpr index_type bytes(index_type matrices) noexcept { return matrices * bytes_a_copy; }

  index_type query, key, queries, keys;
  std::byte* room;  // bytes_a_copy for each copy

  /// Row-major matrices are read a row at a time and transposed in registers: gathers of columns cost ten
  /// times more.
  template <class E>
  staged_cells<T> copy(const matrix_view<E>& m) noexcept {
    T* const to = take<T>();
    if (m.row_stride == 1 || m.row_stride == 0) {
      for (index_type e = 0; e < keys; ++e) read(m.at(query, key + e), m.row_stride, queries, to + e * n);
      return {to, key};
    }
    vec<Arch, T> v[std::size_t{n}];
    bool loaded = false;
    if constexpr (std::is_same_v<std::remove_const_t<E>, T>)
      if (m.col_stride == 1 && keys >= n) {
        for (index_type i = 0; i < n; ++i) v[i] = vec<Arch, T>::load_unaligned(row_of(m, i));
        loaded = true;
      }
    if (!loaded)
      for (index_type i = 0; i < n; ++i) {
        read(row_of(m, i), m.col_stride, keys, to + i * n);
        v[i] = vec<Arch, T>::load_aligned(to + i * n);
      }
    isa<Arch>::transpose(v);
    FOVEA_UNROLL_ALL
    for (index_type e = 0; e < n; ++e) v[e].store_aligned(to + e * n);
    return {to, key};
  }

  /// Whether elements are not zero. Bytes of several keys move as a word: a quarter of a transposition's
  /// work.
  template <class E>
  staged_truth<Arch, T> copy_truth(const matrix_view<E>& m) noexcept {
    using word = position_t<T>;
    constexpr index_type k = staged_truth<Arch, T>::keys_a_word;
    word* const words = take<word>();
    if (m.row_stride == 1 || m.row_stride == 0) {
      for (index_type e = 0; e < n; e += k) {
        words_of_lanes all(word(0));
        for (index_type j = 0; j < k; ++j) {
          const E* const from = m.at(query, key + std::min(e + j, keys - 1));
          all = all | (m.row_stride == 0 ? words_of_lanes(word(*from != E(0))) : truth(from)) << int(8 * j);
        }
        all.store_aligned(words + e / k * n);
      }
      return {words, key};
    }
    for (index_type i = 0; i < n; ++i) {
      const E* row = row_of(m, i);
      const auto put = [&](const void* bytes) {
        const auto* from = static_cast<const unsigned char*>(bytes);
        FOVEA_UNROLL_ALL
        for (index_type w = 0; w < n / k; ++w) std::memcpy(words + w * n + i, from + w * k, k);
      };
      if (sizeof(E) == 1 && m.col_stride == 1 && keys >= n) {
        put(row);
      } else {
        unsigned char byte[std::size_t{n}];
        for (index_type e = 0; e < n; ++e) byte[e] = row[std::min(e, keys - 1) * m.col_stride] != E(0);
        put(byte);
      }
    }
    return {words, key};
  }

 private:
  using words_of_lanes = positions<Arch, T>;

  /// 1 for each element of a column that is not zero.
  template <class E>
  words_of_lanes truth(const E* from) const noexcept {
    alignas(64) position_t<T> is_set[static_cast<std::size_t>(n)];
    if (queries >= n)
      for (index_type i = 0; i < n; ++i) is_set[i] = from[i] != E(0);
    else
      for (index_type i = 0; i < n; ++i) is_set[i] = from[std::min(i, queries - 1)] != E(0);
    return words_of_lanes::load_aligned(is_set);
  }

  template <class U>
  U* take() noexcept {
    return reinterpret_cast<U*>(std::exchange(room, room + bytes_a_copy));
  }

  /// Row i of the block, or the last one that is inside.
  template <class E>
  const E* row_of(const matrix_view<E>& m, index_type i) const noexcept {
    return m.at(query + std::min(i, queries - 1), key);
  }

  // All n are written: a fixed number of steps is what compilers vectorise best; past `count` the last one is
  // repeated.
  template <class E>
  static void read(const E* from, index_type stride, index_type count, T* to) noexcept {
    if (stride != 1 || count < n) {
      for (int i = 0; i < n; ++i) to[i] = load_element<T>(from[std::min<index_type>(i, count - 1) * stride]);
    } else if constexpr (std::is_same_v<std::remove_const_t<E>, T>) {
      vec<Arch, T>::load_unaligned(from).store_aligned(to);
    } else {
      for (int i = 0; i < n; ++i) to[i] = load_element<T>(from[i]);
    }
  }
};

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
    alignas(64) T shown[std::size_t{width}];
    for (int i = 0; i < width; ++i) {
      const index_type lane = std::min<index_type>(i, count - 1);
      shown[i] = f(queries ? query + lane : query, queries ? key : key + lane) ? T(1) : T(0);
    }
    return number::load_aligned(shown) != number(T(0));
  }

  static truth_value truth(const xsimd::batch_bool<position_t<T>, Arch>& b) noexcept {
    return as_truth_of<Arch, T>(b);
  }
  static truth_value truth(const truth_value& b) noexcept { return b; }
  static truth_value truth(bool b) noexcept { return truth_value(b); }

 private:
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
