// fovea/inspect/heads.hpp - what each head is like: means over its rows, and how alike two heads are.
#pragma once

#include <fovea/inspect/rows.hpp>

#include <numbers>
#include <vector>

FOVEA_NAMESPACE_BEGIN

/// Means over the rows of one head that have a choice: those with at least two visible keys. `rows` counts
/// them; where there is none, all means are 0. A NaN in one of them makes the means NaN.
struct head_statistics {
  index_type rows = 0;
  double entropy = 0;             // nats
  double normalised_entropy = 0;  // of entropy / ln(visible keys), 0 to 1
  double effective_keys = 0;      // of exp(entropy)
  double distance = 0;            // tokens
  double largest = 0;             // of the row's largest probability
  double mass = 0;                // what a sink left to the keys; 1 without one
  /// The key that most weight goes to as a row's first choice, and how much, a row: the largest, over keys j,
  /// of sum of max P_i over the rows i whose first choice is j, divided by `rows`. At most the mean of P_ij
  /// over the rows, and at least the part of it that lies in probabilities above 1/2. -1: no row has a
  /// choice.
  index_type favourite = -1;
  double favourite_weight = 0;
};

/// Of one head of one sequence. Throws std::invalid_argument where there is no such head. Cost O(Lq), memory
/// O(Lk).
inline head_statistics summarise_head(const row_statistics& of, index_type batch, index_type head) {
  if (batch < 0 || batch >= of.batch()) reject("batch entry ", batch, " is not one of ", of.batch());
  if (head < 0 || head >= of.heads()) reject("head ", head, " is not one of ", of.heads());
  head_statistics mean;
  std::vector<double> weight_of_key;
  for (index_type i = 0; i < of.queries(); ++i) {
    if (of.visible(batch, head, i, 0) < 2) continue;
    ++mean.rows;
    mean.entropy += of.entropy(batch, head, i, 0);
    mean.normalised_entropy += of.normalised_entropy(batch, head, i);
    mean.effective_keys += of.effective_keys(batch, head, i);
    mean.distance += of.distance(batch, head, i, 0);
    mean.largest += of.largest(batch, head, i, 0);
    mean.mass += of.mass(batch, head, i, 0);
    const auto key = static_cast<std::size_t>(std::max<index_type>(of.key(batch, head, i, 0), 0));
    if (key >= weight_of_key.size()) weight_of_key.resize(key + 1);
    weight_of_key[key] += of.largest(batch, head, i, 0);
  }
  if (mean.rows == 0) return mean;
  const double n = static_cast<double>(mean.rows);
  mean.favourite = std::max_element(weight_of_key.begin(), weight_of_key.end()) - weight_of_key.begin();
  mean.favourite_weight = weight_of_key[static_cast<std::size_t>(mean.favourite)];
  for (double* sum : {&mean.entropy, &mean.normalised_entropy, &mean.effective_keys, &mean.distance,
                      &mean.largest, &mean.mass, &mean.favourite_weight})
    *sum /= n;
  return mean;
}

/// The Jensen-Shannon divergence of two rows of probabilities over the same keys,
///   sum_j (p_j ln(p_j / m_j) + q_j ln(q_j / m_j)) / 2,   m = (p + q) / 2,
/// in nats, from 0 (the same) to ln 2 (no key in common). What is missing to a sum of 1, a sink's share,
/// counts as one more key. (Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory
/// 37, 1991.)
template <class E>
double row_divergence(const matrix_view<E>& p, const matrix_view<E>& q, index_type row) {
  double sum = 0, rest_p = 1, rest_q = 1;
  const auto add = [&](double x, double y) {
    const double middle = (x + y) / 2;
    if (x != 0) sum += x * std::log(x / middle) / 2;
    if (y != 0) sum += y * std::log(y / middle) / 2;
  };
  for (index_type j = 0; j < p.cols; ++j) {
    const double x = load_element<double>(p(row, j)), y = load_element<double>(q(row, j));
    add(x, y), rest_p -= x, rest_q -= y;
  }
  add(std::max(rest_p, 0.0), std::max(rest_q, 0.0));
  return sum;
}

/// How alike the heads are: S(a, b) = 1 - (mean over rows of the Jensen-Shannon divergence of P_a and P_b) /
/// ln 2; 1: the same probabilities, 0: never a key in common. Rows that see no key in either head are left
/// out; without any row S is 1. `weights`: batch x heads x Lq x Lk; returns batch x 1 x heads x heads,
/// symmetric. Cost O(batch heads^2 Lq Lk), two logarithms a key and pair; sums in double.
template <viewable W>
tensor<double> head_similarity(const W& weights) {
  const auto all = as_sequences(weights, any_heads, "weights");
  const auto sees = [](const auto& p, index_type i) {
    for (index_type j = 0; j < p.cols; ++j)
      if (load_element<double>(p(i, j)) != 0) return true;
    return false;
  };
  tensor<double> similarity(all.batches(), 1, all.heads(), all.heads());
  for (index_type n = 0; n < all.batches(); ++n)
    for (index_type a = 0; a < all.heads(); ++a)
      for (index_type b = 0; b <= a; ++b) {
        const auto p = all.head(n, a), q = all.head(n, b);
        double sum = 0;
        index_type rows = 0;
        for (index_type i = 0; i < p.rows; ++i)
          if (sees(p, i) || sees(q, i)) sum += row_divergence(p, q, i), ++rows;
        const double mean = rows == 0 ? 0 : sum / static_cast<double>(rows);
        similarity(n, 0, a, b) = similarity(n, 0, b, a) = 1 - mean / std::numbers::ln2;
      }
  return similarity;
}

FOVEA_NAMESPACE_END
