// fovea/feature_attention/features.hpp - feature maps, and what a call of attention by their products is.
#pragma once

#include <fovea/linear_attention.hpp>
#include <fovea/score/dual.hpp>
#include <fovea/view/eigen.hpp>

FOVEA_NAMESPACE_BEGIN

namespace features {

/// a where the condition holds, else b: of plain numbers, registers and duals of both.
template <class B, class V>
V chosen(const B& condition, const V& a, const V& b) noexcept {
  if constexpr (std::is_same_v<B, bool>)
    return condition ? a : b;
  else  // a register's own select, found by its arguments
    return select(condition, a, b);
}

}  // namespace features

// A choice, not min and max: x86 registers' give the second operand where one is NaN, std's the first. And
// a choice has one slope at 0, where exp(min(x, 0)) + max(x, 0) would have the sum of two.

/// phi(x) = elu(x) + 1: x + 1 from 0 on, e^x below, NaN of NaN. (Katharopoulos et al. 2020.)
struct elu_plus_one_features {
  template <class V>
  V operator()(const V& x) const noexcept {
    using std::exp;
    return features::chosen(x < V(0), V(exp(x)), V(x + V(1)));
  }
};

/// phi(x) = max(x, 0), NaN of NaN.
struct relu_features {
  template <class V>
  V operator()(const V& x) const noexcept {
    return features::chosen(x < V(0), V(0), x);
  }
};

namespace features {

template <class T, class Q, class K, class V>
struct call {
  using compute = T;
  sequences<const Q> q;
  sequences<const K> k;
  sequences<const V> v;
  bool is_causal;
  double epsilon;
};

/// to = phi(row t), whole registers, 0 beyond its columns before phi.
template <class Arch, class T, class Features, class E>
void map_row(const Features& f, const matrix_view<E>& rows, index_type t, T* to) {
  using R = xsimd::batch<T, Arch>;
  constexpr auto n = static_cast<index_type>(R::size);
  load_elements(rows.at(t), rows.col_stride, rows.cols, to);
  std::fill(to + rows.cols, to + round_up(rows.cols, n), T(0));
  for (index_type c = 0; c < rows.cols; c += n) R(f(R::load_unaligned(to + c))).store_unaligned(to + c);
}

}  // namespace features
FOVEA_NAMESPACE_END
