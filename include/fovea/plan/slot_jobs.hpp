// fovea/plan/slot_jobs.hpp - who sums what a table learns that a score reads through an index.
#pragma once

#include <fovea/kernel/backward/slot_gradient.hpp>

FOVEA_NAMESPACE_BEGIN

/// The jobs that sum what a table learns that a score reads through an index: parts of the sequences, and of
/// the rows, of each head.
struct slot_job_list {
  index_type batches, heads, queries, rows_a_block;

  index_type batch_parts() const noexcept {
    return std::clamp<index_type>(ceil_div(wanted(), std::max<index_type>(heads, 1)), 1, batches);
  }
  index_type row_parts() const noexcept {
    return std::clamp<index_type>(ceil_div(wanted(), std::max<index_type>(heads, 1) * batch_parts()), 1,
                                  std::max<index_type>(ceil_div(queries, rows_a_block), 1));
  }
  index_type parts() const noexcept { return batch_parts() * row_parts(); }
  index_type count() const noexcept { return heads * parts(); }
  /// Those of a head lie side by side.
  kernel::parameter_job at(index_type i) const noexcept {
    const index_type head = i / parts(), b = i % parts() / row_parts(), r = i % row_parts();
    const index_type step = round_up(ceil_div(queries, row_parts()), rows_a_block);
    return {{b * batches / batch_parts(), (b + 1) * batches / batch_parts()},
            {head, head + 1},
            {std::min(r * step, queries), std::min((r + 1) * step, queries)}};
  }

 private:
  static constexpr index_type wanted() noexcept { return 16; }
};

/// Writes sum_of(column, slot) to each element of a table's gradient.
template <class View, class Sum>
void write_slots(const View& to, const Sum& sum_of) {
  using E = std::remove_cvref_t<decltype(*to.data)>;
  for (index_type column = 0; column < to.dim; ++column)
    for (index_type slot = 0; slot < to.tokens; ++slot)
      to.data[slot * to.token_stride + column * to.dim_stride] = store_element<E>(sum_of(column, slot));
}

FOVEA_NAMESPACE_END
