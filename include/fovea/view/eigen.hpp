// fovea/view/eigen.hpp - Eigen matrices, maps, blocks and refs as one sequence: tokens x (heads * dim).
#pragma once

#include <fovea/view/sequences.hpp>

#include <Eigen/Core>

#include <limits>

FOVEA_NAMESPACE_BEGIN

template <class X>
concept eigen_dense = std::is_base_of_v<Eigen::DenseBase<X>, X>;

template <class X>
concept eigen_in_memory = eigen_dense<X> && (X::Flags & Eigen::DirectAccessBit) != 0;

/// A number of rows or columns as Eigen counts, whose index EIGEN_DEFAULT_DENSE_INDEX_TYPE may make narrower.
template <class Index = Eigen::Index>
Index eigen_index(index_type n) {
  constexpr Index most = std::numeric_limits<Index>::max();
  if constexpr (sizeof(Index) < sizeof(index_type))
    if (n > most) reject_length(n, " rows or columns are more than Eigen's index counts, which is ", most);
  return static_cast<Index>(n);
}

/// Vectors and rows as lists of numbers; matrices as a list a row, where a mask asks for one a sequence.
template <eigen_in_memory X>
struct list_traits<X> {
  static constexpr bool is_vector = X::IsVectorAtCompileTime;
  static constexpr bool contiguous = X::InnerStrideAtCompileTime == 1;
  static auto data(const X& x) noexcept { return x.data(); }
  static index_type size(const X& x) noexcept { return x.size(); }
  static index_type stride(const X& x) noexcept { return x.innerStride(); }
  static index_type rows(const X& x) noexcept { return x.rows(); }
  static index_type columns(const X& x) noexcept { return x.cols(); }
  static index_type row_stride(const X& x) noexcept { return x.rowStride(); }
  static index_type column_stride(const X& x) noexcept { return x.colStride(); }
};

template <eigen_dense X>
struct view_traits<X> {
  static_assert(eigen_in_memory<X>,
                "fovea: an Eigen expression has no elements in memory yet; call .eval() on it, or assign it "
                "to a matrix");
  using element = typename X::Scalar;
  static constexpr bool row_major = X::IsRowMajor, tells_heads = false;

  template <class Y>
  static auto view(Y& x, index_type heads, const char* name) {
    using stored = std::remove_pointer_t<decltype(x.data())>;
    if (heads == any_heads) heads = 1;
    if (heads <= 0 || x.cols() % heads != 0)
      reject(name, " has ", x.cols(), " columns, which ", heads, " heads do not divide");
    const index_type dim = x.cols() / heads;
    return sequences<stored>{
        {x.data(), 1, heads, x.rows(), dim, 0, dim * x.colStride(), x.rowStride(), x.colStride()}, nullptr};
  }

  template <class T>
  static auto make_like(const X& x, index_type heads, index_type dim) {
    using matrix =
        Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, row_major ? Eigen::RowMajor : Eigen::ColMajor>;
    size_product("a matrix", x.rows(), heads, dim, sizeof(T));
    return matrix(x.rows(), eigen_index(heads * dim));
  }
};

FOVEA_NAMESPACE_END
