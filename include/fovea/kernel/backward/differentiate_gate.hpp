// fovea/kernel/backward/differentiate_gate.hpp - the gradient by a gate g of results Y = sigmoid(g) O:
//   dg = dY Y sigmoid(-g), summed over the row where it has one gate.
#pragma once

#include <fovea/kernel/operand/gated.hpp>
#include <fovea/kernel/rules/rules.hpp>
#include <fovea/kernel/tile/tile.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Of one head; 0 for rows that see no key.
template <class Arch, class T, class OE, class GE, class G, class DG>
FOVEA_NOINLINE void differentiate_gate(const matrix_view<const OE>& out, const matrix_view<const GE>& d_out,
                                       const matrix_view<const T>& lse, const matrix_view<const G>& gates,
                                       const matrix_view<DG>& d_gates) noexcept {
  using V = vec<Arch, T>;
  const bool of_row = gates.col_stride == 0;
  for (index_type i = 0; i < out.rows; ++i) {
    const bool empty = lse(i, 0) == hidden<T>;
    V sum(T(0));
    each_gate<Arch, T>(
        gates, i, {0, out.cols},
        [](const auto& g) FOVEA_INLINE_LAMBDA { return sigmoid<Arch, T>(V(T(0)) - g); },
        [&](index_type c, index_type count, const auto& shut) FOVEA_INLINE_LAMBDA {
          const V y = load_some<Arch, T>(out.at(i, c), out.col_stride, count),
                  d_y = load_some<Arch, T>(d_out.at(i, c), d_out.col_stride, count);
          const V d = empty ? V(T(0)) : V(d_y * y * shut);
          if (of_row)
            sum = sum + d;
          else
            store_some<Arch, T>(d, d_gates.at(i, c), d_gates.col_stride, count);
        });
    if (!of_row) continue;
    const T of_all = sum_over_lanes<Arch, T>(sum).get(0);
    store_elements(&of_all, 1, d_gates.at(i, 0), index_type(1));
  }
}

}  // namespace kernel
FOVEA_NAMESPACE_END
