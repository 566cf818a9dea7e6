// fovea/inspect/rows.hpp - the statistics of each row of attention probabilities, from the probabilities.
//
//   fovea::row_statistics rows = fovea::statistics_of(attend.weights(q, k, fovea::causal));
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/row_statistics.hpp>

#include <cmath>
#include <optional>

FOVEA_NAMESPACE_BEGIN

/// The same from the probabilities themselves: batch x heads x Lq x Lk as attention::weights returns them, or
/// a view of such; a matrix Lq x Lk is one head. Visible are the keys with a probability above 0, so that one
/// which rounded to 0 counts as masked. `offset`: query i stands at key i + offset; Lk - Lq without. Cost
/// O(batch heads Lq Lk), one logarithm a key; sums in double.
template <viewable W>
row_statistics statistics_of(const W& weights, std::optional<index_type> offset = {}) {
  const auto all = as_sequences(weights, any_heads, "weights");
  struct {
    double entropy, distance, largest, mass, lse;
    index_type key, visible;
  } row;
  row_statistics rows(all.batches(), all.heads(), all.max_tokens(), false);
  for (index_type b = 0; b < all.batches(); ++b)
    for (index_type h = 0; h < all.heads(); ++h) {
      const auto p = all.head(b, h);
      const index_type shift = offset.value_or(p.cols - p.rows);
      for (index_type i = 0; i < p.rows; ++i) {
        row = {0, 0, 0, 0, 0, -1, 0};
        for (index_type j = 0; j < p.cols; ++j) {
          const double x = load_element<double>(p(i, j));
          if (x == 0) continue;
          row.entropy -= x * std::log(x);
          row.distance += x * std::abs(static_cast<double>(i - j) + static_cast<double>(shift));
          row.mass += x;
          ++row.visible;
          if (x > row.largest) row.largest = x, row.key = j;
        }
        if (row.mass != row.mass) row.largest = row.mass, row.key = -1;
        rows.writer()(b, h, i, row);
      }
    }
  return rows;
}

FOVEA_NAMESPACE_END
