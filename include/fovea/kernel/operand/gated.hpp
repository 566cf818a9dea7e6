// fovea/kernel/operand/gated.hpp - rows times the sigmoid of a gate: O as it is written, and dO as a backward
// call reads it.
#pragma once

#include <fovea/kernel/tile/load_store.hpp>
#include <fovea/kernel/tile/sigmoid.hpp>
#include <fovea/view/sequences.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// `count` of at most a register's elements, `stride` apart; the rest is 0. And back.
template <class Arch, class T, class E>
FOVEA_INLINE vec<Arch, T> load_some(const E* from, index_type stride, index_type count) noexcept {
  if (stride == 1 && count == lanes<Arch, T>) return load_lanes<Arch, T>(from);
  alignas(64) T part[std::size_t{lanes<Arch, T>}] = {};
  load_elements(from, stride, count, part);
  return vec<Arch, T>::load_aligned(part);
}
template <class Arch, class T, class E>
FOVEA_INLINE void store_some(const vec<Arch, T>& x, E* to, index_type stride, index_type count) noexcept {
  if (stride == 1 && count == lanes<Arch, T>) return store_register<Arch, T>(x, to);
  alignas(64) T part[std::size_t{lanes<Arch, T>}];
  x.store_aligned(part);
  store_elements(part, count, to, stride);
}

/// f(column, count, gate) for registers of a row's gates, some of its columns: a column stride of 0 is one
/// gate of the whole row, of which open_of is asked once.
template <class Arch, class T, class G, class Open, class F>
FOVEA_INLINE void each_gate(const matrix_view<const G>& gates, index_type row, range columns,
                            const Open& open_of, const F& f) noexcept {
  constexpr index_type n = lanes<Arch, T>;
  const bool of_row = gates.col_stride == 0;
  vec<Arch, T> open(T(0));
  if (of_row && !columns.empty()) open = open_of(vec<Arch, T>(load_element<T>(gates(row, 0))));
  for (index_type c = columns.first; c < columns.last; c += n) {
    const index_type count = std::min(n, columns.last - c);
    if (!of_row) open = open_of(load_some<Arch, T>(gates.at(row, c), gates.col_stride, count));
    f(c, count, open);
  }
}

/// to[c] = sigmoid(gate) from[c] of columns c of a row; elements stand `from_stride` and `to_stride` apart.
template <class Arch, class T, class G, class From, class To>
void apply_gates(const matrix_view<const G>& gates, index_type row, range columns, const From* from,
                 index_type from_stride, To* to, index_type to_stride) noexcept {
  each_gate<Arch, T>(
      gates, row, columns, [](const auto& g) FOVEA_INLINE_LAMBDA { return sigmoid<Arch, T>(g); },
      [&](index_type c, index_type count, const auto& open) FOVEA_INLINE_LAMBDA {
        const index_type i = c - columns.first;
        store_some<Arch, T>(load_some<Arch, T>(from + i * from_stride, from_stride, count) * open,
                            to + i * to_stride, to_stride, count);
      });
}

/// A head's rows and, of the same sizes, their gates.
template <class E, class G>
struct gated_rows {
  matrix_view<E> all;
  matrix_view<const G> gates;

  /// Writes some columns of a row, times the sigmoid of their gates.
  template <class Arch, class T>
  void write(index_type row, range columns, const T* from) const noexcept {
    apply_gates<Arch, T>(gates, row, columns, from, 1, all.at(row, columns.first), all.col_stride);
  }
};

/// The same to be read as an operand (operand.hpp): dO of gated results.
template <class Arch, class E, class G>
struct gated_operand {
  using element = float;
  matrix_view<const E> all;
  matrix_view<const G> gates;
  index_type rows = all.rows, cols = all.cols;

  template <class T>
  void read(range of, T* to, index_type stride) const noexcept {
    for (index_type i = of.first; i < of.last; ++i, to += stride)
      apply_gates<Arch, T>(gates, i, {0, cols}, all.at(i, 0), all.col_stride, to, 1);
  }
};

/// Results that a gate is applied to as they are written.
template <class E, class G>
struct gated_sequences : sequences<E> {
  sequences<const G> gates;
  gated_rows<E, G> head(index_type b, index_type h) const noexcept {
    return {sequences<E>::head(b, h), gates.head(b, h)};
  }
  friend gated_sequences in_classes(gated_sequences x, const token_classes& classes) noexcept {
    static_cast<sequences<E>&>(x) = fovea::in_classes(static_cast<const sequences<E>&>(x), classes);
    x.gates = fovea::in_classes(x.gates, classes);
    return x;
  }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
