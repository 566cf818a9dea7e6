// fovea/kernel/forward/row_values.hpp - P V as the mixer of a walk with dim in lanes, written as O / l.
#pragma once

#include <fovea/kernel/forward/row_sigmoid.hpp>
#include <fovea/kernel/forward/row_softmax.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

template <class Arch, class T>
struct row_values {
  using panel = row_panel<Arch, T>;

  void open(const panel& rows) const noexcept {
    std::fill_n(rows.sums, rows.count() * rows.registers.sums * panel::n, T(0));
  }
  void add(const row_panels<Arch, T>& p, row_key_blocks<Arch, T>& block) const noexcept {
    block.add_values(p);
  }
};

/// Writes O / l and, unless `lse` has no data, the LSE.
template <class Arch, class T, class State>
FOVEA_NOINLINE void write_values(const row_panel<Arch, T>& rows, const State& state,
                                 const row_results_ref<Arch, T>& out, const sequences<T>& lse,
                                 index_type batch, index_type first_head) noexcept {
  for (index_type r = 0; r < rows.count(); ++r) state.reciprocal(rows, r).store_aligned(rows.factor(r));
  out.write(rows);
  if constexpr (State::normalises) {
    if (lse.all.data == nullptr) return;
    state.each_lse(rows, [&](index_type r, T value) {
      *lse.head(batch, first_head + rows.head(r)).at(rows.query(r)) = value;
    });
  }
}

}  // namespace kernel
FOVEA_NAMESPACE_END
