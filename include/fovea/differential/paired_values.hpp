// fovea/differential/paired_values.hpp - values whose heads each serve two heads of keys.
#pragma once

#include <fovea/view/sequences.hpp>

FOVEA_NAMESPACE_BEGIN

/// Twice the heads: head h reads what head h / 2 has. To be read only.
template <class E>
struct paired_sequences : sequences<E> {
  index_type heads() const noexcept { return 2 * sequences<E>::heads(); }
  matrix_view<E> head(index_type b, index_type h) const noexcept { return sequences<E>::head(b, h / 2); }
};

/// Refers to `values`, which outlive it.
template <class V>
struct paired_values {
  const V& values;
};

template <class V>
struct view_traits<paired_values<V>> {
  using element = const element_of<V>;
  static auto view(const paired_values<V>& x, index_type heads, const char* name) {
    const auto values = as_sequences(x.values, heads / 2, name);
    static_assert(
        requires { values.all.data; },
        "fovea: differential takes v as an Eigen matrix, a tensor_view, a tensor or a ragged batch");
    return paired_sequences<element>{read_only(values)};
  }
};

FOVEA_NAMESPACE_END
