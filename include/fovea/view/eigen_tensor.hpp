// fovea/view/eigen_tensor.hpp - Eigen::Tensor, TensorFixedSize and TensorMap of rank 4. A header to include
// beside others: it needs Eigen's unsupported/ folder.
#pragma once

#include <fovea/view/eigen.hpp>
#include <fovea/view/strided.hpp>

#include <unsupported/Eigen/CXX11/Tensor>

FOVEA_NAMESPACE_BEGIN

template <class X>
inline constexpr bool is_eigen_tensor = false;
template <class E, int Rank, int Options, class Index>
inline constexpr bool is_eigen_tensor<Eigen::Tensor<E, Rank, Options, Index>> = true;
template <class E, class Sizes, int Options, class Index>
inline constexpr bool is_eigen_tensor<Eigen::TensorFixedSize<E, Sizes, Options, Index>> = true;
template <class Plain, int Options, template <class> class Pointer>
inline constexpr bool is_eigen_tensor<Eigen::TensorMap<Plain, Options, Pointer>> = true;

template <class X>
concept eigen_tensor = is_eigen_tensor<X>;

/// Dimensions are (batch, heads, tokens, dim). With Eigen::RowMajor that is read in place; Eigen's default,
/// column-major, has batch entries side by side and is packed on the way in. What attend(q, k, v) returns for
/// such a q is an Eigen::Tensor in q's order. An expression (slice, shuffle, ...) has no elements in memory;
/// assign it to a tensor.
template <eigen_tensor X>
struct view_traits<X> {
  using element = typename X::Scalar;
  static constexpr bool row_major = int(X::Layout) == int(Eigen::RowMajor);
  static_assert(X::NumIndices == 4, "fovea: an Eigen::Tensor has rank 4: batch, heads, tokens, dim");

  template <class Y>
  static auto view(Y& x, index_type heads, const char* name) {
    using numbers = std::array<index_type, 4>;
    const numbers sizes{x.dimension(0), x.dimension(1), x.dimension(2), x.dimension(3)};
    numbers strides{};
    index_type stride = 1;
    for (std::size_t n = 0; n < 4; ++n) {
      const std::size_t i = row_major ? 3 - n : n;
      strides[i] = stride;
      stride *= sizes[i];
    }
    return strided_sequences(x.data(), sizes, strides, heads, name);
  }

  template <class T>
  static auto make_like(const X& x, index_type heads, index_type dim) {
    using index = typename X::Index;
    using result = Eigen::Tensor<T, 4, row_major ? Eigen::RowMajor : Eigen::ColMajor, index>;
    const index_type batch = x.dimension(0), tokens = x.dimension(2);
    size_product("an Eigen::Tensor", batch, heads, tokens, dim, sizeof(T));
    return result(eigen_index<index>(batch), eigen_index<index>(heads), eigen_index<index>(tokens),
                  eigen_index<index>(dim));
  }
};

FOVEA_NAMESPACE_END
