// fovea/kernel/backward/row_terms.hpp - what the gradient of a query row needs beside its products.
#pragma once

#include <fovea/kernel/backward/gradient_shape.hpp>
#include <fovea/kernel/operand/references.hpp>
#include <fovea/kernel/softmax.hpp>
#include <fovea/kernel/tile/tile.hpp>

#include <cmath>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// One head's rows: O and dO, registers wide; their LSE and, where there is data, its gradient; the logit of
/// the head's sink, if it has one.
template <class T>
struct head_rows {
  block_ref<T> out, d_out;
  matrix_view<const T> lse, d_lse;
  unit_of units;
  const double* sink;
};

/// Of each row of a head: LSE in the units of the softmax (0 where the row sees no key), and
/// delta = sum_c dO O - dLSE. Returns the gradient of the sink's logit, -sum_i P_sink delta.
template <class Arch, class T>
FOVEA_NOINLINE double row_terms(const head_rows<T>& head, index_type width, index_type rows_a_block, T* lse,
                                T* delta) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  double of_sink = 0;
  for (range rows{0, 0}; rows.first < head.lse.rows; rows.first = rows.last) {
    rows.last = std::min(rows.first + rows_a_block, head.lse.rows);
    const auto out = head.out.read(rows), d_out = head.d_out.read(rows);
    alignas(64) T sums[std::size_t{n}];
    for (index_type i = 0; i < rows.size(); ++i) {
      if (i % n == 0) {
        V sum[std::size_t{n}];
        for (index_type r = 0; r < n; ++r) {
          const index_type from = std::min(i + r, rows.size() - 1);
          sum[r] = V(T(0));
          for (index_type c = 0; c < width; c += n)
            sum[r] = isa<Arch>::fma(V::load_unaligned(out.data + from * out.stride + c),
                                    V::load_unaligned(d_out.data + from * d_out.stride + c), sum[r]);
        }
        isa<Arch>::sums_of_lanes(sum).store_aligned(sums);
      }
      const index_type row = rows.first + i;
      const T natural = head.lse(row, 0);
      const bool empty = natural == hidden<T>;
      lse[row] = empty ? T(0)
                 : head.units == unit_of::log2
                     ? static_cast<T>(static_cast<double>(natural) * std::numbers::log2e)
                     : natural;
      delta[row] = empty ? T(0) : sums[i % n] - (head.d_lse.data ? head.d_lse(row, 0) : T(0));
      if (head.sink != nullptr && !empty)
        of_sink -= std::exp(*head.sink - static_cast<double>(natural)) * static_cast<double>(delta[row]);
    }
  }
  return of_sink;
}

}  // namespace kernel
FOVEA_NAMESPACE_END
