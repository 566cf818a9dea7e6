// fovea/view/broadcast.hpp - a matrix a head that is repeated along the sizes it does not have.
#pragma once

#include <fovea/view/sequences.hpp>

FOVEA_NAMESPACE_BEGIN

/// Stands for batch x heads x queries x keys elements; each of its own sizes is 1 or the full one.
template <class E>
struct broadcast {
  tensor_view<E> table;

  void check(const place& at, const char* name) const {
    check_one_or_all(table.batch, at.batches, name, "batch entries");
    check_one_or_all(table.heads, at.heads, name, "heads");
    check_one_or_all(table.tokens, at.queries, name, "rows (queries)");
    check_one_or_all(table.dim, at.keys, name, "columns (keys)");
  }

  matrix_view<E> bind(const place& at) const noexcept {
    E* first = table.data + (table.batch == 1 ? 0 : at.batch * table.batch_stride) +
               (table.heads == 1 ? 0 : at.head * table.head_stride);
    return {first, at.queries, at.keys, table.tokens == 1 ? 0 : table.token_stride,
            table.dim == 1 ? 0 : table.dim_stride};
  }
};

template <class M>
auto broadcast_of(const M& m, const char* name) {
  return broadcast<const element_of<M>>{as_sequences(m, any_heads, name).all};
}

FOVEA_NAMESPACE_END
