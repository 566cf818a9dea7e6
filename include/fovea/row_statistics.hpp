// fovea/row_statistics.hpp - what each row of attention probabilities is like: how spread, far, certain.
//
//   fovea::row_statistics rows = attend.statistics(q, k, fovea::causal);    // without the matrix, O(Lq)
//   double nats = rows.entropy(batch, head, query, 0);
#pragma once

#include <fovea/view/tensor.hpp>

#include <cmath>
#include <limits>

FOVEA_NAMESPACE_BEGIN

/// A number a row of probabilities P_i, each batch x heads x Lq x 1. Sums are over the keys j.
///
///   entropy   -sum P_ij ln P_ij, in nats: 0 where one key has all, ln n where n keys share alike
///   distance  sum P_ij |i + offset - j|, in tokens; the offset is Lk - Lq of the sequence, so that its last
///             query stands at its last key
///   largest   max P_ij
///   key       the first j that has it
///   mass      sum P_ij: 1, less what a sink takes
///   visible   the number of keys that are not masked
///   lse       ln sum exp s_ij, the sink included; found by attention::statistics alone, else an empty tensor
///
/// A sink is no key: its own -P ln P is no part of the entropy, nor is it part of the distance, and both are
/// sums over P as it is, not divided by the mass. A row that sees no key has visible 0, key -1, all else 0
/// (and LSE that of the sink, or -inf). A row with a NaN has key -1, all else NaN but `visible`. Of sequences
/// of different length in one batch, the rows behind the end of the shorter are like rows that see no key.
struct row_statistics {
  tensor<double> entropy, distance, largest, mass, lse;
  tensor<index_type> key, visible;

  row_statistics() = default;
  /// Of rows that see no key.
  row_statistics(index_type batch, index_type heads, index_type queries, bool with_lse = true)
      : entropy(batch, heads, queries, 1),
        distance(entropy),
        largest(entropy),
        mass(entropy),
        key(batch, heads, queries, 1),
        visible(key) {
    if (with_lse) lse = entropy;
    for (index_type i = 0; i < lse.size(); ++i) lse.data()[i] = -std::numeric_limits<double>::infinity();
    for (index_type i = 0; i < key.size(); ++i) key.data()[i] = -1;
  }

  index_type batch() const noexcept { return entropy.batch(); }
  index_type heads() const noexcept { return entropy.heads(); }
  index_type queries() const noexcept { return entropy.tokens(); }

  /// entropy / ln(visible), from 0 to 1; 0 where fewer than two keys are visible, and there is nothing to
  /// choose.
  double normalised_entropy(index_type b, index_type h, index_type i) const noexcept {
    const index_type n = visible(b, h, i, 0);
    return n < 2 ? 0 : entropy(b, h, i, 0) / std::log(static_cast<double>(n));
  }
  /// exp(entropy): so many keys, sharing alike, have the same entropy; 0 for a row that sees no key.
  double effective_keys(index_type b, index_type h, index_type i) const noexcept {
    return visible(b, h, i, 0) == 0 ? 0 : std::exp(entropy(b, h, i, 0));
  }

  /// Takes a row's numbers: a function of (batch, head, query, measures), the members of which bear these
  /// names.
  auto writer() noexcept {
    return [this](index_type b, index_type h, index_type i, const auto& row) {
      entropy(b, h, i, 0) = row.entropy, distance(b, h, i, 0) = row.distance;
      largest(b, h, i, 0) = row.largest, mass(b, h, i, 0) = row.mass;
      key(b, h, i, 0) = row.key, visible(b, h, i, 0) = row.visible;
      if (lse.size() > 0) lse(b, h, i, 0) = row.lse;
    };
  }
};

FOVEA_NAMESPACE_END
