// fovea/hadamard.hpp - rows turned so that all channels carry alike: what few bits are rounded after.
#pragma once

#include <fovea/plan/operands.hpp>

#include <cmath>
#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace rotation {

/// The largest power of two that divides n.
constexpr index_type block_of(index_type n) noexcept { return n == 0 ? 1 : n & -n; }

/// x <- H x / sqrt(p) for each p = block_of(n) of n numbers, H being Sylvester's matrix of +1 and -1.
template <class T>
void turn(T* x, index_type n) noexcept {
  const index_type p = block_of(n);
  const T factor = T(1) / std::sqrt(static_cast<T>(p));
  for (index_type first = 0; first < n; first += p, x += p) {
    for (index_type half = 1; half < p; half *= 2)
      for (index_type i = 0; i < p; i += 2 * half)
        for (index_type j = i; j < i + half; ++j) {
          const T a = x[j], b = x[j + half];
          x[j] = a + b, x[j + half] = a - b;
        }
    for (index_type i = 0; i < p; ++i) x[i] *= factor;
  }
}

}  // namespace rotation

/// out <- x with each head's numbers turned by a Hadamard matrix: x H / sqrt(p), p the largest power of two
/// that divides the dimensions of a head (blocks of p of them). It is its own inverse and leaves dot
/// products as they are, so that softmax(Q K^T) V = (softmax((Q H) (K H)^T) (V H)) H, all H divided by
/// sqrt(p). Rows with a few large channels become even, which few bits round better (QuaRot,
/// arXiv:2404.00456).
///
/// x, out: Eigen matrices (tokens x heads * dim), tensors or ragged batches of the same shape and any
/// elements; the same view, or no memory shared. Throws std::invalid_argument where sizes differ. Cost:
/// log2(p) additions a number.
template <class Out, viewable X>
void hadamard_into(Out&& out, const X& x, index_type heads = any_heads) {
  const auto from = read_only(view_of(x, heads, "x"));
  const auto to = view_of(out, heads, "out");
  check_same("out", "heads", to.heads(), "x", from.heads()), check_result("out", to, "x", from, from.dim());
  check_apart_or_same("out", to, "x", from);
  using T = common_compute_t<element_of<X>>;
  std::vector<T> row(static_cast<std::size_t>(from.dim()));
  for (index_type b = 0; b < from.batches(); ++b)
    for (index_type h = 0; h < from.heads(); ++h)
      for (index_type t = 0; t < from.tokens(b); ++t) {
        const auto of = from.head(b, h);
        const auto at = to.head(b, h);
        load_elements(of.at(t), of.col_stride, of.cols, row.data());
        rotation::turn(row.data(), of.cols);
        store_elements(row.data(), of.cols, at.at(t), at.col_stride);
      }
}

FOVEA_NAMESPACE_END
