// fovea/kernel/cells.hpp - a register of logits knows where in the score matrix its lanes stand.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/kernel/arch.hpp>
#include <fovea/view/matrix.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

enum class in_lanes { queries, keys };

/// An element of a bias as it is; of anything else, a mask's, whether it is not zero.
template <class T, class E>
FOVEA_INLINE T cell_value(const E& x) noexcept {
  if constexpr (element<E>)
    return load_element<T>(x);
  else
    return static_cast<T>(static_cast<position_t<T>>(x != E(0)));  // by way of an integer: this vectorises
}

/// Elements of a mask or bias at n keys x n queries, converted and with queries in lanes: key first_key + e
/// at row e.
template <class T>
struct near_cells {
  const T* value;
  index first_key;
};

/// n keys x one register of queries, of which `keys` x `queries` are inside the score matrix; `room` takes
/// the copies of what is read there.
template <class Arch, class T>
struct square {
  static constexpr index n = lanes<Arch, T>;
  index query, key, queries, keys;
  T* room;

  /// Row-major matrices are read a row at a time and transposed in registers: gathers of columns cost ten
  /// times more.
  template <class E>
  FOVEA_INLINE near_cells<T> copy(const matrix_view<E>& m) noexcept {
    T* to = room;
    room += n * n;
    if (m.row_stride == 1 || m.row_stride == 0) {
      for (index e = 0; e < keys; ++e) read(m.at(query, key + e), m.row_stride, queries, to + e * n);
      return {to, key};
    }
    for (index i = 0; i < n; ++i) {
      const E* row = m.at(query + std::min(i, queries - 1), key);
      FOVEA_PREFETCH(reinterpret_cast<const char*>(row) + 128,
                     false);  // rows are pages apart: hardware does not foresee
      read(row, m.col_stride, keys, to + i * n);
    }
    vec<Arch, T> v[n];
    unroll<n>([&](auto i) FOVEA_INLINE_LAMBDA { v[i] = vec<Arch, T>::load_aligned(to + i * n); });
    isa<Arch>::transpose(v);
    unroll<n>([&](auto e) FOVEA_INLINE_LAMBDA { v[e].store_aligned(to + e * n); });
    return {to, key};
  }

 private:
  // All n are written: a fixed number of steps is what compilers vectorise best; past `count` the last one is
  // repeated.
  template <class E>
  FOVEA_INLINE static void read(const E* from, index stride, index count, T* to) noexcept {
    if (stride != 1 || count < n) {
      for (int i = 0; i < n; ++i) to[i] = cell_value<T>(from[std::min<index>(i, count - 1) * stride]);
    } else if constexpr (std::is_same_v<std::remove_const_t<E>, T>) {
      vec<Arch, T>::load_unaligned(from).store_aligned(to);
    } else {
      for (int i = 0; i < n; ++i) to[i] = cell_value<T>(from[i]);
    }
  }
};

/// Lane i stands at (query + i, key) or at (query, key + i). Lanes from `count` on lie beyond the matrix:
/// they repeat the last one that does not, so that nothing outside is read.
template <class Arch, class T, in_lanes Lanes>
struct cells {
  static constexpr bool queries = Lanes == in_lanes::queries;
  static constexpr int width = lanes<Arch, T>;
  using number = vec<Arch, T>;
  using position = positions<Arch, T>;
  using truth_value = xsimd::batch_bool<T, Arch>;

  index query, key, count;

  FOVEA_INLINE position q() const noexcept { return counting<position_t<T>>(query, queries); }
  FOVEA_INLINE position k() const noexcept { return counting<position_t<T>>(key, !queries); }
  FOVEA_INLINE number row() const noexcept { return counting<T>(query, queries); }
  FOVEA_INLINE number col() const noexcept { return counting<T>(key, !queries); }

  template <class E>
  FOVEA_INLINE number load(const matrix_view<E>& m) const noexcept {
    const index stride = queries ? m.row_stride : m.col_stride;
    const E* first = m.at(query, key);
    if (stride == 0) return number(cell_value<T>(*first));
    alignas(64) T value[width];
    if (stride == 1 && count >= width)
      for (int i = 0; i < width; ++i) value[i] = cell_value<T>(first[i]);
    else
      for (int i = 0; i < width; ++i) value[i] = cell_value<T>(first[std::min<index>(i, count - 1) * stride]);
    return number::load_aligned(value);
  }
  FOVEA_INLINE number load(const near_cells<T>& near) const noexcept {
    return number::load_aligned(near.value + (key - near.first_key) * width);
  }

  /// s + bias; where the bias is -inf that, whatever s is: a hidden NaN stays hidden.
  FOVEA_INLINE static number sum_or_hidden(const number& s, const number& bias) noexcept {
    const number hidden(-std::numeric_limits<T>::infinity());
    return xsimd::select(bias == hidden, hidden, s + bias);
  }

  FOVEA_INLINE truth_value nonzero(const auto& m) const noexcept { return load(m) != number(T(0)); }

  FOVEA_INLINE static truth_value truth(const xsimd::batch_bool<position_t<T>, Arch>& b) noexcept {
    return as_truth_of<Arch, T>(b);
  }
  FOVEA_INLINE static truth_value truth(const truth_value& b) noexcept { return b; }
  FOVEA_INLINE static truth_value truth(bool b) noexcept { return truth_value(b); }

 private:
  template <class P>
  FOVEA_INLINE static xsimd::batch<P, Arch> counting(index first, bool up) noexcept {
    const xsimd::batch<P, Arch> start(static_cast<P>(first));
    return up ? start + counting_up<Arch, P>() : start;
  }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
