// fovea/kernel/backward/slot_gradient.hpp - the gradient of a table that a score reads through an index: dS,
// computed once more, added to the slot of its cell. A job sums a few rows of one head over its sequences, in
// order; jobs have sums of their own, which are added in order.
#pragma once

#include <fovea/kernel/backward/parameter_gradient.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Sums of one head's slots.
struct slot_sums {
  double* data;
  index_type slots;

  /// Adds a register of cells. (Far from the diagonal all of them often have one slot: sums of one number
  /// wait for each other.)
  template <class Arch, class Score, class Cells, class V>
  FOVEA_INLINE void add(const Score& score, index_type, const Cells& cells, const V& x) const noexcept {
    using T = typename V::value_type;
    constexpr index_type n = lanes<Arch, T>;
    const auto found = score.slot(cells);
    alignas(64) position_t<T> slot[std::size_t{n}];
    alignas(64) T cell[std::size_t{n}];
    found.store_aligned(slot);
    x.store_aligned(cell);
    const index_type count = std::min(cells.count, n);
    if (count == n && xsimd::all(found == positions<Arch, T>(slot[0]))) {
      sum_over_lanes<Arch, T>(x).store_aligned(cell);
      if (slot[0] >= 0 && slot[0] < slots) data[slot[0]] += static_cast<double>(cell[0]);
      return;
    }
    for (index_type i = 0; i < count; ++i)
      if (slot[i] >= 0 && slot[i] < slots) data[slot[i]] += static_cast<double>(cell[i]);
  }
};

/// What the job of a head gives for the slots of score number `Number`.
template <class Arch, int Number, class Gradients, class Score, class Terms, class T>
FOVEA_NOINLINE void sum_slots(const Gradients& g, const Score& score, const parameter_job& job,
                              const Terms& terms_of, const slot_sums& sums,
                              const gradient_scratch<T>& memory) noexcept {
  std::fill_n(sums.data, sums.slots, 0.0);
  for (index_type b = job.batches.first; b < job.batches.last; ++b)
    sum_parameters<Arch, Number>(g, score, b, job.heads.first, job.rows, terms_of(b, job.heads.first), sums,
                                 memory);
}

/// Sums of a score's numbers of query rows.
template <class T>
struct row_sums {
  T* data;
  index_type stride;

  template <class Arch, class Score, class Cells, class V>
  FOVEA_INLINE void add(const Score& score, index_type row, const Cells& cells, const V& ds) const noexcept {
    score.add_to_row(cells, ds, data + row * stride);
  }
};

/// What some rows of a head give for score number `Number`, whose numbers lie at `to`: this job's alone.
template <class Arch, int Number, class Gradients, class Score, class View, class Terms, class T>
FOVEA_NOINLINE void sum_rows(const Gradients& g, const Score& score, index_type b, index_type h, range rows,
                             const View& to, const Terms& terms, const gradient_scratch<T>& memory) noexcept {
  rows.last = std::min(rows.last, g.forward.q.tokens(b));
  if (rows.empty()) return;
  const row_sums<T> sums{&to(b, h, rows.first, 0), to.token_stride};
  for (index_type i = 0; i < rows.size(); ++i) std::fill_n(sums.data + i * sums.stride, to.dim, T(0));
  sum_parameters<Arch, Number>(g, score, b, h, rows, terms, sums, memory);
}

}  // namespace kernel
FOVEA_NAMESPACE_END
