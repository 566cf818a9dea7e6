// fovea/feature_attention/features.hpp - feature maps, and what a call of attention by their products is.
#pragma once

#include <fovea/linear_attention.hpp>
#include <fovea/score/dual.hpp>
#include <fovea/view/eigen.hpp>

FOVEA_NAMESPACE_BEGIN

/// phi(x) = elu(x) + 1: x + 1 above 0, e^x below. (Katharopoulos et al. 2020.)
struct elu_plus_one_features {
  template <class V>
  V operator()(const V& x) const noexcept {
    using std::exp, std::min, std::max;
    return exp(min(x, V(0))) + max(x, V(0));
  }
};

/// phi(x) = max(x, 0).
struct relu_features {
  template <class V>
  V operator()(const V& x) const noexcept {
    using std::max;
    return max(x, V(0));
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
