// fovea/kernel/rules/staging.hpp - copies of what rules read in a block of cells, with queries in lanes.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/kernel/arch.hpp>
#include <fovea/view/matrix.hpp>

#include <cstring>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

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
  using number = vec<Arch, T>;
  static constexpr index_type bytes_a_copy = n * n * static_cast<index_type>(sizeof(T));
  /// Scratch for copies of so many matrices.
  static constexpr index_type bytes(index_type matrices) noexcept { return matrices * bytes_a_copy; }

  index_type query, key, queries, keys;
  std::byte* room;  // bytes_a_copy for each copy

  /// Room for numbers of one's own, [key][query], and what cells load them by.
  std::pair<T*, staged_cells<T>> make() noexcept {
    T* const to = take<T>();
    return {to, {to, key}};
  }

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

}  // namespace kernel
FOVEA_NAMESPACE_END
