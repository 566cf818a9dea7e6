// fovea/distributed/row_sums.hpp - results over the keys seen so far.
#pragma once

#include <fovea/distributed/key_blocks.hpp>
#include <fovea/partial.hpp>
#include <fovea/view/tensor.hpp>

#include <cmath>
#include <limits>
#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace distributed {

/// Rows of O and their LSE, in the type that sums are made in, and what keys of other blocks add to them. A
/// part of the rows that no key was added to yet is written in place; what comes later is computed beside, a
/// part at a time, and merged: no block's result is ever as large as O.
template <class T>
class row_sums {
 public:
  /// Parts of up to `most_rows` rows.
  row_sums(index_type heads, index_type columns, index_type most_rows)
      : part_o_(1, heads, most_rows, columns), part_lse_(1, heads, most_rows, 1) {}

  /// attend(o, lse) writes what a block of keys gives for these rows.
  template <class Attend>
  void add(const tensor_view<T>& o, const tensor_view<T>& lse, bool first, const Attend& attend) {
    if (first) return attend(o, lse);
    const tensor_view<T> part_o = some_rows(part_o_, o.tokens), part_lse = some_rows(part_lse_, o.tokens);
    attend(part_o, part_lse);
    partial<tensor_view<T>, tensor_view<T>> sum(o, lse);
    merge_into(sum, partial<tensor_view<T>, tensor_view<T>>(part_o, part_lse));
  }

 private:
  static tensor_view<T> some_rows(tensor<T>& x, index_type rows) noexcept {
    tensor_view<T> view = x.view();
    view.tokens = rows;
    return view;
  }
  tensor<T> part_o_, part_lse_;
};

/// A sink joins the sums of all keys once: o <- o exp(lse - lse'), lse' = log(exp(lse) + exp(logit)).
template <class T>
void add_sink(const tensor_view<T>& o, const tensor_view<T>& lse, index_type head, double logit) noexcept {
  for (index_type t = 0; t < o.tokens; ++t) {
    T& x = lse(0, head, t, 0);
    const double own = static_cast<double>(x), larger = own > logit ? own : logit;
    if (logit == -std::numeric_limits<double>::infinity()) continue;
    const double of_own = std::exp(own - larger), sum = of_own + std::exp(logit - larger);
    const T weight = static_cast<T>(of_own / sum);
    if (weight != T(0))
      for (index_type c = 0; c < o.dim; ++c) o(0, head, t, c) *= weight;
    else
      for (index_type c = 0; c < o.dim; ++c) o(0, head, t, c) = T(0);
    x = static_cast<T>(larger + std::log(sum));
  }
}

}  // namespace distributed
FOVEA_NAMESPACE_END
